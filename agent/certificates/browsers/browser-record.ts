// What was put into browsers, in one private file: enough to put it back as it was, and to take it away after a crash.
import { join } from 'node:path'
import { z } from 'zod'
import { readCertificate, type CertificateInfo } from '../../../identity/certificate.ts'
import { toHex } from '../../../identity/encoding.ts'
import { exportPrivateKey, generateKey } from '../../../identity/keys.ts'
import { storeKeyId } from '../../../identity/pkcs12.ts'
import { readJson, removePrivateFile, writeJson } from '../../../node/key-store.ts'
import { certificatePem } from '../../../protocol/certificates.ts'
import { uid } from '../../../protocol/ids.ts'

const held = z.strictObject({ keyId: z.string().regex(/^[0-9a-f]{40}$/), privateKeyPem: z.string(), /** null: asked for, no reply yet. */ certificatePem: certificatePem.nullable() })
const kept = z.strictObject({ directory: z.string(), current: held, /** What takes its place. */ next: held.nullable() })
const record = z.strictObject({ uid, /** Whose browsers they are. */ ownerUid: z.number().int().min(0), stores: z.array(kept) })
export type HeldKey = z.infer<typeof held>
export type HeldCertificate = HeldKey & { readonly certificatePem: string }
export type KeptStore = z.infer<typeof kept>
export type BrowserRecord = z.infer<typeof record>

export const recordFile = (stateDirectory: string): string => join(stateDirectory, 'browsers.json')
export const readRecord = (stateDirectory: string): Promise<BrowserRecord | null> => readJson(recordFile(stateDirectory), record)
export const writeRecord = (stateDirectory: string, value: BrowserRecord): Promise<void> => writeJson(recordFile(stateDirectory), value)
export const removeRecord = (stateDirectory: string): Promise<void> => removePrivateFile(recordFile(stateDirectory))

/** A key for a store. It is in the record before a certificate for it is asked for: the same key gets the same certificate. */
export async function newKey(): Promise<HeldKey> {
  const keys = await generateKey(true)
  return { keyId: toHex(await storeKeyId(keys.publicKey)), privateKeyPem: await exportPrivateKey(keys.privateKey), certificatePem: null }
}

export const isIssued = (each: HeldKey): each is HeldCertificate => each.certificatePem !== null

/** What its certificate says. */
export function certificateOf({ certificatePem: pem }: HeldCertificate): CertificateInfo {
  const info = readCertificate(pem)
  if (info === null) throw new Error('a certificate in browsers.json can not be read; move that file away')
  return info
}
