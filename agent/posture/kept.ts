// Keeps what was read of the machine while the files it was read from are the same. A change within one tick of the file system's clock is not missed.
import type { BigIntStats } from 'node:fs'
import { stat } from 'node:fs/promises'
import { tellsOfFile } from './read.ts'

/**
 * Reads anew when one of the paths is another than it was: by number, size or times (ctime, which an owner can't set back). What is not there counts too.
 * null is never kept: it may have been a command that took too long.
 */
export type Kept<T> = (key: string, paths: readonly string[], read: () => Promise<T>) => Promise<T>

interface Entry<T> { readonly signature: string; readonly seenAt: number; readonly readAt: number; readonly value: T }

/** Two writes within one tick look alike: what was read this soon after it was first seen is read once more. */
const SETTLED_MS = 2_000
const MOST_KEYS = 512

const signatureOf = ({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string => `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`

async function stamp(path: string): Promise<string> {
  try {
    return signatureOf(await stat(path, { bigint: true }))
  } catch (cause) {
    if (tellsOfFile(cause)) return (cause as NodeJS.ErrnoException).code ?? ''
    throw cause
  }
}

/** @param clock ms, never set back */
export function createKept<T>(clock: () => number = () => performance.now()): Kept<T> {
  const entries = new Map<string, Entry<T>>()
  return async (key, paths, read) => {
    const signature = (await Promise.all(paths.map(stamp))).join(' ')
    const before = entries.get(key)
    const same = before?.signature === signature
    if (same && before.readAt - before.seenAt >= SETTLED_MS) return before.value
    const readAt = clock()
    const value = await read()
    entries.delete(key)
    if (value === null) return value
    entries.set(key, { signature, seenAt: same ? before.seenAt : readAt, readAt, value })
    for (const oldest of entries.keys()) {
      if (entries.size <= MOST_KEYS) break
      entries.delete(oldest)
    }
    return value
  }
}
