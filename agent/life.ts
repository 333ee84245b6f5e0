// How a running agent ends: whatever has been begun is undone, the last first, once, whoever asks for it and however far it had come.
import type { Log } from '../node/logging.ts'
import type { Timers } from '../node/timers.ts'

export type Ended = 'closed' | 'deregistered'
export interface Life {
  /** How it ended; rejects when the agent itself is defective. */
  readonly ended: Promise<Ended>
  isEnding(): boolean
  /** Remembers how to undo what has just been begun. */
  begun(undo: () => Promise<unknown> | void): void
  /**
   * Ends it, the first time that it is called; resolves when all is undone.
   * @param before done first of all, `after` when nothing is left that could undo it
   */
  finish(how: Ended | { readonly defect: unknown }, steps?: { before?: () => Promise<unknown>; after?: () => Promise<unknown> }): Promise<void>
}

/** A look at a dead network mount never ends: the key has to go all the same. */
const STEP_LIMIT_MS = 10_000

/** @param release gives back the lock on the state: the very last step */
export function createLife({ release, timers, log }: { release: () => void; timers: Timers; log: Log }): Life {
  const undo: (() => Promise<unknown> | void)[] = []
  const end = Promise.withResolvers<Ended>()
  // Whoever never looks at how it ended must not be told by the process falling over.
  end.promise.catch(() => undefined)
  let ending: Promise<void> | null = null

  /** One part that can not be closed, or not now, must not keep the others open. */
  async function take(step: () => Promise<unknown> | void, failures: unknown[]): Promise<void> {
    const { promise: late, resolve } = Promise.withResolvers<void>()
    const cancel = timers.after(STEP_LIMIT_MS, () => {
      log.error({ event: 'not-closed' }, 'A part of the agent does not end; the others are not kept waiting.')
      resolve()
    })
    await Promise.race([Promise.resolve().then(step).catch((cause: unknown) => { failures.push(cause) }), late])
    cancel()
  }

  async function endNow(how: Ended | { readonly defect: unknown }, { before, after }: { before?: () => Promise<unknown>; after?: () => Promise<unknown> }): Promise<void> {
    const failures: unknown[] = typeof how === 'string' ? [] : [how.defect]
    for (const step of [before, ...undo.splice(0).reverse(), after, release]) if (step !== undefined) await take(step, failures)
    for (const cause of failures) log.fatal({ event: 'defect', reason: cause instanceof Error ? cause.stack : String(cause) }, 'The agent is defective here; it has stopped.')
    if (typeof how === 'string' && failures.length === 0) end.resolve(how)
    else end.reject(failures[0])
  }

  return {
    ended: end.promise,
    isEnding: () => ending !== null,
    begun: (action) => { undo.push(action) },
    finish: (how, steps = {}) => (ending ??= endNow(how, steps)),
  }
}
