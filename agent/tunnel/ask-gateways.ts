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
    const isOnly = gateways.length === 1
    const first = inOrder(gateways)
    const unanswered = new Set<GatewayLink>()
    const places = function* (): Iterable<{ gateway: GatewayLink; isLast: boolean }> {
      for (const [index, gateway] of first.entries()) yield { gateway, isLast: index === first.length - 1 }
      // Once more, on a new connection: the old one may have ended while the request was under way, or the gateway has come back since it last failed.
      for (const gateway of unanswered) yield { gateway, isLast: true }
    }
    for (const { gateway, isLast } of places()) {
      const outcome = await attempt(gateway, { isLast, isOnly })
      if (outcome.kind === 'open' || signal.aborted) return outcome
      if (outcome.kind === 'refused') {
        if (isAnswer(outcome.denial)) return outcome
        gateway.rest()
      }
      if (outcome.kind === 'unanswered') unanswered.add(gateway)
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
