// A state file whose disk may be full or read-only: what it should hold stays in memory, it is said, and it is written as soon as that works.
import { writeJson } from '../node/key-store.ts'
import { systemFailure } from './failure.ts'
import type { Timers } from '../node/timers.ts'
import type { Troubles } from './troubles.ts'

export interface KeptFile<T> {
  /** Resolves when it is on disk, or when it has been said that it could not be put there. Throws only what is no failure of the system. */
  write(value: T): Promise<void>
  /** Tries once more what is not on disk yet; writes nothing afterwards. */
  close(): Promise<void>
}

const RETRY_MS = 15_000

/** Keeps one file; several writes at once end with the last of them. */
export function keepFile<T>({ path, timers, troubles, onDefect, write = writeJson }: {
  path: string; timers: Timers; troubles: Troubles; onDefect: (cause: unknown) => void; write?: (path: string, value: unknown) => Promise<void>
}): KeptFile<T> {
  let unwritten: { readonly value: T } | null = null
  let writing: Promise<void> = Promise.resolve()
  let cancelRetry = () => {}
  let closed = false

  async function attempt(): Promise<void> {
    cancelRetry()
    const taken = unwritten
    if (taken === null) return
    try {
      await write(path, taken.value)
    } catch (cause) {
      const reason = systemFailure(cause)
      if (reason === null) throw cause
      troubles.raise('storage', `${path} can not be written: ${reason} Until then a restart begins from what was written last.`)
      if (!closed) cancelRetry = timers.after(RETRY_MS, () => { next().catch(onDefect) })
      return
    }
    if (unwritten === taken) unwritten = null
    troubles.clear('storage')
  }
  const next = (): Promise<void> => {
    const turn = writing.then(attempt)
    writing = turn.catch(() => undefined) // whoever asked hears of it; the next write must not
    return turn
  }

  return {
    async write(value) {
      if (closed) return
      unwritten = { value }
      await next()
    },
    async close() {
      closed = true
      cancelRetry()
      await next()
    },
  }
}
