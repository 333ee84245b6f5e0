// How a follower of the log goes on: from the slice that a poke carries, or from the log, or anew. Pure.
import type { LogRow } from './log-entry.ts'

export interface Cursor { readonly revision: number; readonly mark: string }
export type Step =
  /** These rows are all that is new. */
  | { readonly kind: 'apply'; readonly rows: readonly LogRow[] }
  /** The slice does not reach back to the cursor: read the log. */
  | { readonly kind: 'gap' }
  /** The cursor's revision is there under another mark: the database was restored; load anew. */
  | { readonly kind: 'restored' }

/** @param tail contiguous and ascending, ending at the head of the log */
export function stepFrom(cursor: Cursor | null, tail: readonly LogRow[]): Step {
  if (cursor === null) return { kind: 'gap' }
  const at = tail.findIndex(({ revision }) => revision === cursor.revision)
  if (at >= 0) return tail[at]?.mark === cursor.mark ? { kind: 'apply', rows: tail.slice(at + 1) } : { kind: 'restored' }
  // Not in the slice: more came between than it holds, or it was overtaken by a later one, or the database was restored. The log itself says which.
  return { kind: 'gap' }
}
