// An immutable map over keys that end in hex digits; the next version copies one bucket in 256, not 50,000 entries. It keeps no order.

const BUCKETS = 256

export interface ShardedMap<V> {
  readonly size: number
  readonly buckets: readonly ReadonlyMap<string, V>[]
}

const hexDigit = (code: number): number => (code >= 48 && code <= 57 ? code - 48 : (code | 32) >= 97 && (code | 32) <= 102 ? (code | 32) - 87 : 0)
/** By the last two hex digits; what is no hex digit counts as 0. No string is made of them: this runs for every decision. */
const bucketOf = (key: string): number => hexDigit(key.charCodeAt(key.length - 2)) * 16 + hexDigit(key.charCodeAt(key.length - 1))

export const emptyShardedMap = <V>(): ShardedMap<V> => ({ size: 0, buckets: Array.from({ length: BUCKETS }, () => new Map<string, V>()) })

export const shardedGet = <V>(map: ShardedMap<V>, key: string): V | undefined => map.buckets[bucketOf(key)]?.get(key)

/** Where a key's value stands; while {@link isStillAt} holds, that value is still the key's. */
export interface Place<V> { readonly index: number; readonly bucket: ReadonlyMap<string, V> | undefined }
export function placeOf<V>(map: ShardedMap<V>, key: string): Place<V> {
  const index = bucketOf(key)
  return { index, bucket: map.buckets[index] }
}
export const isStillAt = <V>(map: ShardedMap<V>, { index, bucket }: Place<V>): boolean => map.buckets[index] === bucket

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
