// Which tables must be read, and reading them one after the other until none is left. What could not be read is tried again, never forgotten.
import { jitteredBackoff } from '../../node/backoff.ts'
import type { ControlClient } from '../../node/control-client.ts'
import type { Log } from '../../node/logging.ts'
import { endpointCount } from '../../domain/access/snapshot.ts'
import { Fault, type FaultCode } from '../../protocol/faults.ts'
import { hostTags } from '../../protocol/operations/fabric.ts'
import type { Timers } from '../../node/timers.ts'
import type { ChangeCause } from '../world.ts'
import { pause } from './pause.ts'
import { createTablePull } from './pull.ts'
import { tagNamesOf } from './records.ts'
import { followedTables, type FollowedTable, type Replica } from './replica.ts'
import { systemTable, tagTable } from './tables.ts'

interface Options {
  readonly client: ControlClient
  readonly replica: Replica
  readonly timers: Timers
  readonly log: Log
  readonly signal: AbortSignal
  /** A table has been read to its end. */
  readonly onRead: (table: FollowedTable) => void
  /** Nothing is left to read. */
  readonly onClean: () => void
  /** The EMS says that this gateway may read nothing. */
  readonly onRefused: (code: FaultCode) => void
}

export interface Pulls {
  /** Asks for a table to be read. @param upTo watermark that a notice named; for the table that has none of its own */
  want(table: FollowedTable, why: ChangeCause & { readonly upTo?: string; readonly anew?: boolean }): void
  isClean(table?: FollowedTable): boolean
  /** Calls `onClean` now if nothing is left to read; else it is called when that is so. */
  tellWhenClean(): void
  /** Forgets what was asked for and how far it got. */
  restart(): void
  /** Resolves when what is under way has ended, after `signal` was aborted. */
  settled(): Promise<void>
}

/** Codes by which the EMS takes a gateway's right to know away. */
export const authorityLost: ReadonlySet<FaultCode> = new Set(['not_authorised', 'certificate_revoked'])

export function createPulls({ client, replica, timers, log, signal, onRead, onClean, onRefused }: Options): Pulls {
  const heldCount = () => endpointCount(replica.snapshot())
  const paged = {
    sysinfo: createTablePull({ table: systemTable, client, replica, heldCount, log }),
    uid_tags: createTablePull({ table: tagTable, client, replica, heldCount: () => heldWithTags(replica), log }),
  }
  const wanted = new Map<FollowedTable, ChangeCause & { readonly upTo?: string }>()
  let reading: FollowedTable | null = null
  let running: Promise<void> | null = null
  let era = 0

  async function read(table: FollowedTable, why: ChangeCause & { readonly upTo?: string }): Promise<void> {
    if (table !== 'host_tags') return await paged[table].run(why)
    const began = era
    const { data } = await client.call(hostTags)
    if (era !== began) return
    replica.commit((draft) => {
      draft.wholeTagNames(tagNamesOf(data.data))
      if (why.upTo !== undefined) draft.hold('host_tags', why.upTo)
    }, why)
  }

  async function drain(): Promise<void> {
    let failures = 0
    while (!signal.aborted) {
      const table = followedTables.find((each) => wanted.has(each))
      if (table === undefined) return
      const why = wanted.get(table) ?? {}
      const began = era
      wanted.delete(table)
      reading = table
      try {
        await read(table, why)
        failures = 0
        if (era === began) onRead(table)
      } catch (cause) {
        if (!(cause instanceof Fault)) throw cause
        if (era !== began) continue
        if (authorityLost.has(cause.code)) return onRefused(cause.code)
        wanted.set(table, { ...why, ...wanted.get(table) })
        if (failures === 0) log.warn({ event: 'pull-failed', table, reason: cause.message }, 'A table could not be read; it will be tried again.')
        await pause(timers, jitteredBackoff(failures++), signal)
      } finally {
        reading = null
      }
    }
  }

  function start(): void {
    running ??= drain()
      .catch((cause: Error) => log.error({ event: 'pull-broken', reason: cause.message, stack: cause.stack }, 'Reading from the EMS failed inside the gateway; what is known grows stale.'))
      .then(() => {
        running = null
        if (signal.aborted) return
        if (wanted.size > 0) start()
        else onClean()
      })
  }

  const isClean = () => wanted.size === 0 && running === null
  return {
    tellWhenClean() {
      if (isClean()) onClean()
    },
    want(table, { anew = false, ...why }) {
      if (anew && table !== 'host_tags') paged[table].restart()
      const before = wanted.get(table)
      // The oldest cause is what propagation is measured from.
      wanted.set(table, { ...before, ...why, ...(before?.at === undefined ? {} : { at: before.at }) })
      start()
    },
    isClean: (table) => (table === undefined ? isClean() : !wanted.has(table) && reading !== table),
    restart() {
      era++
      wanted.clear()
      paged.sysinfo.restart()
      paged.uid_tags.restart()
    },
    settled: async () => await running ?? undefined,
  }
}

function heldWithTags(replica: Replica): number {
  let count = 0
  for (const bucket of replica.snapshot().endpoints.buckets) for (const record of bucket.values()) if (record.tagsKnown) count++
  return count
}
