// Seats: who is seated, who is not, and who is never thrown out.
import { describe, expect, it } from 'vitest'
import { licenceStateOf, seatFor } from '../../../domain/licensing/seat.ts'

const now = 1_790_000_000_000

describe('a seat', () => {
  it('is free while fewer are taken than there are', () => {
    const seats = (count: number | null, taken: number) => seatFor({ seats: count, endsAt: null }, taken, now)
    expect([seats(2, 1), seats(null, 1_000_000)]).toEqual([{ ok: true }, { ok: true }])
    for (const [count, taken] of [[2, 2], [2, 3], [0, 0]] as const) expect(seats(count, taken)).toEqual({ ok: false, reason: 'no-seat-free' })
  })
  it('is given by no licence that has ended, from its last instant on', () => {
    expect(seatFor({ seats: null, endsAt: now + 1 }, 0, now)).toEqual({ ok: true })
    expect(seatFor({ seats: null, endsAt: now }, 0, now)).toEqual({ ok: false, reason: 'licence-expired' })
  })
  it('once taken is told as seated until the licence ends', () => {
    const state = (endsAt: number | null) => licenceStateOf({ features: ['all'], endsAt }, now).state
    expect([state(null), state(now + 1), state(now)]).toEqual(['seated', 'seated', 'expired'])
  })
})
