// Opens the way to one target: through a gateway that protects it, or directly. A protected target never falls back to direct.
import { askWhyCut, openBulk } from './open-bulk.ts'
import { udpRequest, untilUdpIsTaken } from './ask-udp.ts'
import type { Denial } from './denial.ts'
import type { Destinations } from './destinations.ts'
import { inOrder, isAnswer, patiently } from './failover.ts'
import type { GatewayLink } from './gateway-link.ts'
import type { Healing } from './healing.ts'
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

/**
 * @param destinations the compiled destinations of the moment
 * @param link the link to a gateway by its serial; undefined where the profile gives no address for it
 */
export function createOpener({ destinations, link, healing, timers, now, onDenial, log }: {
  destinations: () => Destinations; link: (serial: string) => GatewayLink | undefined; healing: Healing
  timers: Timers; now: () => number; onDenial: (denial: Denial) => void; log: TunnelLog
}): Opener {
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

  async function attempt(gateway: GatewayLink, { target, authority, transport }: Wanted, signal: AbortSignal, { isLast, isOnly }: { isLast: boolean; isOnly: boolean }): Promise<Attempt> {
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
      return { kind: 'unreachable', message: error instanceof Error ? error.message : String(error) }
    }
  }

  /** Asks one gateway after the other until one has opened the way or has judged. */
  async function attemptAll(gateways: readonly GatewayLink[], wanted: Wanted, signal: AbortSignal): Promise<Attempt> {
    let told: Attempt | null = null
    for (const [index, gateway] of inOrder(gateways).entries()) {
      const place = { isLast: index === gateways.length - 1, isOnly: gateways.length === 1 }
      let outcome = await attempt(gateway, wanted, signal, place)
      // Once more, on a new connection: the old one may have ended while the request was under way.
      if (outcome.kind === 'unanswered' && !signal.aborted && place.isOnly) outcome = await attempt(gateway, wanted, signal, place)
      if (outcome.kind === 'open' || signal.aborted) return outcome
      if (outcome.kind === 'refused') {
        if (isAnswer(outcome.denial)) return outcome
        gateway.rest()
      }
      // What a gateway says explains more than that another can't be reached.
      if (told?.kind !== 'refused') told = outcome
    }
    return told ?? { kind: 'unreachable', message: 'the profile names none' }
  }

  return async (target, signal, transport = 'tcp') => {
    const serials = destinations()(target)
    if (serials === null) return openDirect({ ...target, signal })
    const authority = authorityOf(target)
    const wanted: Wanted = { target, authority, transport }
    const gateways = serials.flatMap((serial) => link(serial) ?? [])
    const names = `gateway${serials.length > 1 ? 's' : ''} ${serials.join(', ')}`
    if (gateways.length === 0) return { kind: 'unreachable', why: 'gateway', message: `${authority} is protected by ${names}, whose address the profile does not give.` }
    const before = healing.renewals()
    let outcome = await attemptAll(gateways, wanted, signal)
    if (outcome.kind === 'refused' && !signal.aborted && await healing.heal(outcome.denial, before)) {
      outcome = await attemptAll(gateways, wanted, signal)
      if (outcome.kind === 'refused' && !signal.aborted && await healing.settle(outcome.denial)) outcome = await attemptAll(gateways, wanted, signal)
      if (outcome.kind === 'open') healing.mended()
    }
    switch (outcome.kind) {
      case 'open': return outcome
      case 'refused':
        onDenial(outcome.denial)
        return outcome
      default: return { kind: 'unreachable', why: 'gateway', message: `${authority} is protected by ${names}, which can't be reached: ${outcome.message}.` }
    }
  }
}
