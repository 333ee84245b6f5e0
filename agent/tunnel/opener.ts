// Opens the way to one target: through the gateway that protects it, or directly. A protected target never falls back to direct.
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

export type Opener = (target: Target, signal: AbortSignal) => Promise<Outcome>

/**
 * @param destinations the compiled destinations of the moment
 * @param link the link to a gateway by its serial; undefined where the profile gives no address for it
 */
export function createOpener({ destinations, link, timers, now, onDenial }: {
  destinations: () => Destinations; link: (serial: string) => GatewayLink | undefined
  timers: Timers; now: () => number; onDenial: (denial: Denial) => void
}): Opener {
  async function attempt(gateway: GatewayLink, authority: string, signal: AbortSignal): Promise<StreamOutcome> {
    try {
      return await openStream({ session: await gateway.session(), authority, signal, timers, now, onCut: onDenial })
    } catch (error) {
      return { kind: 'unreachable', message: error instanceof Error ? error.message : String(error) }
    }
  }

  return async (target, signal) => {
    const serial = destinations()(target)
    if (serial === null) return openDirect({ ...target, signal })
    const authority = authorityOf(target)
    const gateway = link(serial)
    if (!gateway) return { kind: 'unreachable', why: 'gateway', message: `${authority} is protected by gateway ${serial}, whose address the profile does not give.` }
    let outcome = await attempt(gateway, authority, signal)
    // Once more, on a new connection: the old one may have ended while the request was under way.
    if (outcome.kind === 'unanswered' && !signal.aborted) outcome = await attempt(gateway, authority, signal)
    switch (outcome.kind) {
      case 'open': return outcome
      case 'refused':
        onDenial(outcome.denial)
        return outcome
      default: return { kind: 'unreachable', why: 'gateway', message: `${authority} is protected by gateway ${serial}, which can't be reached: ${outcome.message}.` }
    }
  }
}
