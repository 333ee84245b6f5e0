// A clock that moves only when the test says so, and the timers that go by it.
import type { Timers } from '../../../node/timers.ts'

export interface HeldClock { readonly now: () => number; readonly timers: Timers; advance(ms: number): void }

export function heldClock(start: number): HeldClock {
  let now = start
  const waiting = new Set<{ at: number; action: () => void }>()
  return {
    now: () => now,
    timers: {
      after(delayMs, action) {
        const entry = { at: now + delayMs, action }
        waiting.add(entry)
        return () => {
          waiting.delete(entry)
        }
      },
    },
    advance(ms) {
      const end = now + ms
      for (;;) {
        const [next] = [...waiting].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)
        if (next === undefined) break
        waiting.delete(next)
        now = Math.max(now, next.at)
        next.action()
      }
      now = end
    },
  }
}
