// Which gateway a new stream is asked of, where several lead to its destination. It opens nothing and never passes by a refusal.
import type { Timers } from '../../node/timers.ts'
import type { Denial } from './denial.ts'
import type { GatewayLink } from './gateway-link.ts'

/** With these a gateway says that it can't judge, not that it has judged. */
const unjudged = new Set(['snapshot-missing', 'snapshot-stale', 'gateway-stopping', 'overloaded'])

/** Whether a refusal settles the matter: asked elsewhere, it would be a way round the policy. */
export const isAnswer = ({ reason }: Denial): boolean => !unjudged.has(reason)

/** The order in which gateways are asked: those that are held last, for where all are, one is tried all the same. */
export const inOrder = (gateways: readonly GatewayLink[]): GatewayLink[] =>
  [...gateways.filter((each) => !each.isHeld()), ...gateways.filter((each) => each.isHeld())]

/** How long a connection may take before the next gateway is asked instead; it goes on being opened. */
export const patienceMs = 1_500

/** The value of `promise`, unless it takes too long. @throws Error then; what becomes of it later is the maker's to note */
export function patiently<T>(promise: Promise<T>, timers: Timers): Promise<T> {
  const { promise: either, resolve, reject } = Promise.withResolvers<T>()
  const stop = timers.after(patienceMs, () => reject(new Error(`no connection within ${patienceMs} ms`)))
  promise.then(resolve, reject).finally(stop)
  return either
}
