// An immutable map over keys that end in hex digits; the next version copies one bucket in 256, not 50,000 entries. It keeps no order.

const BUCKETS = 256

export interface ShardedMap<V> {
  readonly size: number
  readonly buckets: readonly ReadonlyMap<string, V>[]
}

const bucketOf = (key: string): number => {
  const bucket = Number.parseInt(key.slice(-2), 16)
  return Number.isNaN(bucket) ? 0 : bucket
}

export const emptyShardedMap = <V>(): ShardedMap<V> => ({ size: 0, buckets: Array.from({ length: BUCKETS }, () => new Map<string, V>()) })

export const shardedGet = <V>(map: ShardedMap<V>, key: string): V | undefined => map.buckets[bucketOf(key)]?.get(key)

/** Every value, in no particular order. */
export function* shardedValues<V>(map: ShardedMap<V>): Generator<V> {
  for (const bucket of map.buckets) yield* bucket.values()
}

/** The next version; null removes. Buckets that nothing touched are shared with `map`. */
export function shardedWith<V>(map: ShardedMap<V>, entries: Iterable<readonly [string, V | null]>): ShardedMap<V> {
  const buckets = [...map.buckets]
  const own = new Map<number, Map<string, V>>()
  let size = map.size
  for (const [key, value] of entries) {
    const index = bucketOf(key)
    let bucket = own.get(index)
    if (bucket === undefined) {
      bucket = new Map(buckets[index])
      own.set(index, bucket)
      buckets[index] = bucket
    }
    const before = bucket.size
    if (value === null) bucket.delete(key)
    else bucket.set(key, value)
    size += bucket.size - before
  }
  return { size, buckets }
}
