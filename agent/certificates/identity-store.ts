// Who this agent is: UID, EMS, key and certificate in one file, replaced whole, and in a copy of it. The key is readable by the agent's own account only.
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { readCertificate } from '../../identity/certificate.ts'
import type { Bytes } from '../../identity/encoding.ts'
import { importPrivateKey } from '../../identity/keys.ts'
import { jsonText, readJson, readPrivateFile, removePrivateFile, writeJson } from '../../node/key-store.ts'
import { certificatePem } from '../../protocol/certificates.ts'
import { uid } from '../../protocol/ids.ts'
import { instant, sha256Hex } from '../../protocol/text.ts'
import { systemFailure } from '../failure.ts'

const stored = z.strictObject({
  uid, ems: z.url(), pin: sha256Hex, enrolledAt: instant,
  /** The only user of this machine whom the local proxy serves, and who is reported as the endpoint's user. */
  ownerUid: z.number().int().min(0),
  /** Additional TLS roots, PEM, for an EMS with a private TLS certificate. */
  tlsCa: z.array(z.string()),
  certificatePem, privateKeyPem: z.string(),
})
export type StoredIdentity = z.infer<typeof stored>

export interface AgentIdentity extends StoredIdentity {
  readonly privateKey: CryptoKey
  readonly certificateDer: Bytes
  readonly serial: string
  /** ms */
  readonly notBefore: number
  readonly notAfter: number
}

/** The files of a state directory that belong to an enrolment. */
export const stateFiles = (directory: string) => ({
  identity: join(directory, 'identity.json'),
  /** The same once more: a file that is lost or damaged is put back from the other. */
  identityCopy: join(directory, 'identity.copy.json'),
  /** The key of a renewal whose reply is outstanding. */
  renewing: join(directory, 'renewing.key'),
  documents: join(directory, 'documents.json'), telemetry: join(directory, 'telemetry.json'),
  /** Where the local proxy shows its PAC file. */
  pac: join(directory, 'pac.path'),
  /** What remains after a deregistration: that it happened. */
  letGo: join(directory, 'deregistered.json'),
})
/** The key of an enrolment that has not ended, by a hash of its invitation. */
export const enrolmentKey = (directory: string, invitationHash: string): string => join(directory, `enrolling-${invitationHash.slice(0, 16)}.key`)

async function opened(identity: StoredIdentity, path: string): Promise<AgentIdentity> {
  const info = readCertificate(identity.certificatePem)
  const keys = await importPrivateKey(identity.privateKeyPem, false).catch(() => null)
  if (info === null || keys === null) throw new Error(`${path} is damaged: its ${info === null ? 'certificate' : 'key'} can not be read. Move it away and enrol with a new invitation.`)
  return { ...identity, privateKey: keys.privateKey, certificateDer: info.der, serial: info.serial, notBefore: info.notBefore, notAfter: info.notAfter }
}

const readAt = async (path: string): Promise<AgentIdentity | null> => {
  const kept = await readJson(path, stored)
  return kept === null ? null : await opened(kept, path)
}

/** The kept identity, from its copy where the file itself is lost or damaged; null when this machine is not enrolled. Throws when there is one and neither can be read. */
export async function readIdentity(directory: string): Promise<AgentIdentity | null> {
  const { identity, identityCopy } = stateFiles(directory)
  try {
    return await readAt(identity) ?? await readAt(identityCopy)
  } catch (cause) {
    if (systemFailure(cause) !== null) throw cause
    const copy = await readAt(identityCopy)
    if (copy === null) throw cause
    return copy
  }
}

/** Puts back whichever of the two files does not hold this identity any more. Call it under the lock of the directory. @returns whether a file was lost or damaged; a copy that is merely older is brought up to date without a word */
export async function repairIdentity(directory: string, { uid, ems, pin, enrolledAt, ownerUid, tlsCa, certificatePem, privateKeyPem }: StoredIdentity): Promise<boolean> {
  const { identity, identityCopy } = stateFiles(directory)
  const wanted = { uid, ems, pin, enrolledAt, ownerUid, tlsCa, certificatePem, privateKeyPem }
  let repaired = false
  for (const path of [identity, identityCopy]) {
    const text = await readPrivateFile(path)
    if (text === jsonText(wanted)) continue
    const isOlder = path === identityCopy && await readAt(path).then(() => true, () => false)
    await writeJson(path, wanted)
    repaired ||= !isOlder
  }
  return repaired
}

/** Keeps an identity; it is in force when this resolves. */
export async function writeIdentity(directory: string, identity: StoredIdentity): Promise<AgentIdentity> {
  const { identity: path } = stateFiles(directory)
  const parsed = stored.parse(identity)
  const next = await opened(parsed, path)
  await writeJson(path, parsed)
  return next
}

/** Takes away what a crash may have left: half-written files, which may hold a key, and the key of a renewal that was adopted. Call it under the lock of the directory. */
export async function clearLeftovers(directory: string): Promise<void> {
  const { renewing } = stateFiles(directory)
  for (const name of await readdir(directory)) if (/\.[0-9a-f]{12}\.tmp$/.test(name)) await rm(join(directory, name), { force: true })
  const adopted = await readIdentity(directory)
  if (adopted !== null && await readPrivateFile(renewing) === adopted.privateKeyPem) await removePrivateFile(renewing)
}

const letGoRecord = z.strictObject({ uid, ems: z.url(), reason: z.string(), at: instant })
export type LetGo = z.infer<typeof letGoRecord>
/** That, why and when this machine was let go; null when it was not, or has been enrolled since. */
export const readLetGo = (directory: string) => readJson(stateFiles(directory).letGo, letGoRecord)

/** For people: that, when and why. */
export const describeLetGo = ({ at, reason }: LetGo): string => `This machine was deregistered on ${new Date(at).toISOString().slice(0, 10)}${reason === '' ? '' : ` ("${reason}")`}.`

/** Notes that the enrolment has ended, so that a crash is finished by the next start. False where the disk does not take it: then forgetting makes room. */
export async function noteLetGo(directory: string, record: LetGo): Promise<boolean> {
  try {
    await writeJson(stateFiles(directory).letGo, record)
    return true
  } catch (cause) {
    if (systemFailure(cause) === null) throw cause
    return false
  }
}

/** Forgets key, certificate, documents and sequence, and every half-written copy of them. What the user said of themselves is the user's, and stays. */
export async function forgetEnrolment(directory: string, record: LetGo): Promise<void> {
  const noted = await noteLetGo(directory, record)
  const { letGo: _kept, ...others } = stateFiles(directory)
  for (const path of Object.values(others)) await rm(path, { force: true })
  for (const name of await readdir(directory)) if (/\.tmp$|^enrolling-.*\.key$/.test(name)) await rm(join(directory, name), { force: true })
  if (!noted) await noteLetGo(directory, record)
}
