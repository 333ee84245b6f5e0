// Delays, handed in so that deadlines can be driven by another clock. It measures nothing.

export interface Timers {
  /** Runs `action` once after `delayMs`; the result takes it back. */
  after(delayMs: number, action: () => void): () => void
}

/** The machine's own timers; they keep no process alive. */
export const systemTimers: Timers = {
  after(delayMs, action) {
    const timer = setTimeout(action, delayMs)
    timer.unref()
    return () => clearTimeout(timer)
  },
}
