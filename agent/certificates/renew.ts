// Renewal of the agent's certificate: at two thirds of its life by the wall clock, or when the EMS says it has expired. A lost reply harms nobody.
import { readCertificate, verifyCertificate, type TrustedAuthority } from '../../identity/certificate.ts'
import { exportPublicKey, importPrivateKey, publicKeyHash } from '../../identity/keys.ts'
import { createCsr } from '../../identity/request.ts'
import type { ControlClient } from '../../node/control-client.ts'
import { keyInFile, readPrivateFile, removePrivateFile } from '../../node/key-store.ts'
import type { Purpose } from '../../protocol/certificates.ts'
import { Fault } from '../../protocol/faults.ts'
import { renew } from '../../protocol/operations/endpoint.ts'
import { stateFiles, writeIdentity, type AgentIdentity } from './identity-store.ts'

/** A thousand laptops enrolled in one morning must not renew in one minute. */
const JITTER = 1 / 20

/** When to renew, ms: at 2/3 of the certificate's life and up to 1/20 later. @param random 0 ≤ x < 1 */
export const renewalDue = ({ notBefore, notAfter }: { notBefore: number; notAfter: number }, random: number): number =>
  notBefore + (notAfter - notBefore) * (2 / 3 + random * JITTER)

/** Throws when a certificate is not one of ours, for this agent, for this key: anything else must not be put in place of one that works. */
export async function checkIssued(pem: string, wanted: { uid: string; publicKey: CryptoKey; authorities: readonly TrustedAuthority[]; now: number; purpose?: Purpose }): Promise<void> {
  const info = readCertificate(pem)
  const refuse = (why: string): never => { throw new Fault('bad_certificate', `The EMS issued a certificate that is not usable: ${why}.`) }
  if (info === null) return refuse('it can not be read')
  if (info.commonName !== wanted.uid) return refuse('it names another endpoint')
  if (await publicKeyHash(info.publicKeySpki) !== await publicKeyHash(await exportPublicKey(wanted.publicKey))) return refuse('it is for another key')
  const verdict = await verifyCertificate(info, wanted.authorities, wanted.now, wanted.purpose ?? 'agent')
  if (!verdict.ok) return refuse(verdict.reason)
}

export interface Renewal {
  readonly directory: string
  readonly identity: AgentIdentity
  readonly client: ControlClient
  readonly authorities: () => readonly TrustedAuthority[]
  /** Takes the CAs that came with the certificate, before it is checked: after a roll-over it is signed by the new one. */
  readonly takeAuthorities: (document: string) => Promise<void>
}

/** The key of a renewal whose reply is outstanding, or a new one. One that can't be read any more is worth nothing: the EMS takes another for it. */
async function pendingKey(path: string): Promise<CryptoKeyPair & { pem: string }> {
  const kept = await readPrivateFile(path)
  if (kept !== null && await importPrivateKey(kept).then(() => false, () => true)) await removePrivateFile(path)
  return await keyInFile(path)
}

/** Asks for a certificate for a new key, which is on disk before it is asked for, and puts both in place of the old. */
export async function renewCertificate({ directory, identity, client, authorities, takeAuthorities }: Renewal): Promise<AgentIdentity> {
  const { renewing } = stateFiles(directory)
  const keys = await pendingKey(renewing)
  const issued = await client.call(renew, { body: { csr: await createCsr(keys, identity.uid) } })
  await takeAuthorities(issued.authorities)
  await checkIssued(issued.certificate, { uid: identity.uid, publicKey: keys.publicKey, authorities: authorities(), now: client.emsNow() })
  const { uid, ems, pin, enrolledAt, ownerUid, tlsCa } = identity
  const next = await writeIdentity(directory, { uid, ems, pin, enrolledAt, ownerUid, tlsCa, certificatePem: issued.certificate, privateKeyPem: keys.pem })
  await removePrivateFile(renewing)
  return next
}
