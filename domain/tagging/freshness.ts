// How old something is that a device dates itself: it can't be younger than its report, and it falls due.

export const day = 86_400_000

/**
 * @param at ms, by the device
 * @param takenAt ms, when the EMS took it: a date in the future, by lie or by wrong clock, would never grow old
 * @returns `ends`: until when it is fresh; null: it is not
 */
export function ageOf(at: number, takenAt: number, withinMs: number, now: number): { readonly age: string; readonly ends: number | null } {
  const known = Math.min(at, takenAt)
  const ends = known + withinMs
  return { age: `on ${new Date(known).toISOString().slice(0, 10)}`, ends: ends > now ? ends : null }
}
