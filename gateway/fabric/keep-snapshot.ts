// Keeps the snapshot on disk as it changes: soon, not at once, and one write at a time. A full disk is said once and stops nothing.
import type { Log } from '../../node/logging.ts'
import type { Timers } from '../../node/timers.ts'
import type { Replica } from './replica.ts'
import { saveSnapshot, type Saved } from './snapshot-file.ts'

interface Options {
  readonly directory: string
  readonly serial: string
  readonly replica: Replica
  readonly timers: Timers
  readonly now: () => number
  readonly log: Log
}

/** Changes within this time are written together. */
const SETTLE_MS = 2_000

/** Follows the replica until `close`, which writes what is not yet written. */
export function keepSnapshot({ directory, serial, replica, timers, now, log }: Options): { close(): Promise<void> } {
  let last: Saved | null = null
  let failed = false
  let unsaved = false
  let writing: Promise<void> | null = null
  let cancel: (() => void) | null = null

  async function write(): Promise<void> {
    while (unsaved) {
      unsaved = false
      try {
        last = await saveSnapshot(directory, serial, replica.state(), now(), last)
        if (failed) log.info({ event: 'snapshot-saved-again' }, 'The snapshot can be kept on disk again.')
        failed = false
      } catch (cause) {
        // What is on disk now may be half of a pair: the next attempt writes both files.
        last = null
        if (!failed) log.error({ event: 'snapshot-not-saved', reason: cause instanceof Error ? cause.message : String(cause) }, 'The snapshot can not be kept on disk; the gateway goes on without.')
        failed = true
      }
    }
  }
  const save = (): Promise<void> => {
    cancel?.()
    cancel = null
    writing ??= write().finally(() => {
      writing = null
    })
    return writing
  }
  const saveSoon = () => {
    save().catch((cause: Error) => log.error({ event: 'snapshot-not-saved', reason: cause.message }, 'The snapshot can not be kept on disk; the gateway goes on without.'))
  }

  const leave = replica.onChange(() => {
    unsaved = true
    // Authority that was taken away must not come back from disk after a crash.
    if (replica.snapshot().currentAt === null) saveSoon()
    else cancel ??= timers.after(SETTLE_MS, saveSoon)
  })
  return {
    async close() {
      leave()
      await save()
    },
  }
}
