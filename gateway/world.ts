// What the proxy knows of the world: an immutable snapshot, word of its changes, and a question for what is missing. How it is kept is the fabric's business.
import type { Snapshot } from '../domain/access/snapshot.ts'

/** UIDs of the endpoints that changed, or `all` when tags were renamed or everything was loaded anew. */
export type Changed = ReadonlySet<string> | 'all'

/** Why the snapshot changed. `at`: ms when the EMS accepted the cause, on the EMS's clock corrected to ours; absent when not known. */
export interface ChangeCause { readonly at?: number }

export interface World {
  /** The snapshot of this moment; a reader keeps the reference for as long as one decision takes. */
  snapshot(): Snapshot
  /**
   * Calls `listener` after the reference has been replaced, in the same tick. `currentAt` advancing alone calls with an empty set.
   * @returns takes the listener away
   */
  onChange(listener: (changed: Changed, cause: ChangeCause) => void): () => void
  /** Asks the EMS for one endpoint, 500 ms at most; the answer, if any, is in {@link snapshot} afterwards. Never rejects. @returns whether it has answered */
  lookup(uid: string): Promise<boolean>
}
