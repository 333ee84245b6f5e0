// The fleet benchmark at a tiny size: every figure is there, and what is counted is what was promised. No time is judged here.
import { beforeAll, describe, expect, it } from 'vitest'
import type { Figure } from '../../bench/figures.ts'
import { benchFleet, mostNoticesASecond } from '../../bench/fleet.ts'

describe('a fleet', () => {
  let figures: ReadonlyMap<string, Figure>
  beforeAll(async () => {
    const found = await benchFleet({ endpoints: 40, gateways: 4, flips: 2, edit: 12 }, () => undefined)
    figures = new Map(found.map((figure) => [figure.metric, figure]))
  }, 600_000)

  it('a flip: one object call, one frame and at most two rows a gateway; no D1 in an object, no pull', () => {
    for (const [metric, value] of [['flip-object-calls', 4], ['flip-frames', 4], ['flip-d1-trips-in-objects', 0], ['flip-pulls', 0], ['flip-d1-trips', 2]] as const) expect([metric, figures.get(metric)?.value]).toEqual([metric, value])
    expect(figures.get('flip-object-rows-written-a-gateway')?.value).toBeLessThanOrEqual(2)
  })
  it('an edit: every gateway has what it flipped, in frames below a megabyte, and no flood of notices', () => {
    expect(figures.get('edit-flips')?.value).toBe(12)
    for (const metric of ['edit-notices-of-a-table-within-a-second', 'largest-frame']) expect([metric, figures.get(metric)?.ok]).toEqual([metric, true])
  })
  it('stands beside floors of the same run', () => {
    for (const metric of ['flip-to-each-gateway-p50', 'flip-to-last-gateway-p50', 'edit-at-every-gateway', 'first-load-sysinfo', 'first-load-uid-tags']) {
      expect(figures.get(metric)).toMatchObject({ bench: 'fleet', floor: expect.any(Number) as number, ratio: expect.any(Number) as number })
    }
    expect(figures.get('gateway-memory-above-empty')).toMatchObject({ unit: 'MiB', goal: 60, ok: true })
    expect(figures.get('largest-snapshot-swap')).toMatchObject({ unit: 'ms', goal: 300 })
  })
})

describe('notices within a second', () => {
  it('are counted by table', () => {
    const frame = (at: number, ...tables: string[]) => ({ at, bytes: 1, tables })
    expect(mostNoticesASecond([])).toBe(0)
    expect(mostNoticesASecond([frame(0, 'uid_tags', 'tags'), frame(999, 'uid_tags'), frame(1_000, 'uid_tags')])).toBe(2)
    expect(mostNoticesASecond([frame(0, 'tags'), frame(1_000, 'uid_tags'), frame(2_001, 'uid_tags')])).toBe(1)
  })
})
