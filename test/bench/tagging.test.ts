// The tagging benchmark at a tiny size: every figure is there, and what is counted is what was promised. No time is judged here.
import { beforeAll, describe, expect, it } from 'vitest'
import type { Figure } from '../../bench/figures.ts'
import { benchTaggingFleet } from '../../bench/tagging-fleet.ts'

describe('tagging', () => {
  let figures: ReadonlyMap<string, Figure>
  beforeAll(async () => {
    const found = await benchTaggingFleet({ endpoints: 200, ruleSets: 12, laptops: 3 }, () => undefined)
    figures = new Map(found.map((figure) => [figure.metric, figure]))
  }, 600_000)

  it('an edit works out its own rule set, once for each endpoint that it concerns, and writes for those whose tag changes', () => {
    // Four of them have the build before; one of these has its firewall off.
    expect(figures.get('edit-changes')?.value).toBe(3)
    expect(figures.get('edit-rule-sets-evaluated-an-endpoint')).toMatchObject({ value: 1, ok: true })
    expect(figures.get('edit-bytes-read')?.floor).toBeGreaterThan(0)
  })
  it('a laptop of thousands of packages takes less than it may', () => {
    expect(figures.get('stored-a-laptop-of-2500-packages')).toMatchObject({ unit: 'B', goal: 40_000 })
  })
  it('stands beside floors of the same run, and tells pauses apart', () => {
    for (const metric of ['edit-worked', 'report-during-an-edit-p50']) expect(figures.get(metric)).toMatchObject({ bench: 'tagging', floor: expect.any(Number) as number, ratio: expect.any(Number) as number })
    for (const metric of ['edit-pauses', 'edit-to-its-end', 'plain-read']) expect(figures.get(metric)?.unit).toBe('ms')
  })
})
