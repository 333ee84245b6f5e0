// The world as a gateway believes it at one revision: immutable, and cheap to follow by the next. It judges nothing.
import type { EndpointRecord } from './endpoint-record.ts'
import { emptyShardedMap, shardedGet, shardedValues, shardedWith, type ShardedMap } from './sharded-map.ts'

export interface Snapshot {
  /** Watermark of the EMS's change log that it stands for; `''` before anything was told. */
  readonly revision: string
  /** ms when the EMS last said that this is all (`current`); null: never. A snapshot read from disk keeps its old one. */
  readonly currentAt: number | null
  readonly endpoints: ShardedMap<EndpointRecord>
  /** Certificate serial → UID. */
  readonly bySerial: ShardedMap<string>
  /** Tag name → tag UIDs: tags of different types may share a name. */
  readonly tagsByName: ReadonlyMap<string, readonly string[]>
  /** Tag UID → name. */
  readonly tagNames: ReadonlyMap<string, string>
}

/** What makes the next snapshot. Whatever is left out stays. */
export interface SnapshotChanges {
  readonly revision?: string
  readonly currentAt?: number | null
  /** Whole records by UID; null: it has left this gateway's sight. */
  readonly endpoints?: ReadonlyMap<string, EndpointRecord | null>
  /** True when `endpoints` is everything (a reload): what it does not name is gone. */
  readonly whole?: boolean
  /** All tags, UID → name. */
  readonly tagNames?: ReadonlyMap<string, string>
}

export const emptySnapshot: Snapshot = {
  revision: '', currentAt: null, endpoints: emptyShardedMap(), bySerial: emptyShardedMap(), tagsByName: new Map(), tagNames: new Map(),
}

export const endpointByUid = (snapshot: Snapshot, uid: string): EndpointRecord | undefined => shardedGet(snapshot.endpoints, uid)
export const uidBySerial = (snapshot: Snapshot, serial: string): string | undefined => shardedGet(snapshot.bySerial, serial)
export const endpointCount = (snapshot: Snapshot): number => snapshot.endpoints.size
/** Every endpoint, in no particular order. */
export const allEndpoints = (snapshot: Snapshot): Iterable<EndpointRecord> => shardedValues(snapshot.endpoints)

function byName(tagNames: ReadonlyMap<string, string>): Map<string, string[]> {
  const index = new Map<string, string[]>()
  for (const [uid, name] of tagNames) index.set(name, [...index.get(name) ?? [], uid])
  return index
}

/** The snapshot after `changes`. Records and buckets that nothing touched are shared with `previous`. */
export function nextSnapshot(previous: Snapshot, changes: SnapshotChanges): Snapshot {
  const base = changes.whole === true ? { ...previous, endpoints: emptySnapshot.endpoints, bySerial: emptySnapshot.bySerial } : previous
  const gone: [string, null][] = []
  const come: [string, string][] = []
  for (const [uid, record] of changes.endpoints ?? []) {
    for (const { serial } of endpointByUid(base, uid)?.certificates ?? []) {
      if (uidBySerial(base, serial) === uid) gone.push([serial, null])
    }
    for (const { serial } of record?.certificates ?? []) come.push([serial, uid])
  }
  return {
    revision: changes.revision ?? previous.revision,
    currentAt: changes.currentAt === undefined ? previous.currentAt : changes.currentAt,
    endpoints: changes.endpoints === undefined ? base.endpoints : shardedWith(base.endpoints, changes.endpoints),
    bySerial: gone.length + come.length === 0 ? base.bySerial : shardedWith(base.bySerial, [...gone, ...come]),
    tagNames: changes.tagNames ?? previous.tagNames,
    tagsByName: changes.tagNames === undefined ? previous.tagsByName : byName(changes.tagNames),
  }
}
