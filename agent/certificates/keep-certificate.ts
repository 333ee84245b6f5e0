// Keeps the agent's certificate fresh: looks at the wall clock each minute (a laptop that slept has no timers), renews when due or when told to.
import type { TrustedAuthority } from '../../identity/certificate.ts'
import { jitteredBackoff } from '../../node/backoff.ts'
import type { Log } from '../../node/logging.ts'
import { Fault } from '../../protocol/faults.ts'
import type { Control } from '../control.ts'
import type { AgentIdentity } from './identity-store.ts'
import { renewalDue, renewCertificate } from './renew.ts'

export interface KeptCertificate {
  identity(): AgentIdentity
  /** Renews now, once at a time; false when the EMS did not, and not again before a growing pause. */
  renew(): Promise<boolean>
  close(): Promise<void>
}

export interface KeepCertificateOptions {
  readonly directory: string
  readonly identity: AgentIdentity
  readonly control: Control
  readonly authorities: () => readonly TrustedAuthority[]
  readonly takeAuthorities: (document: string) => Promise<void>
  readonly onRenewed: (serial: string) => void
  readonly onDefect: (cause: unknown) => void
  readonly log: Log
  readonly random?: () => number
}

const LOOK_EVERY_MS = 60_000
const PAUSE = { firstMs: 5_000, limitMs: 600_000 }

export function keepCertificate(options: KeepCertificateOptions): KeptCertificate {
  const { control, log, random = Math.random } = options
  let { identity } = options
  let due = renewalDue(identity, random())
  let failures = 0
  let notBefore = 0
  let closed = false
  let renewing: Promise<boolean> | null = null

  async function once(): Promise<boolean> {
    try {
      const { directory, authorities, takeAuthorities } = options
      identity = await renewCertificate({ directory, identity, client: control.client(), authorities, takeAuthorities })
    } catch (cause) {
      if (!(cause instanceof Fault)) throw cause
      notBefore = control.emsNow() + jitteredBackoff(failures++, PAUSE)
      log.warn({ event: 'renewal-failed', fault: cause.code, reason: cause.message }, 'The certificate was not renewed; the one at hand stays, and it is tried again.')
      return false
    }
    due = renewalDue(identity, random())
    failures = 0
    options.onRenewed(identity.serial)
    return true
  }

  async function renew(): Promise<boolean> {
    if (renewing !== null) return await renewing
    if (closed || control.emsNow() < notBefore) return false
    renewing = once().finally(() => { renewing = null })
    return await renewing
  }

  const timer = setInterval(() => {
    if (control.emsNow() >= due) void renew().catch(options.onDefect)
  }, LOOK_EVERY_MS)
  timer.unref()
  return {
    identity: () => identity,
    renew,
    async close() {
      closed = true
      clearInterval(timer)
      await renewing?.catch(() => false) // whoever asked for it hears of it
    },
  }
}
