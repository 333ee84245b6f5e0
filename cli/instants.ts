// Instants and spans for people to read. Machines get ms since the epoch.

const MINUTE = 60_000

/** `2026-11-24T13:18:51Z`. */
export const at = (ms: number): string => new Date(ms).toISOString().replace(/\.\d{3}Z$/, 'Z')

/** `3 min ago`; in the future, `in 3 min`. */
export function ago(ms: number | null, now: number): string {
  if (ms === null) return 'never'
  const minutes = Math.round(Math.abs(now - ms) / MINUTE)
  if (minutes === 0) return ms > now ? 'in a moment' : 'just now'
  const span = minutes < 120 ? `${minutes} min` : minutes < 2 * 1440 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1440)} days`
  return ms > now ? `in ${span}` : `${span} ago`
}

export const atAndAgo = (ms: number, now: number): string => `${at(ms)} (${ago(ms, now)})`
