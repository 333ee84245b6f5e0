// The world as a worker knows it: steps of the primary's snapshot, applied in their order, and questions that the primary asks for it.
import type { EndpointRecord } from '../../domain/access/endpoint-record.ts'
import { emptySnapshot, nextSnapshot, type Snapshot } from '../../domain/access/snapshot.ts'
import { sharedTags, sharedUser } from '../fabric/shared-parts.ts'
import type { ChangeCause, Changed, World } from '../world.ts'
import type { FromWorker, SnapshotStep } from './messages.ts'

/** A record as it came over the channel, what it has in common with other devices shared with them again. */
const shared = (record: EndpointRecord | null): EndpointRecord | null => (record === null ? null : {
  ...record, ...sharedTags({ tags: [...record.tags].map(([uid, { validUntil }]) => [uid, validUntil] as const), unknown: [...record.unknown] }),
  ...(record.user === undefined ? {} : { user: sharedUser(record.user) }),
})

/** @param say to the primary */
export function createWorkerWorld(say: (message: FromWorker) => void) {
  let snapshot: Snapshot = emptySnapshot
  let parts = new Map<string, EndpointRecord | null>()
  const listeners = new Set<(changed: Changed, cause: ChangeCause) => void>()
  const asked = new Map<number, (answered: boolean) => void>()
  let questions = 0
  const gather = (records: SnapshotStep['records']) => {
    for (const [uid, record] of records) parts.set(uid, shared(record))
  }
  const world: World = {
    snapshot: () => snapshot,
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    lookup(uid) {
      const { promise, resolve } = Promise.withResolvers<boolean>()
      const question = ++questions
      asked.set(question, resolve)
      say({ event: 'lookup', question, uid })
      return promise
    },
  }
  return {
    world,
    part: gather,
    change({ step, records, revision, currentAt, tagNames, changed, cause }: SnapshotStep): void {
      gather(records)
      const endpoints = parts
      parts = new Map()
      snapshot = nextSnapshot(snapshot, { revision, currentAt, ...(endpoints.size === 0 ? {} : { endpoints }), ...(tagNames === undefined ? {} : { tagNames }) })
      for (const listener of listeners) listener(changed, cause)
      // Sessions have been decided again: only now is it applied.
      say({ event: 'applied', step })
    },
    answer(question: number, answered: boolean): void {
      asked.get(question)?.(answered)
      asked.delete(question)
    },
  }
}
