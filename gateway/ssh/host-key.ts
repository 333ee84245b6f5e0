// Whether a host is one of those that a service lists, by the key that it shows. The client verifies that the host has the private half.
import { createHash } from 'node:crypto'
import { keyLine, readKeyBlob, type SshKey } from '../../domain/access/ssh-key.ts'
import type { HostKeys } from '../../domain/access/ssh-service.ts'
import { HOST_CERTIFICATE, readSshCertificate } from './certificate.ts'
import { isSignedBy } from './key-object.ts'

export const fingerprintOf = (blob: Uint8Array): string => `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`

const isListed = ({ type, blob }: SshKey, { keys, fingerprints }: HostKeys): boolean => keys.includes(keyLine(type, blob)) || fingerprints.includes(fingerprintOf(blob))

/**
 * Holds the key that a host shows, K_S of RFC 4253 §8, against those that are listed.
 * @param host the name under which the client asked for it; @param now ms
 * @returns null when it is one of them, else what it is
 */
export function strangeHostKey(shown: Uint8Array, { hostKeys, host, now }: { readonly hostKeys: HostKeys; readonly host: string; readonly now: number }): string | null {
  const plain = readKeyBlob(shown)
  if (plain !== null) return isListed({ type: plain.type, blob: shown }, hostKeys) ? null : `${plain.type} ${fingerprintOf(shown)} is not listed`
  const certificate = readSshCertificate(shown)
  if (certificate === null) return 'what it shows is no key that can be read'
  const { key, kind, principals, validAfter, validBefore, hasCriticalOptions, authority, signed, signature } = certificate
  if (isListed(key, hostKeys)) return null
  const seconds = BigInt(Math.floor(now / 1000))
  const ca = readKeyBlob(authority)
  if (ca === null || !hostKeys.authorities.includes(keyLine(ca.type, authority))) return `neither the key ${fingerprintOf(key.blob)} nor the CA of its certificate is listed`
  if (!isSignedBy(authority, signed, signature)) return 'its certificate is not signed by the CA that it names'
  // A user's certificate of the same CA, or one for another host, says nothing of this one. Whoever is not named is nobody.
  if (kind !== HOST_CERTIFICATE || hasCriticalOptions || !principals.some((name) => name.toLowerCase() === host.toLowerCase())) return `its certificate is not one for ${host}`
  return seconds >= validAfter && seconds < validBefore ? null : 'its certificate is not valid now'
}
