// Delays, handed in so that tests hold the clock. It measures nothing.

export interface Timers {
  /** Runs `action` once after `delayMs`; the result takes it back. */
  after(delayMs: number, action: () => void): () => void
}

/** The machine's own timers; they do not keep the process alive. */
export const systemTimers: Timers = {
  after(delayMs, action) {
    const timer = setTimeout(action, delayMs)
    timer.unref()
    return () => clearTimeout(timer)
  },
}

/** The same, but the process stays until they have run: for what must be done before it ends. */
export const holdingTimers: Timers = {
  after(delayMs, action) {
    const timer = setTimeout(action, delayMs)
    return () => clearTimeout(timer)
  },
}
