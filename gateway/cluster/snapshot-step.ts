// The difference between two snapshots, for a worker that has the first. Records are replaced, never edited, so what is the same object did not change.
import type { EndpointRecord } from '../../domain/access/endpoint-record.ts'
import type { Snapshot } from '../../domain/access/snapshot.ts'

export type RecordChange = readonly [uid: string, record: EndpointRecord | null]

/** Records that `after` has anew, and those that are gone (null). Buckets that both share are not looked at. */
export function recordChanges(before: Snapshot, after: Snapshot): RecordChange[] {
  const changes: RecordChange[] = []
  after.endpoints.buckets.forEach((bucket, index) => {
    const old = before.endpoints.buckets[index]
    if (bucket === old) return
    for (const [uid, record] of bucket) if (old?.get(uid) !== record) changes.push([uid, record])
    for (const uid of old?.keys() ?? []) if (!bucket.has(uid)) changes.push([uid, null])
  })
  return changes
}

/** Cut into pieces that a channel carries without holding up what else it has to. */
export function inParts<T>(all: readonly T[], size: number): readonly (readonly T[])[] {
  const parts: (readonly T[])[] = []
  for (let at = 0; at < all.length; at += size) parts.push(all.slice(at, at + size))
  return parts
}
