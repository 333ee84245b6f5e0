// When a report that was not taken is sent again: soon where nobody answers, seldom where it is refused, at once where the fault has been mended, and never without an end.
import { jitteredBackoff } from '../../node/backoff.ts'
import type { Fault, FaultCode } from '../../protocol/faults.ts'

/** What to do about a fault: send again at once, after a wait, or never more. */
export type FaultAnswer = 'again' | 'later' | 'stop'

/** An EMS that is away, or that something failed in, is asked again soon; one that answers and refuses is not told the same every few seconds. */
const AWAY = { firstMs: 250, limitMs: 60_000 }
const REFUSED = { firstMs: 1_000, limitMs: 900_000 }
const isAway = (code: FaultCode): boolean => code === 'busy' || code === 'too_many' || code === 'internal'

export interface Retry {
  /** ms to wait before the next try; 0 where there is nothing to wait for. */
  waitMs(fault: Fault, answer: Exclude<FaultAnswer, 'stop'>): number
  /** A report was taken: what comes next begins anew. */
  taken(): void
}

/** @param random 0 ≤ x < 1 */
export function createRetry(random: () => number): Retry {
  /** Failures of one kind in a row. */
  let attempt = 0
  let wasAway = false
  /** A try was made without a pause since a report was taken: an EMS that never has enough must not be met without one again. */
  let hurried = false
  return {
    waitMs({ code, extras }, answer) {
      if (answer === 'again' && !hurried) {
        hurried = true
        return 0
      }
      if (isAway(code) !== wasAway) attempt = 0
      wasAway = isAway(code)
      const backoffMs = jitteredBackoff(attempt++, { ...wasAway ? AWAY : REFUSED, random })
      return Math.min(REFUSED.limitMs, Math.max(backoffMs, (extras.retryAfterSeconds ?? 0) * 1000))
    },
    taken() {
      attempt = 0
      hurried = false
    },
  }
}
