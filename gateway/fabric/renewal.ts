// Renews the gateway's certificate at two thirds of its life, by the wall clock, with a new key each time. The old one goes on until the new one is kept.
import { join } from 'node:path'
import { createCsr } from '../../identity/request.ts'
import { jitteredBackoff } from '../../node/backoff.ts'
import type { ControlClient } from '../../node/control-client.ts'
import { keyInFile, removePrivateFile } from '../../node/key-store.ts'
import type { Log } from '../../node/logging.ts'
import { Fault } from '../../protocol/faults.ts'
import { renewGateway } from '../../protocol/operations/fabric.ts'
import type { Timers } from '../../node/timers.ts'
import { requireOwnCertificate, type Membership } from './membership.ts'
import { pause } from './pause.ts'

interface Options {
  readonly directory: string
  readonly membership: Membership
  readonly client: ControlClient
  readonly timers: Timers
  readonly log: Log
}

/** A timer counts its own time, which stands still while a machine sleeps; so the wall clock is asked at least this often. */
const LOOK_AGAIN_MS = 3_600_000
/** A fleet that was enrolled in one minute must not renew in one. */
const JITTER_SHARE = 0.05

/** ms at which a certificate is due: two thirds of its life. @param chance 0 to 1, for the jitter */
export const renewalDue = ({ notBefore, notAfter }: { notBefore: number; notAfter: number }, chance: number): number =>
  Math.round(notBefore + (notAfter - notBefore) * (2 / 3 - JITTER_SHARE * chance))

/** Renews once, now. Throws the `Fault` of the EMS. */
export async function renewNow({ directory, membership, client, log }: Omit<Options, 'timers'>): Promise<void> {
  const file = join(directory, 'renewal.key')
  // A key that was left behind by a crash after the membership had been replaced is the one in use.
  let keys = await keyInFile(file)
  if (keys.pem.trim() === membership.member().stored.privateKey.trim()) {
    await removePrivateFile(file)
    keys = await keyInFile(file)
  }
  const { serial } = membership.member().stored
  const reply = await client.call(renewGateway, { body: { csr: await createCsr(keys, serial) } })
  const now = client.emsNow()
  const listed = await membership.takeAuthorities(reply.authorities, now)
  if (listed === 'refused') throw new Fault('bad_certificate', 'The EMS sent a list of CAs that does not verify.')
  const info = await requireOwnCertificate(reply.certificate, { serial, keys, authorities: membership.member().authorities, now })
  await membership.replace({ ...membership.member().stored, certificate: reply.certificate, privateKey: keys.pem })
  await removePrivateFile(file)
  log.info({ event: 'renewed', serial, notAfter: new Date(info.notAfter).toISOString() }, 'The gateway has a new certificate.')
}

/** Keeps the certificate young until `signal` is aborted. */
export async function keepRenewed(options: Options & { readonly signal: AbortSignal }): Promise<void> {
  const { membership, client, timers, log, signal } = options
  let failures = 0
  while (!signal.aborted) {
    const wait = renewalDue(membership.member().certificate, Math.random()) - client.emsNow()
    if (wait > 0) {
      await pause(timers, Math.min(wait, LOOK_AGAIN_MS), signal)
      continue
    }
    try {
      await renewNow(options)
      failures = 0
    } catch (cause) {
      if (!(cause instanceof Fault)) throw cause
      if (failures === 0) log.error({ event: 'renewal-failed', reason: cause.message }, 'The certificate could not be renewed; it will be tried again.')
      await pause(timers, jitteredBackoff(failures++, { firstMs: 2_000, limitMs: 600_000 }), signal)
    }
  }
}
