// Figures: ratios and goals are computed as they are printed, and a table shows what was missed.
import { describe, expect, it } from 'vitest'
import { alone, beside, percentile, table } from '../../bench/figures.ts'

describe('a figure', () => {
  it('meets its goal by the ratio to its floor', () => {
    expect(beside('b', 'm', 'ms', 6, 2, 3)).toEqual({ bench: 'b', metric: 'm', value: 6, unit: 'ms', floor: 2, ratio: 3, goal: 3, ok: true })
    expect(beside('b', 'm', 'ms', 6.1, 2, 3).ok).toBe(false)
  })
  it('without a floor meets it by its value, and without a goal says nothing of it', () => {
    expect(alone('b', 'm', 'rows', 9, 8)).toEqual({ bench: 'b', metric: 'm', value: 9, unit: 'rows', goal: 8, ok: false })
    expect(alone('b', 'm', 'rows', 9)).not.toHaveProperty('ok')
  })
  it('takes percentiles by nearest rank', () => {
    const samples = Array.from({ length: 100 }, (_, n) => 100 - n)
    expect([percentile(samples, 0.5), percentile(samples, 0.99), percentile([7], 0.99)]).toEqual([50, 99, 7])
    expect(() => percentile([], 0.5)).toThrow('nothing')
  })
  it('is shown to people: a missed goal stands out, a nothing without a goal is left out', () => {
    const shown = table([alone('b', 'missed', 'rows', 9, 8), alone('b', 'nothing', 'rows', 0), alone('b', 'kept-at-nothing', 'rows', 0, 0)])
    expect(shown).toMatch(/missed +9 +rows +≤ 8 +NO/)
    expect(shown).not.toMatch(/^ +nothing/m)
    expect(shown).toMatch(/kept-at-nothing +0 +rows +≤ 0 +yes/)
  })
})
