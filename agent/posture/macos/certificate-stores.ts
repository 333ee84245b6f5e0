// Certificates of the machine's keychains on macOS, by `security`. A keychain of a user opens for that user only.
import { createHash } from 'node:crypto'
import type { InstalledCertificate } from '../../../domain/tagging/device.ts'
import { fromPem } from '../../../identity/encoding.ts'
import { describeCertificate } from '../../../identity/describe-certificate.ts'
import type { RunCommand } from '../read.ts'

const SECURITY = '/usr/bin/security'
const KEYCHAINS = ['/Library/Keychains/System.keychain']

/** `security find-identity`: the SHA-1 (upper-case hex) of each certificate that has its private key. */
export const parseIdentities = (text: string): Set<string> => new Set([...text.matchAll(/^\s*\d+\) ([0-9A-F]{40}) /gm)].flatMap(([, hash]) => hash ?? []))

/** Every certificate once. Throws when the keychains can't be asked: what is not seen must not be taken for missing. */
export function macosCertificates(run: RunCommand): () => Promise<InstalledCertificate[]> {
  return async () => {
    const [listed, identities] = [await run(SECURITY, ['find-certificate', '-a', '-p', ...KEYCHAINS]), await run(SECURITY, ['find-identity', ...KEYCHAINS])]
    if (listed === null || identities === null) throw new Error('the keychains can not be read')
    const held = parseIdentities(identities)
    const once = new Map<string, InstalledCertificate>()
    for (const pem of new Set(listed.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [])) {
      const der = fromPem('CERTIFICATE', pem)
      const described = der === null ? null : await describeCertificate(der)
      if (der === null || described === null) continue
      const { fingerprint, keyFingerprint: _, ...said } = described
      once.set(fingerprint, { ...said, hasPrivateKey: held.has(createHash('sha1').update(der).digest('hex').toUpperCase()) })
    }
    return [...once.values()]
  }
}
