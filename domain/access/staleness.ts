// How long a gateway may go on with what it knows while the EMS is silent. The clock restarts only at `current`.

export type Staleness = { readonly ok: true; readonly until: number } | { readonly ok: false; readonly reason: 'snapshot-missing' | 'snapshot-stale' }

/** A clock that was set back would make old news look fresh; this much (ms) is forgiven. */
export const MAX_AHEAD_MS = 60_000

/**
 * Until `afterMs` nothing changes. Then new sessions are refused; open ones are kept for `holdMs` more (0: `deny`).
 * @param currentAt ms when the EMS last said that this is all; null: never. What lies further ahead of `now` than a little was said by another clock, and how old it is can't be told
 * @returns `until`: ms at which this answer ends
 */
export function staleness(currentAt: number | null, { afterMs, holdMs }: { readonly afterMs: number; readonly holdMs: number }, event: 'decide' | 'recheck', now: number): Staleness {
  if (currentAt === null) return { ok: false, reason: 'snapshot-missing' }
  if (currentAt > now + MAX_AHEAD_MS) return { ok: false, reason: 'snapshot-stale' }
  const staleAt = currentAt + afterMs
  const deniedAt = staleAt + holdMs
  if (now >= (event === 'decide' ? staleAt : deniedAt)) return { ok: false, reason: 'snapshot-stale' }
  // A session that is open when it becomes stale is held: its own end is what counts.
  return { ok: true, until: deniedAt }
}
