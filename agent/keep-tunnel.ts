// Keeps the local proxy running while there is a profile. A port that can't be had is said in the status and tried again; it stops nothing else.
import type { Log } from '../node/logging.ts'
import type { ProfileSettings } from '../protocol/profile.ts'
import { systemFailure } from './failure.ts'
import type { SshCertificateOutcome, SshCertificateWanted } from './tunnel/ask-ssh-certificate.ts'
import type { Denial } from './tunnel/denial.ts'
import type { Timers } from '../node/timers.ts'
import type { Revocations } from './tunnel/revocations.ts'
import { startTunnel, type Tunnel, type TunnelOptions } from './tunnel/start.ts'
import type { Target } from './tunnel/target.ts'
import type { TransparentState } from './tunnel/transparent/keep-transparent.ts'

export type TunnelState = { readonly running: true; readonly httpPort: number; readonly socksPort: number } | { readonly running: false; readonly reason: string }

export interface KeptTunnel {
  state(): TunnelState
  /** The address of the PAC file; not part of the state, which is logged. */
  pacUrl(): string | null
  transparent(): TransparentState | null
  /** Whether the profile has a gateway for a place; none has while the proxy does not run. */
  protects(target: Target): boolean
  /** As {@link Tunnel.sshCertificate}; nothing is reached while the proxy does not run. */
  sshCertificate(wanted: SshCertificateWanted): Promise<SshCertificateOutcome>
  /** The last refusals, newest first. */
  denials(): readonly Denial[]
  close(): Promise<void>
}

export interface KeepTunnelOptions {
  /** null: no profile has been assigned. */
  readonly settings: () => ProfileSettings | null
  readonly onSettings: (listener: () => void) => () => void
  readonly identity: () => { certificatePem: string; privateKeyPem: string }
  readonly authorities: () => string[]
  readonly revocations: Revocations
  readonly pacPath?: string
  readonly transparent?: TunnelOptions['transparent']
  readonly ownerUid: number
  readonly log: Log
  readonly now: () => number
  readonly timers: Timers
  readonly onState: (state: TunnelState) => void
  readonly onDenial: (denial: Denial) => void
  /** Has the certificate issued anew; false: it was not. */
  readonly renew: () => Promise<boolean>
  readonly onDefect: (cause: unknown) => void
}

const KEPT_DENIALS = 100
const RETRY_MS = 15_000

/** Resolves when the first attempt has been made. */
export async function keepTunnel(options: KeepTunnelOptions): Promise<KeptTunnel> {
  const denials: Denial[] = []
  let tunnel: Tunnel | null = null
  let reason = 'no profile has been assigned'
  let closed = false
  let cancelRetry = () => {}
  let starting: Promise<void> = Promise.resolve()

  async function start(): Promise<void> {
    const first = options.settings()
    if (closed || tunnel !== null || first === null) return
    cancelRetry()
    try {
      tunnel = await startTunnel({
        settings: () => options.settings() ?? first, onSettings: options.onSettings, identity: options.identity, authorities: options.authorities, revocations: options.revocations, renew: options.renew, pacPath: options.pacPath, transparent: options.transparent,
        ownerUid: options.ownerUid, log: options.log, now: options.now, timers: options.timers,
        onDenial(denial) {
          denials.unshift(denial)
          denials.length = Math.min(denials.length, KEPT_DENIALS)
          options.onDenial(denial)
        },
      })
      options.onState(state())
    } catch (cause) {
      if (systemFailure(cause) === null) throw cause
      reason = `port ${first.proxy.httpPort} or ${first.proxy.socksPort} can not be had (${(cause as NodeJS.ErrnoException).code})`
      options.log.error({ event: 'tunnel-not-started', reason }, 'The local proxy is not running; it will be tried again.')
      options.onState(state())
      cancelRetry = options.timers.after(RETRY_MS, again)
    }
  }
  const again = () => { starting = starting.then(start).catch(options.onDefect) }
  const state = (): TunnelState => (tunnel === null ? { running: false, reason } : { running: true, httpPort: tunnel.httpPort, socksPort: tunnel.socksPort })
  const stopListening = options.onSettings(again)
  again()
  await starting

  return {
    state,
    pacUrl: () => tunnel?.pacUrl ?? null,
    transparent: () => tunnel?.transparent() ?? null,
    protects: (target) => tunnel?.protects(target) ?? false,
    sshCertificate: (wanted) => tunnel?.sshCertificate(wanted) ?? Promise.resolve({ outcome: 'unreachable', message: `The local proxy is not running: ${reason}.` }),
    denials: () => denials,
    async close() {
      closed = true
      stopListening()
      cancelRetry()
      await starting
      await tunnel?.close()
      tunnel = null
      reason = 'the agent has let go'
    },
  }
}
