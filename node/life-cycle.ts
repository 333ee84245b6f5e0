// A daemon from start to signal: SIGTERM and SIGINT close it cleanly, a second signal ends it at once.
import type { Log } from './logging.ts'

export interface Closable { close(): Promise<void> }

/** Starts, waits for a signal, closes. Resolves with the exit code. */
export async function runUntilSignal(start: () => Promise<Closable>, log?: Log): Promise<number> {
  const running = await start()
  const signal = await new Promise<string>((resolve) => {
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => resolve(name))
  })
  log?.info({ event: 'stopping', signal }, 'Stopping.')
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => process.exit(1))
  await running.close()
  return 0
}
