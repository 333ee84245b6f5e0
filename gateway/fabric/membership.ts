// What makes this gateway a member of the fabric: serial, key, certificate and the CAs it believes. One file, replaced whole, so that key and certificate always fit.
import { join } from 'node:path'
import { z } from 'zod'
import { readCertificate, trustAuthority, verifyCertificate, type CertificateInfo, type TrustedAuthority } from '../../identity/certificate.ts'
import { openDocument } from '../../identity/document.ts'
import { exportPublicKey, importPrivateKey } from '../../identity/keys.ts'
import { toBase64 } from '../../identity/encoding.ts'
import { readJson, writeJson } from '../../node/key-store.ts'
import { gatewaySerial } from '../../protocol/ids.ts'
import { instant } from '../../protocol/text.ts'
import { Fault } from '../../protocol/faults.ts'

const stored = z.strictObject({
  ems: z.url(), serial: gatewaySerial, certificate: z.string(), privateKey: z.string(),
  authorities: z.array(z.string()).min(1).max(16),
  /** ms: the version of the list of CAs; an older one is refused. */
  authoritiesVersion: instant,
})
export type StoredMembership = z.infer<typeof stored>

export interface Member {
  readonly stored: StoredMembership
  readonly privateKey: CryptoKey
  readonly certificate: CertificateInfo
  readonly authorities: readonly TrustedAuthority[]
}

export interface Membership {
  member(): Member
  /** Keeps another state on disk, then takes it over and tells the listeners. */
  replace(next: StoredMembership): Promise<void>
  /** Takes over a newer signed list of CAs; says why when it does not. */
  takeAuthorities(document: string, now: number): Promise<'taken' | 'older' | 'refused'>
  /** Takes over the CAs of an introduction, which was verified and made for a challenge of this minute. */
  takeIntroduced(certificates: readonly string[]): Promise<void>
  onChange(listener: (member: Member) => void): () => void
}

const fileOf = (directory: string) => join(directory, 'membership.json')

async function open(kept: StoredMembership): Promise<Member> {
  const certificate = readCertificate(kept.certificate)
  if (certificate === null) throw new Error('the membership file holds a certificate that can not be read; move it away to join anew')
  const { privateKey } = await importPrivateKey(kept.privateKey)
  return { stored: kept, privateKey, certificate, authorities: await Promise.all(kept.authorities.map(trustAuthority)) }
}

/** What the state directory says without opening the key; null when this gateway has not joined. */
export const readMembership = (directory: string): Promise<StoredMembership | null> => readJson(fileOf(directory), stored)

/** The membership in a state directory; null when this gateway has not joined. Throws when it is there and damaged. */
export async function openMembership(directory: string): Promise<Membership | null> {
  const kept = await readMembership(directory)
  return kept === null ? null : await hold(directory, kept)
}

/** Begins a membership: writes it down before anything is done with it. */
export async function beginMembership(directory: string, first: StoredMembership): Promise<Membership> {
  await writeJson(fileOf(directory), first)
  return await hold(directory, first)
}

async function hold(directory: string, first: StoredMembership): Promise<Membership> {
  let member = await open(first)
  const listeners = new Set<(member: Member) => void>()
  async function replace(next: StoredMembership): Promise<void> {
    const opened = await open(next)
    await writeJson(fileOf(directory), next)
    member = opened
    for (const listener of listeners) listener(member)
  }
  return {
    member: () => member,
    replace,
    async takeAuthorities(document, now) {
      const opened = await openDocument(document, { kind: 'authorities', to: member.stored.serial, authorities: member.authorities, now, newerThan: member.stored.authoritiesVersion })
      if (!opened.ok) return opened.reason === 'older' ? 'older' : 'refused'
      await replace({ ...member.stored, authorities: opened.payload.body.certificates, authoritiesVersion: opened.payload.version })
      return 'taken'
    },
    async takeIntroduced(certificates) {
      if (certificates.join() !== member.stored.authorities.join()) await replace({ ...member.stored, authorities: [...certificates] })
    },
    onChange(listener) {
      listeners.add(listener)
      return () => {
        listeners.delete(listener)
      }
    },
  }
}

/**
 * Checks a certificate that the EMS handed out for a key of ours: from a CA that is believed, for a gateway, for this serial, for this key.
 * Throws a `Fault` otherwise: what does not fit is never kept.
 */
export async function requireOwnCertificate(pem: string, wanted: { serial: string; keys: CryptoKeyPair; authorities: readonly TrustedAuthority[]; now: number }): Promise<CertificateInfo> {
  const refuse = (why: string) => new Fault('bad_certificate', `The EMS handed out a certificate that is not ours to use: ${why}.`)
  const info = readCertificate(pem)
  if (info === null) throw refuse('it can not be read')
  const verdict = await verifyCertificate(info, wanted.authorities, wanted.now, 'gateway')
  if (!verdict.ok) throw refuse(verdict.reason)
  if (info.commonName !== wanted.serial) throw refuse('it is for another serial')
  if (toBase64(info.publicKeySpki) !== toBase64(await exportPublicKey(wanted.keys.publicKey))) throw refuse('it is for another key')
  return info
}
