// Delays, handed in so that tests hold the clock. It measures nothing.

export interface Timers {
  /** Runs `action` once after `delayMs`; the result takes it back. Must not keep the process alive. */
  after(delayMs: number, action: () => void): () => void
}

/** The machine's own timers. */
export const systemTimers: Timers = {
  after(delayMs, action) {
    const timer = setTimeout(action, delayMs)
    timer.unref()
    return () => clearTimeout(timer)
  },
}
