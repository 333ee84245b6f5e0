// Where a reader of a report table stands: opaque offsets, and whether a watermark can be continued. Pure.
import type { Cursor } from './follow.ts'

/** The last row given: its revision and UID, within one history of the store and, where it matters, one set of endpoints asked for. */
export interface Place { readonly revision: number; readonly uid: string; readonly epoch: string }

export const writePlace = ({ revision, uid, epoch }: Place): string => `${revision}.${uid}.${epoch}`
export function readPlace(text: string): Place | null {
  const match = /^(\d{1,16})\.([^.]*)\.((?:[0-9a-f]{6}){1,2})$/.exec(text)
  return match === null ? null : { revision: Number(match[1]), uid: match[2] ?? '', epoch: match[3] ?? '' }
}

export interface Standing { readonly cursor: Cursor; readonly floor: number }
/**
 * Whether increments after `since` can be told.
 * @param markInLog the mark that the log has at that revision; null when the row is gone (trimmed, or never was in this history)
 */
export function continues(since: Cursor | null, { cursor, floor }: Standing, markInLog: string | null): boolean {
  if (since === null || since.revision < floor || since.revision > cursor.revision) return false
  return since.revision === cursor.revision ? since.mark === cursor.mark : since.mark === markInLog
}

/** The first items whose JSON fits in `maxBytes`, at least one, and their size. */
export function fitting<T>(items: readonly T[], sizeOf: (item: T) => number, maxBytes: number): { taken: T[]; bytes: number } {
  const taken: T[] = []
  let bytes = 2
  for (const item of items) {
    const size = sizeOf(item)
    if (taken.length > 0 && bytes + size > maxBytes) break
    taken.push(item)
    bytes += size
  }
  return { taken, bytes }
}
