// Timers that a test winds on by hand. What they start is given the turns of the event loop that it needs before the next one is due.
import type { Timers } from '../../node/timers.ts'

export interface ManualTimers extends Timers {
  /** Delays that are waiting, in ms from now, the next first. */
  waiting(): number[]
  /** Lets time pass; what becomes due meanwhile runs in order. */
  advance(ms: number): Promise<void>
}

/** Whole turns of the event loop that follow each timer. What takes its own time (files, sockets) may need more: whoever waits for that waits for it by itself. */
const TURNS = 3
const settle = async () => { for (let turn = 0; turn < TURNS; turn++) await new Promise((resolve) => { setTimeout(() => { setImmediate(resolve) }, 0) }) }

export function manualTimers(): ManualTimers {
  let now = 0
  const due = new Set<{ at: number; action: () => void }>()
  return {
    after(delayMs, action) {
      const entry = { at: now + delayMs, action }
      due.add(entry)
      return () => { due.delete(entry) }
    },
    waiting: () => [...due].map(({ at }) => at - now).sort((a, b) => a - b),
    async advance(ms) {
      const end = now + ms
      for (;;) {
        const [next] = [...due].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)
        if (next === undefined) break
        due.delete(next)
        now = next.at
        next.action()
        await settle()
      }
      now = end
      await settle()
    },
  }
}
