// Opens the way to one target: through a gateway that protects it, or directly. A protected target never falls back to direct.
import type { AskGateways, Place } from './ask-gateways.ts'
import { askWhyCut, openBulk } from './open-bulk.ts'
import { udpRequest, untilUdpIsTaken } from './ask-udp.ts'
import type { Denial } from './denial.ts'
import { patiently } from './failover.ts'
import { notServed, type GatewayLink } from './gateway-link.ts'
import { openDirect, type Unreachable } from './open-direct.ts'
import { openStream, type StreamOutcome } from './open-stream.ts'
import type { Far } from './splice.ts'
import { authorityOf, type Target } from './target.ts'
import { createTraffic } from './traffic.ts'
import type { Timers } from '../../node/timers.ts'
import type { TunnelLog } from './tunnel-log.ts'

export type Outcome =
  | { kind: 'open'; far: Far }
  | { kind: 'refused'; denial: Denial }
  | { kind: 'unreachable'; why: Unreachable; message: string }

/** By UDP only what a gateway protects is opened: the far side carries capsules then. */
export type Opener = (target: Target, signal: AbortSignal, transport?: Transport) => Promise<Outcome>
type Transport = 'tcp' | 'udp'
/** What is asked of gateways. */
interface Wanted { readonly target: Target; readonly authority: string; readonly transport: Transport }

type Attempt = Exclude<StreamOutcome, { kind: 'open' }> | { kind: 'open'; far: Far }

export function createOpener({ askGateways, timers, now, onDenial, log }: { askGateways: AskGateways; timers: Timers; now: () => number; onDenial: (denial: Denial) => void; log: TunnelLog }): Opener {
  const traffic = createTraffic()

  /** A connection of its own. null: there is none to be had, and the stream goes with the others. */
  async function attemptBulk(gateway: GatewayLink, authority: string, signal: AbortSignal): Promise<Attempt | null> {
    const connection = await gateway.bulk.take().catch((error: Error) => {
      log.info({ event: 'bulk_connection_failed', gateway: gateway.serial, cause: error.message }, 'The gateway gave no connection for a stream of its own')
      return null
    })
    if (connection === null) return null
    const outcome = await openBulk({ connection, authority, signal, timers, now, onCut: onDenial, onBroken: (session) => askWhy(gateway, authority, session) })
    if (outcome.kind !== 'open') return outcome.kind === 'refused' || signal.aborted ? outcome : null
    traffic.follow(authority, outcome.far, outcome.marked, gateway.bulk.warm)
    return outcome
  }
  function askWhy(gateway: GatewayLink, authority: string, ended: string | null): void {
    if (ended === null) return
    gateway.session().then((session) => askWhyCut({ session, serial: gateway.serial, authority, ended, timers, now })).then((denial) => {
      if (denial !== null) onDenial(denial)
    }).catch((cause: Error) => log.info({ event: 'cut_unexplained', gateway: gateway.serial, cause: cause.message }, 'The gateway could not be asked why a session was cut'))
  }

  async function attempt(gateway: GatewayLink, { target, authority, transport }: Wanted, signal: AbortSignal, { isLast, isOnly }: Place): Promise<Attempt> {
    try {
      if (transport === 'tcp' && traffic.isBulk(authority)) {
        const outcome = await attemptBulk(gateway, authority, signal)
        if (outcome !== null) return outcome
      }
      const session = await (isLast ? gateway.session(!isOnly) : patiently(gateway.session(), timers))
      if (transport === 'udp') await untilUdpIsTaken(session, timers)
      const outcome = await openStream({ session, authority, signal, timers, now, onCut: onDenial, request: transport === 'udp' ? udpRequest(target) : undefined })
      if (outcome.kind === 'open' && transport === 'tcp') traffic.follow(authority, outcome.far, outcome.marked, gateway.bulk.warm)
      return outcome
    } catch (error) {
      return notServed(error)
    }
  }

  return async (target, signal, transport = 'tcp') => {
    const wanted: Wanted = { target, authority: authorityOf(target), transport }
    const outcome = await askGateways(target, signal, (gateway, place) => attempt(gateway, wanted, signal, place))
    return outcome.kind === 'unprotected' ? openDirect({ ...target, signal }) : outcome
  }
}
