// Waiting that can be cut short, on timers that are handed in.
import type { Timers } from '../../node/timers.ts'

/** Resolves after `ms`, or at once when `signal` is aborted. It never rejects. */
export function pause(timers: Timers, ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted === true) return Promise.resolve()
  return new Promise((resolve) => {
    const finish = () => {
      cancel()
      signal?.removeEventListener('abort', finish)
      resolve()
    }
    const cancel = timers.after(ms, finish)
    signal?.addEventListener('abort', finish)
  })
}
