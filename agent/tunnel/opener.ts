// Opens the way to one target: through the gateway that protects it, or directly. A protected target never falls back to direct.
import { udpRequest, untilUdpIsTaken } from './ask-udp.ts'
import type { Denial } from './denial.ts'
import type { Destinations } from './destinations.ts'
import type { GatewayLink } from './gateway-link.ts'
import { openDirect, type Unreachable } from './open-direct.ts'
import { openStream, type StreamOutcome } from './open-stream.ts'
import type { Far } from './splice.ts'
import { authorityOf, type Target } from './target.ts'
import type { Timers } from '../../node/timers.ts'

export type Outcome =
  | { kind: 'open'; far: Far }
  | { kind: 'refused'; denial: Denial }
  | { kind: 'unreachable'; why: Unreachable; message: string }

/** By UDP only what a gateway protects is opened: the far side carries capsules then. */
export type Opener = (target: Target, signal: AbortSignal, transport?: Transport) => Promise<Outcome>
type Transport = 'tcp' | 'udp'
/** What is asked of gateways. */
interface Wanted { readonly target: Target; readonly authority: string; readonly transport: Transport }

/**
 * @param destinations the compiled destinations of the moment
 * @param link the link to a gateway by its serial; undefined where the profile gives no address for it
 */
export function createOpener({ destinations, link, timers, now, onDenial }: {
  destinations: () => Destinations; link: (serial: string) => GatewayLink | undefined
  timers: Timers; now: () => number; onDenial: (denial: Denial) => void
}): Opener {
  async function attempt(gateway: GatewayLink, { target, authority, transport }: Wanted, signal: AbortSignal): Promise<StreamOutcome> {
    try {
      const session = await gateway.session()
      if (transport === 'udp') await untilUdpIsTaken(session, timers)
      return await openStream({ session, authority, signal, timers, now, onCut: onDenial, request: transport === 'udp' ? udpRequest(target) : undefined })
    } catch (error) {
      return { kind: 'unreachable', message: error instanceof Error ? error.message : String(error) }
    }
  }

  return async (target, signal, transport = 'tcp') => {
    const serial = destinations()(target)
    if (serial === null) return openDirect({ ...target, signal })
    const authority = authorityOf(target)
    const wanted: Wanted = { target, authority, transport }
    const gateway = link(serial)
    if (!gateway) return { kind: 'unreachable', why: 'gateway', message: `${authority} is protected by gateway ${serial}, whose address the profile does not give.` }
    let outcome = await attempt(gateway, wanted, signal)
    // Once more, on a new connection: the old one may have ended while the request was under way.
    if (outcome.kind === 'unanswered' && !signal.aborted) outcome = await attempt(gateway, wanted, signal)
    switch (outcome.kind) {
      case 'open': return outcome
      case 'refused':
        onDenial(outcome.denial)
        return outcome
      default: return { kind: 'unreachable', why: 'gateway', message: `${authority} is protected by gateway ${serial}, which can't be reached: ${outcome.message}.` }
    }
  }
}
