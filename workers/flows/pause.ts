// How long the re-evaluation leaves the database to others after a step: not at all while nobody else asks, up to as long as the step took while reports wait. Told by how much longer its own questions took than they do in quiet. Pure.

/** Each millisecond that the database took longer than in quiet is worth so many of pause. */
const PAUSE_FOR_WAITING = 5
/** So much longer than before quiet is taken to be with each step: what was once quiet may be so no more. */
const QUIET_GROWS = 1.02

/** What the database takes when nobody else asks, as far as it is learned: ms for the first, tiny question of a step, and for each endpoint of a page (null: none was read yet). */
export interface Quiet { readonly tripMs: number; readonly endpointMs: number | null }
/** Endpoints that a step read, and ms until the database had given them. */
export interface ReadTrips { readonly endpoints: number; readonly ms: number }
export const nothingRead: ReadTrips = { endpoints: 0, ms: 0 }

/**
 * @param quiet as learned so far; undefined: this is the first step
 * @param tookMs the whole step: the pause is never longer
 */
export function pauseAfter({ quiet, tripMs, read, tookMs }: { quiet: Quiet | undefined; tripMs: number; read: ReadTrips; tookMs: number }): { readonly pauseMs: number; readonly quiet: Quiet } {
  const endpointMs = read.endpoints === 0 ? null : read.ms / read.endpoints
  const learned = { tripMs: least(tripMs, quiet?.tripMs ?? null) ?? tripMs, endpointMs: least(endpointMs, quiet?.endpointMs ?? null) }
  const waitedMs = tripMs - learned.tripMs + (read.ms - read.endpoints * (learned.endpointMs ?? 0))
  return { pauseMs: Math.round(Math.max(0, Math.min(tookMs, waitedMs * PAUSE_FOR_WAITING))), quiet: learned }
}
const least = (now: number | null, before: number | null): number | null => (now === null || before === null ? now ?? before : Math.min(now, before * QUIET_GROWS))
