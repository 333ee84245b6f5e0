// Places instants of the EMS's clock on ours, from the messages of one socket. A message that was held up on the way must not look fresh.

export interface EmsClock {
  /** A message stamped `at` by the EMS arrives now. @returns when it was sent, on our clock; never later than now */
  arrived(at: number, now: number): number
  /** An instant of the EMS on our clock; null before anything arrived. */
  ours(at: number): number | null
  /** EMS clock minus ours, ms, as far as the quickest message tells; null before anything arrived. */
  offset(): number | null
}

/**
 * The quickest message so far tells how the clocks differ; a slower one was under way for the rest.
 * @param maxDelayMs what the ping lets a message be late at most: more than that is a clock that was set, and is learned anew
 */
export function createEmsClock(maxDelayMs: number): EmsClock {
  let difference: number | null = null
  return {
    arrived(at, now) {
      const apart = now - at
      if (difference === null || apart < difference || apart - difference > maxDelayMs) difference = apart
      return at + difference
    },
    ours: (at) => (difference === null ? null : at + difference),
    offset: () => (difference === null ? null : -difference),
  }
}
