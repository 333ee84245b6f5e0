// A daemon from start to signal: SIGTERM and SIGINT close it cleanly, also while it is still starting; a second signal ends it at once.
import type { Log } from './logging.ts'

/** At a terminal npm passes on the signal that the program has from there already: one wish, and no second. */
const SAME_WISH_MS = 500

export interface Closable { close(): Promise<void> }

/**
 * Starts, waits for a signal, closes.
 * @param start gets a signal that is aborted with the first one, so that what may wait for ever (an authorisation) can be called off; null: it has ended by itself
 * @returns the exit code; rejects with what `start` throws, unless it was called off
 */
export async function runUntilSignal(start: (stopping: AbortSignal) => Promise<Closable | null>, log?: Log): Promise<number> {
  const stopping = new AbortController()
  let firstAt = 0
  const signalled = new Promise<void>((resolve) => {
    const stop = (name: string) => {
      if (stopping.signal.aborted) {
        if (performance.now() - firstAt < SAME_WISH_MS) return
        process.exit(1)
      }
      firstAt = performance.now()
      log?.info({ event: 'stopping', signal: name }, 'Stopping.')
      stopping.abort()
      resolve()
    }
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, () => stop(name))
  })
  let running: Closable | null
  try {
    running = await start(stopping.signal)
  } catch (cause) {
    if (stopping.signal.aborted) return 0
    throw cause
  }
  if (running === null) return 0
  await signalled
  await running.close()
  return 0
}
