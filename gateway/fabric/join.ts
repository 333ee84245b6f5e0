// Joining the fabric: the EMS proves itself by the pin, this gateway shows its key's fingerprint, and asks until an administrator (or a join code) has decided.
import { join } from 'node:path'
import { trustAuthority } from '../../identity/certificate.ts'
import { openDocument } from '../../identity/document.ts'
import { exportPublicKey, importPrivateKey, keyFingerprint } from '../../identity/keys.ts'
import { createCsr } from '../../identity/request.ts'
import { jitteredBackoff } from '../../node/backoff.ts'
import { createControlClient, type ControlClient } from '../../node/control-client.ts'
import { introduceEms } from '../../node/introduce.ts'
import { keyInFile, readPrivateFile, removePrivateFile } from '../../node/key-store.ts'
import type { Log } from '../../node/logging.ts'
import { Fault, type FaultCode } from '../../protocol/faults.ts'
import { joinInit } from '../../protocol/operations/fabric.ts'
import type { Timers } from '../../node/timers.ts'
import { beginMembership, requireOwnCertificate, type Membership } from './membership.ts'
import { pause } from './pause.ts'

/** Why a gateway is no member yet. `heard`: the EMS said so; else it could not be asked. */
export interface Pending { readonly fingerprint: string; readonly reason: string; readonly heard: boolean }

export interface JoinRequest {
  readonly directory: string
  /** Origin of the EMS and SHA-256 (hex) of its CA: who must answer. */
  readonly ems: string
  readonly pin: string
  /** A pre-authorising code; null: an administrator compares the fingerprint. */
  readonly code: string | null
  readonly displayName: string
  readonly tlsCa: readonly string[]
  readonly timers: Timers
  /** ms. */
  readonly now: () => number
  readonly log: Log
  /** Told when the state or its reason changes, with what an administrator compares. */
  readonly onPending: (pending: Pending) => void
  /** Calls the waiting off. */
  readonly signal?: AbortSignal
}

/** Seconds for which the EMS may hold the line of one that waits: it hears of a decision at once, and can still be called off soon. */
const HOLD_SECONDS = 5
/** A question that took so long was held: the next one follows without a pause. */
const HELD_MS = 3_000

const WORTH_REPEATING: ReadonlySet<FaultCode> = new Set(['busy', 'too_many', 'ca_locked', 'replayed', 'conflict'])

const keyFileIn = (directory: string): string => join(directory, 'joining.key')
/** What an administrator compares, of a gateway that has begun to join; null: it has not, or is done. */
export async function joiningFingerprint(directory: string): Promise<string | null> {
  const pem = await readPrivateFile(keyFileIn(directory))
  return pem === null ? null : await keyFingerprint(await exportPublicKey((await importPrivateKey(pem)).publicKey))
}

/** Joins and keeps the membership on disk. Throws the `Fault` that ended it: EMS not the pinned one, code refused, denied by an administrator. */
export async function joinFabric(request: JoinRequest): Promise<Membership> {
  const keyFile = keyFileIn(request.directory)
  const keys = await keyInFile(keyFile)
  const spkiDer = await exportPublicKey(keys.publicKey)
  const fingerprint = await keyFingerprint(spkiDer)
  const csr = await createCsr(keys, request.displayName)
  const client = createControlClient({ ems: request.ems, identity: () => ({ privateKey: keys.privateKey, spkiDer }), tlsCa: request.tlsCa, now: request.now, log: request.log })
  let told = ''
  try {
    for (let attempt = 0; ; attempt++) {
      request.signal?.throwIfAborted()
      const began = request.now()
      const asked = await ask({ ...request, client, csr, keys, wait: told === '' ? 0 : HOLD_SECONDS }).catch((cause: unknown) => {
        if (!(cause instanceof Fault) || !WORTH_REPEATING.has(cause.code)) throw cause
        return { reason: cause.message, heard: false, waitMs: (cause.extras.retryAfterSeconds ?? 0) * 1000 }
      })
      if ('membership' in asked) {
        await removePrivateFile(keyFile)
        return asked.membership
      }
      if (asked.reason !== told) {
        told = asked.reason
        const { reason, heard } = asked
        request.log.info({ event: 'joining', fingerprint, reason }, heard ? 'Not authorised yet. An administrator compares this fingerprint and authorises the gateway.' : 'Not joined yet: the EMS could not be asked.')
        request.onPending({ fingerprint, reason, heard })
      }
      const isHeld = asked.waitMs === 0 && request.now() - began >= HELD_MS
      await pause(request.timers, isHeld || attempt === 0 ? asked.waitMs : Math.max(asked.waitMs, jitteredBackoff(attempt, { firstMs: 1_000, limitMs: 15_000 })), request.signal)
    }
  } finally {
    await client.close()
  }
}

const UNTRUSTED = /SELF_SIGNED|LEAF_SIGNATURE|GET_ISSUER_CERT/

/** For people: why it is no member yet, and what to do about it. */
export function pendingText({ fingerprint, reason, heard }: Pending): string {
  if (heard) return `Not authorised yet: ${reason}\nAn administrator compares this fingerprint and authorises the gateway:\n  ${fingerprint}`
  return `Not joined yet: ${reason}${UNTRUSTED.test(reason) ? '\nIts TLS certificate is from a root that this machine does not trust; name that root by --tls-ca FILE.' : ''}`
}

type Asked = { readonly membership: Membership } | { readonly reason: string; readonly heard: boolean; readonly waitMs: number }

async function ask({ client, csr, keys, wait, ...request }: JoinRequest & { client: ControlClient; csr: string; keys: CryptoKeyPair & { pem: string }; wait: number }): Promise<Asked> {
  // Before anything is told: who answers must hold the pinned CA.
  const introduced = await introduceEms(client, { ems: request.ems, pin: request.pin })
  const { data } = await client.call(joinInit, {
    body: { serial_number: request.displayName, host_name: request.displayName, csr, wait, ...(request.code === null ? {} : { join_code: request.code }) },
  })
  if (data.state === 'denied') throw new Fault('not_authorised', `The EMS refused this gateway: ${data.reason}`)
  if (data.state === 'pending' || data.certificate === undefined) return { reason: data.reason, heard: true, waitMs: 0 }
  const authorities = await Promise.all(introduced.certificates.map(trustAuthority))
  await requireOwnCertificate(data.certificate, { serial: data.serial, keys, authorities, now: client.emsNow() })
  const list = data.authorities === undefined ? null : await openDocument(data.authorities, { kind: 'authorities', to: data.serial, authorities, now: client.emsNow() })
  if (list?.ok === false) throw new Fault('bad_certificate', `The EMS sent a list of CAs that does not verify (${list.reason}).`)
  return {
    membership: await beginMembership(request.directory, {
      ems: request.ems, serial: data.serial, certificate: data.certificate, privateKey: keys.pem,
      authorities: list?.payload.body.certificates ?? introduced.certificates, authoritiesVersion: list?.payload.version ?? 0,
    }),
  }
}
