// Follows the sources that an administrator named: looks whether they have something new, and takes their word over whole. One that fails is said once, and what it said ends by itself.
import type { Log } from '../../../node/logging.ts'
import type { Timers } from '../../../node/timers.ts'
import type { Source } from './read-source.ts'
import type { ToldSights } from './told-sights.ts'

interface Options {
  readonly sources: readonly Source[]
  readonly sights: ToldSights
  readonly timers: Timers
  /** ms. */
  readonly now: () => number
  readonly log: Log
}

/** Resolves when each has been asked once. */
export async function followSources({ sources, sights, timers, now, log }: Options): Promise<{ close(): void }> {
  const cancels = new Map<Source, () => void>()
  let closed = false

  function follower(source: Source): () => Promise<void> {
    let seen: string | null = null
    let failed = false
    let skippedBefore = 0
    async function look(): Promise<void> {
      // Before it is read: what is written meanwhile is read the next time.
      const version = await source.version()
      if (version !== null && version === seen) return
      const { sights: told, skipped } = await source.read(now())
      seen = version
      if (closed) return
      if (skipped !== skippedBefore && skipped > 0) log.warn({ event: 'sights-skipped', source: source.name, skipped, taken: told.length }, 'Some of what a source of sights lists is no sight; the rest is taken.')
      skippedBefore = skipped
      sights.replace(source.name, told)
    }
    async function turn(): Promise<void> {
      try {
        await look()
        if (failed) log.info({ event: 'sight-source-back', source: source.name }, 'A source of sights can be read again.')
        failed = false
      } catch (cause) {
        if (!failed && !closed) log.error({ event: 'sight-source-failed', source: source.name, reason: cause instanceof Error ? cause.message : String(cause) }, 'A source of sights can not be read; what it told ends by itself.')
        failed = true
        seen = null
      }
      // It never rejects: nobody would hear.
      if (!closed) cancels.set(source, timers.after(source.everyMs, () => void turn()))
    }
    return turn
  }

  await Promise.all(sources.map((source) => follower(source)()))
  return {
    close() {
      closed = true
      for (const cancel of cancels.values()) cancel()
    },
  }
}
