// What the benchmark counts is what was promised: the serial hops of a flipped tag, and that nothing costs nothing.
import { beforeAll, describe, expect, it } from 'vitest'
import { benchCounts } from '../../bench/counts.ts'
import type { Figure } from '../../bench/figures.ts'

describe('counted operations', () => {
  let figures: Figure[]
  const counts = (operation: string) => Object.fromEntries(figures.filter(({ metric }) => metric.startsWith(`${operation}/`)).map(({ metric, value }) => [metric.slice(operation.length + 1), value]))
  beforeAll(async () => {
    figures = await benchCounts({ progress: () => undefined })
  }, 600_000)

  it('a report that flips one tag: two D1 trips, one object call and one frame a gateway, no pull, no read of D1 in an object', () => {
    for (const [operation, gateways] of [['changed-report-0-gateways', 0], ['changed-report-1-gateway', 1], ['changed-report-3-gateways', 3]] as const) {
      expect(counts(operation)).toMatchObject({ 'd1-trips': 2, 'd1-trips-in-objects': 0, 'object-calls': gateways, 'frames': gateways, 'pulls': 0 })
    }
  })
  it('with three gateways writes at most eight rows, wherever they lie', () => {
    expect(counts('changed-report-3-gateways')['all-rows-written']).toBeLessThanOrEqual(8)
  })
  it('a report that changes nothing: one trip, no row, nobody told', () => {
    expect(counts('unchanged-report')).toMatchObject({ 'd1-trips': 1, 'd1-rows-written': 0, 'object-rows-written': 0, 'object-calls': 0, 'frames': 0 })
  })
  it('the floor makes the hops of a changed report and writes as many rows in D1', () => {
    const [floor, real] = [counts('floor'), counts('changed-report-1-gateway')]
    for (const name of ['d1-trips', 'd1-rows-written', 'object-calls', 'frames']) expect([name, floor[name]]).toEqual([name, real[name]])
  })
  it('counts every operation that was asked for, and every goal is met', () => {
    const operations = new Set(figures.map(({ metric }) => metric.split('/')[0]))
    expect([...operations]).toEqual(expect.arrayContaining(['enrolment', 'renewal', 'deregistration', 'rule-set-edit-2-endpoints', 'page-of-sysinfo-2-endpoints', 'page-of-uid-tags-2-endpoints', 'lookup', 'gateway-joins']))
    expect(figures.filter(({ ok }) => ok === false)).toEqual([])
  })
})
