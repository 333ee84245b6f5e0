// Keeps the agent's certificate fresh: looks at the wall clock each minute (a laptop that slept has no timers), renews when due or when told to.
import type { TrustedAuthority } from '../../identity/certificate.ts'
import { jitteredBackoff } from '../../node/backoff.ts'
import type { ControlClient } from '../../node/control-client.ts'
import type { Log } from '../../node/logging.ts'
import { Fault } from '../../protocol/faults.ts'
import { sentenceFor, systemFailure } from '../failure.ts'
import type { Timers } from '../../node/timers.ts'
import type { Troubles } from '../troubles.ts'
import { repairIdentity, type AgentIdentity } from './identity-store.ts'
import { renewalDue, renewCertificate } from './renew.ts'

export interface KeptCertificate {
  identity(): AgentIdentity
  /** Renews now, once at a time; false when it could not be, and not again before a growing pause. */
  renew(): Promise<boolean>
  close(): Promise<void>
}

export interface KeepCertificateOptions {
  readonly directory: string
  readonly identity: AgentIdentity
  /** The client of the moment. */
  readonly client: () => ControlClient
  /** ms, EMS clock */
  readonly now: () => number
  readonly authorities: () => readonly TrustedAuthority[]
  readonly takeAuthorities: (document: string) => Promise<void>
  readonly onRenewed: (serial: string) => void
  readonly onDefect: (cause: unknown) => void
  readonly timers: Timers
  readonly troubles: Troubles
  readonly log: Log
  /** 0 ≤ x < 1 */
  readonly random?: () => number
}

const LOOK_EVERY_MS = 60_000
const PAUSE = { firstMs: 5_000, limitMs: 600_000 }

export function keepCertificate(options: KeepCertificateOptions): KeptCertificate {
  const { now, timers, troubles, log, random = Math.random } = options
  let { identity } = options
  let due = renewalDue(identity, random())
  let failures = 0
  // By a timer, not by the clock: whoever sets the clock back must not keep the certificate from being renewed.
  let pausing = false
  let cancelPause = () => {}
  let cancelLook = () => {}
  let closed = false
  let renewing: Promise<boolean> | null = null
  let repairing: Promise<void> = Promise.resolve()

  async function once(): Promise<boolean> {
    try {
      const { directory, client, authorities, takeAuthorities } = options
      identity = await renewCertificate({ directory, identity, client: client(), authorities, takeAuthorities })
    } catch (cause) {
      if (!(cause instanceof Fault) && systemFailure(cause) === null) throw cause
      pausing = true
      cancelPause = timers.after(jitteredBackoff(failures++, { ...PAUSE, random }), () => { pausing = false })
      log.warn({ event: 'renewal-failed', reason: sentenceFor(cause) }, 'The certificate was not renewed; the one at hand stays, and it is tried again.')
      troubles.raise('renewal', `The certificate, good until ${new Date(identity.notAfter).toISOString()}, could not be renewed: ${sentenceFor(cause)}`)
      return false
    }
    due = renewalDue(identity, random())
    failures = 0
    troubles.clear('renewal')
    // Two renewals later the EMS takes the copy's certificate for nobody's.
    await repair()
    options.onRenewed(identity.serial)
    return true
  }

  async function renew(): Promise<boolean> {
    if (renewing !== null) return await renewing
    if (closed || pausing) return false
    renewing = once().finally(() => { renewing = null })
    return await renewing
  }

  /** Brings both files to what the agent holds: after a renewal, and where one was lost or damaged under it. */
  async function repair(): Promise<void> {
    try {
      if (await repairIdentity(options.directory, identity)) log.warn({ event: 'identity-restored' }, 'The file with key and certificate was lost or damaged; it has been put back.')
    } catch (cause) {
      const failure = systemFailure(cause)
      if (failure === null) throw cause
      log.warn({ event: 'identity-not-restored', reason: failure }, 'The file with key and certificate could not be looked after; it is tried again in a minute.')
    }
  }
  function lookLater(): void {
    cancelLook = timers.after(LOOK_EVERY_MS, () => {
      if (now() >= due) renew().catch(options.onDefect)
      else if (renewing === null) repairing = repair().catch(options.onDefect)
      lookLater()
    })
  }

  lookLater()
  return {
    identity: () => identity,
    renew,
    async close() {
      closed = true
      cancelLook()
      cancelPause()
      await repairing
      await renewing?.catch(() => false) // whoever asked for it hears of it
    },
  }
}
