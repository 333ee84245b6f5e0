// Who claims an address: an index over the snapshot, kept in step with it at the cost of what changed. A claim opens nothing by itself.
import type { EndpointRecord } from '../../domain/access/endpoint-record.ts'
import { emptySnapshot, endpointByUid, type Snapshot } from '../../domain/access/snapshot.ts'
import type { Changed } from '../world.ts'

export interface Claims {
  /** Records of the devices that claim an address. */
  claimantsOf(address: string): EndpointRecord[]
  /**
   * Follows to another snapshot.
   * @returns addresses and MACs that the changed devices claim or claimed; none for `all`, which concerns every one
   */
  follow(next: Snapshot, changed: Changed): Set<string>
}

export function createClaims(): Claims {
  let indexed = emptySnapshot
  /** Nearly every address has one claimant, and its UID stands here alone; a few have thousands (172.17.0.1 of every container host). */
  const byAddress = new Map<string, string | Set<string>>()

  const uidsOf = (address: string): Iterable<string> => {
    const held = byAddress.get(address)
    return typeof held === 'string' ? [held] : held ?? []
  }
  const add = (address: string, uid: string) => {
    const held = byAddress.get(address)
    if (held instanceof Set) held.add(uid)
    else byAddress.set(address, held === undefined || held === uid ? uid : new Set([held, uid]))
  }
  const drop = (address: string, uid: string) => {
    const held = byAddress.get(address)
    if (held instanceof Set) held.delete(uid)
    if (held === uid || (held instanceof Set && held.size === 0)) byAddress.delete(address)
  }

  function take(before: EndpointRecord | undefined, after: EndpointRecord | undefined): void {
    if (before === after) return
    const uid = (after ?? before)?.uid ?? ''
    for (const address of before?.addresses ?? []) if (!after?.addresses.includes(address)) drop(address, uid)
    for (const address of after?.addresses ?? []) if (!before?.addresses.includes(address)) add(address, uid)
  }

  return {
    claimantsOf: (address) => Array.from(uidsOf(address), (uid) => endpointByUid(indexed, uid)).filter((record) => record !== undefined),
    follow(next, changed) {
      const touched = new Set<string>()
      if (changed !== 'all') {
        for (const uid of changed) {
          const [before, after] = [endpointByUid(indexed, uid), endpointByUid(next, uid)]
          take(before, after)
          for (const record of [before, after]) for (const element of [...record?.addresses ?? [], ...record?.macs ?? []]) touched.add(element)
        }
      } else {
        for (const [index, bucket] of next.endpoints.buckets.entries()) {
          const old = indexed.endpoints.buckets[index] ?? new Map<string, EndpointRecord>()
          // Buckets that nothing touched are the same object.
          if (old === bucket) continue
          for (const [uid, record] of old) take(record, bucket.get(uid))
          for (const [uid, record] of bucket) if (!old.has(uid)) take(undefined, record)
        }
      }
      indexed = next
      return touched
    },
  }
}
