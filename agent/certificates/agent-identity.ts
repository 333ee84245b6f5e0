// The agent's own certificate: renewed at two thirds of its life by the wall clock, and when it has expired. The new key is on disk before it is sent.
import { rename } from 'node:fs/promises'
import { readCertificate } from '../../identity/certificate.ts'
import { copyBytes, fromPem, toHex } from '../../identity/encoding.ts'
import { exportPublicKey } from '../../identity/keys.ts'
import { createCsr } from '../../identity/request.ts'
import type { ControlClient, Identity } from '../../node/control-client.ts'
import { keyInFile, readPrivateFile, writeJson } from '../../node/key-store.ts'
import type { Log } from '../../node/logging.ts'
import { renew } from '../../protocol/operations/endpoint.ts'
import { filesIn, type Enrolment } from '../state.ts'

export interface AgentIdentity extends Identity {
  readonly privateKey: CryptoKey
  readonly certificatePem: string
  readonly privateKeyPem: string
  /** ms: when it should be renewed. */
  readonly renewAt: number
}

const DUE_AFTER = 2 / 3
/** Up to a tenth of its life earlier, by the certificate itself: a fleet that enrolled together does not renew together. */
const JITTER = 0.1

export async function openIdentity(directory: string, enrolment: Enrolment): Promise<AgentIdentity> {
  const { pem, privateKey } = await matchingKey(directory, enrolment.certificate)
  const certificateDer = copyBytes(fromPem('CERTIFICATE', enrolment.certificate) ?? new Uint8Array())
  const info = readCertificate(certificateDer)
  if (info === null) throw new Error('the certificate in the enrolment file can not be read; enrol this device again')
  const life = info.notAfter - info.notBefore
  const spread = Number.parseInt(info.serial.slice(-4), 16) / 0xffff
  return { privateKey, certificateDer, certificatePem: enrolment.certificate, privateKeyPem: pem, renewAt: info.notBefore + life * (DUE_AFTER - JITTER * spread) }
}

/** The key of the certificate: after a crash in the middle of a renewal it may still lie under the next key's name. */
async function matchingKey(directory: string, certificate: string): Promise<{ pem: string; privateKey: CryptoKey }> {
  const files = filesIn(directory)
  const spki = readCertificate(certificate)?.publicKeySpki ?? null
  for (const path of [files.key, files.nextKey]) {
    if (await readPrivateFile(path) === null) continue
    const keys = await keyInFile(path)
    if (spki === null || toHex(await exportPublicKey(keys.publicKey)) !== toHex(spki)) continue
    if (path === files.nextKey) await rename(files.nextKey, files.key)
    return keys
  }
  throw new Error('the key of the device certificate is gone; have the device deregistered and enrol it again')
}

/** Renews. A lost reply is asked for again with the same key; the old key goes when the new certificate is on disk. */
export async function renewIdentity(options: { directory: string; enrolment: Enrolment; client: ControlClient; log: Log }): Promise<{ enrolment: Enrolment; identity: AgentIdentity; authorities: string }> {
  const files = filesIn(options.directory)
  const next = await keyInFile(files.nextKey)
  const { certificate, authorities } = await options.client.call(renew, { body: { csr: await createCsr(next, 'agent') } })
  const enrolment = { ...options.enrolment, certificate }
  // The enrolment names the key that is to be used; a crash before the rename is finished by the next start.
  await writeJson(files.enrolment, enrolment)
  await rename(files.nextKey, files.key)
  options.log.info({ event: 'certificate-renewed' }, 'The device certificate was renewed.')
  return { enrolment, identity: await openIdentity(options.directory, enrolment), authorities }
}
