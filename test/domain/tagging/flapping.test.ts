// When an endpoint counts as flapping, and when no more.
import { describe, expect, it } from 'vitest'
import { flappingSince, noTagChanges, readTagChanges, withChange, type TagChanges } from '../../../domain/tagging/flapping.ts'

const MINUTE = 60_000
const after = (...instants: number[]): TagChanges => instants.reduce(withChange, readTagChanges(noTagChanges))
const every = (count: number, ms: number, from = 0) => Array.from({ length: count }, (_, n) => from + n * ms)

describe('an endpoint', () => {
  it('flaps from the seventh change within ten minutes on', () => {
    expect(flappingSince(after(...every(6, 1000)), 6000)).toBeNull()
    expect(flappingSince(after(...every(7, 1000)), 6000)).toBe(6000)
    expect(flappingSince(after(...every(7, 100_000)), 600_000)).toBeNull()
    expect(flappingSince(after(...every(7, 99_000)), 594_000)).toBe(594_000)
  })
  it('flaps on while its tags change, and no more after ten quiet minutes', () => {
    const flapping = after(...every(7, 1000))
    expect(flappingSince(flapping, 6000 + 10 * MINUTE - 1)).toBe(6000)
    expect(flappingSince(flapping, 6000 + 10 * MINUTE)).toBeNull()
    const seldom = every(5, 9 * MINUTE, 6000 + 9 * MINUTE).reduce(withChange, flapping)
    expect(flappingSince(seldom, (seldom.at.at(-1) ?? 0) + MINUTE)).toBe(6000)
    // Quiet for long, one change is a change.
    expect(flappingSince(withChange(flapping, 60 * MINUTE), 60 * MINUTE)).toBeNull()
  })
  it('keeps seven instants at most', () => { expect(after(...every(1000, 10)).at).toEqual(every(7, 10, 9930)) })
})
