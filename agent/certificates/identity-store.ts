// Who this agent is: UID, EMS, key and certificate in one file, replaced whole. The key is readable by the agent's own account only.
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { readCertificate } from '../../identity/certificate.ts'
import type { Bytes } from '../../identity/encoding.ts'
import { importPrivateKey } from '../../identity/keys.ts'
import { readJson, readPrivateFile, removePrivateFile, writeJson } from '../../node/key-store.ts'
import { certificatePem } from '../../protocol/certificates.ts'
import { uid } from '../../protocol/ids.ts'
import { instant, sha256Hex } from '../../protocol/text.ts'

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
  /** The key of a renewal whose reply is outstanding. */
  renewing: join(directory, 'renewing.key'),
  documents: join(directory, 'documents.json'), telemetry: join(directory, 'telemetry.json'),
  /** What remains after a deregistration: that it happened. */
  letGo: join(directory, 'deregistered.json'),
})

async function opened(identity: StoredIdentity): Promise<AgentIdentity> {
  const info = readCertificate(identity.certificatePem)
  if (info === null) throw new Error('the kept certificate can not be read; enrol again')
  const { privateKey } = await importPrivateKey(identity.privateKeyPem, false)
  return { ...identity, privateKey, certificateDer: info.der, serial: info.serial, notBefore: info.notBefore, notAfter: info.notAfter }
}

/** The kept identity; null when this machine is not enrolled. */
export async function readIdentity(directory: string): Promise<AgentIdentity | null> {
  const files = stateFiles(directory)
  const kept = await readJson(files.identity, stored)
  if (kept === null) return null
  // A crash between adopting a renewed certificate and clearing its key: that key is spent.
  if (await readPrivateFile(files.renewing) === kept.privateKeyPem) await removePrivateFile(files.renewing)
  return await opened(kept)
}

/** Keeps an identity; it is in force when this resolves. */
export async function writeIdentity(directory: string, identity: StoredIdentity): Promise<AgentIdentity> {
  const parsed = stored.parse(identity)
  const next = await opened(parsed)
  await writeJson(stateFiles(directory).identity, parsed)
  return next
}

const letGoRecord = z.strictObject({ uid, ems: z.url(), reason: z.string(), at: instant })
/** That, why and when this machine was let go; null when it was not, or has been enrolled since. */
export const readLetGo = (directory: string) => readJson(stateFiles(directory).letGo, letGoRecord)

/** Forgets key, certificate, documents and sequence. The record of it is written first, so that a crash is finished by the next start. */
export async function forgetEnrolment(directory: string, record: z.infer<typeof letGoRecord>): Promise<void> {
  const { letGo, ...others } = stateFiles(directory)
  await writeJson(letGo, record)
  for (const path of Object.values(others)) await rm(path, { force: true })
}
