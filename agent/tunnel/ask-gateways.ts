// Asks the gateways that protect a target, one after the other, until one has done what was asked or has judged. What is asked is somebody else's.
import type { Denial } from './denial.ts'
import type { Destinations } from './destinations.ts'
import { inOrder, isAnswer } from './failover.ts'
import type { GatewayLink } from './gateway-link.ts'
import type { Healing } from './healing.ts'
import type { Unreachable } from './open-direct.ts'
import type { StreamOutcome } from './open-stream.ts'
import { authorityOf, type Target } from './target.ts'

/** Where a gateway stands among those that are asked. */
export interface Place { readonly isLast: boolean; readonly isOnly: boolean }
type Failed = Exclude<StreamOutcome, { kind: 'open' }>
export type Asked = { readonly kind: 'refused'; readonly denial: Denial } | { readonly kind: 'unreachable'; readonly why: Unreachable; readonly message: string } | { /** No gateway leads there. */ readonly kind: 'unprotected' }
export type AskGateways = <Done extends { readonly kind: 'open' }>(target: Target, signal: AbortSignal, attempt: (gateway: GatewayLink, place: Place) => Promise<Done | Failed>) => Promise<Done | Asked>

/**
 * @param destinations the compiled destinations of the moment
 * @param link the link to a gateway by its serial; undefined where the profile gives no address for it
 */
export function createAskGateways({ destinations, link, healing, onDenial }: {
  destinations: () => Destinations; link: (serial: string) => GatewayLink | undefined; healing: Healing; onDenial: (denial: Denial) => void
}): AskGateways {
  async function askAll<Done extends { readonly kind: 'open' }>(gateways: readonly GatewayLink[], signal: AbortSignal, attempt: (gateway: GatewayLink, place: Place) => Promise<Done | Failed>): Promise<Done | Failed> {
    let told: Done | Failed | null = null
    for (const [index, gateway] of inOrder(gateways).entries()) {
      const place = { isLast: index === gateways.length - 1, isOnly: gateways.length === 1 }
      let outcome = await attempt(gateway, place)
      // Once more, on a new connection: the old one may have ended while the request was under way.
      if (outcome.kind === 'unanswered' && !signal.aborted && place.isOnly) outcome = await attempt(gateway, place)
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

  return async (target, signal, attempt) => {
    const serials = destinations()(target)
    if (serials === null) return { kind: 'unprotected' }
    const authority = authorityOf(target)
    const gateways = serials.flatMap((serial) => link(serial) ?? [])
    const names = `gateway${serials.length > 1 ? 's' : ''} ${serials.join(', ')}`
    if (gateways.length === 0) return { kind: 'unreachable', why: 'gateway', message: `${authority} is protected by ${names}, whose address the profile does not give.` }
    const before = healing.renewals()
    let outcome = await askAll(gateways, signal, attempt)
    if (outcome.kind === 'refused' && !signal.aborted && await healing.heal(outcome.denial, before)) {
      outcome = await askAll(gateways, signal, attempt)
      if (outcome.kind === 'refused' && !signal.aborted && await healing.settle(outcome.denial)) outcome = await askAll(gateways, signal, attempt)
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
