// Seats: a budget that the organisation sets itself. Fewer seats than taken throws nobody out; no new seat until under.
import type { Licence, LicenceState } from '../../protocol/profile.ts'

export type SeatVerdict = { readonly ok: true } | { readonly ok: false; readonly reason: 'no-seat-free' | 'licence-expired' }

/** Whether one more endpoint may be seated. */
export function seatFor(licence: Pick<Licence, 'seats' | 'endsAt'>, taken: number, now: number): SeatVerdict {
  if (licence.endsAt !== null && licence.endsAt <= now) return { ok: false, reason: 'licence-expired' }
  return licence.seats === null || taken < licence.seats ? { ok: true } : { ok: false, reason: 'no-seat-free' }
}

/** What an endpoint that has a seat is told. */
export const licenceStateOf = (licence: Pick<Licence, 'features' | 'endsAt'>, now: number): LicenceState =>
  ({ state: licence.endsAt !== null && licence.endsAt <= now ? 'expired' : 'seated', features: licence.features, endsAt: licence.endsAt })
