// Whether new streams had better go to another gateway: this one was lost, is not steady again yet, or says that it can't judge. By timers, not by the clock: clocks are set.
import { jitteredBackoff } from '../../node/backoff.ts'
import type { Timers } from '../../node/timers.ts'

export interface GatewayHealth {
  isHeld(): boolean
  /** It does not answer, or takes too long to. */
  away(): void
  /** It answers again; after an outage it is held down a while longer, twice as long after each that came soon after the last. */
  connected(): void
  /** It answers, and others go first all the same for a while. */
  rest(): void
  /** What was known is void: the machine is on another network, or has slept. */
  forget(): void
}

const settle = { firstMs: 2_000, limitMs: 60_000 }
const rested = { firstMs: 30_000, limitMs: 30_000 }
/** How long it has to stay for an outage to be forgotten. */
const steadyMs = 120_000

export function createHealth({ timers, random }: { timers: Timers; random: () => number }): GatewayHealth {
  let isAway = false
  let isResting = false
  let outages = 0
  let cancelRest = () => {}
  let cancelSteady = () => {}
  const restFor = (ms: number) => {
    cancelRest()
    isResting = true
    cancelRest = timers.after(ms, () => {
      isResting = false
    })
  }
  return {
    isHeld: () => isAway || isResting,
    away() {
      if (!isAway) outages += 1
      isAway = true
      cancelSteady()
    },
    connected() {
      if (outages > 0 && isAway) restFor(jitteredBackoff(outages - 1, { ...settle, random }))
      isAway = false
      cancelSteady()
      cancelSteady = timers.after(steadyMs, () => {
        outages = 0
      })
    },
    rest: () => restFor(jitteredBackoff(0, { ...rested, random })),
    forget() {
      cancelRest()
      isAway = false
      isResting = false
      outages = 0
    },
  }
}
