// The attack at a tiny rate: every figure is there, strangers open nothing, and the device is never refused. No time and no size is judged here.
import { beforeAll, describe, expect, it } from 'vitest'
import { benchAttack } from '../../bench/attack.ts'
import type { Figure } from '../../bench/figures.ts'

describe('strangers at a gateway that runs by itself', () => {
  let figures: Figure[]
  const value = (metric: string) => figures.find((figure) => figure.metric === metric)?.value ?? NaN
  beforeAll(async () => {
    figures = await benchAttack({ seconds: 4, handshakes: 1_200, connects: 3_000, quietMs: 0, progress: () => undefined })
  }, 600_000)

  it('are refused, each that asked', () => {
    for (const rate of ['tls-begun-a-minute', 'tls-done-a-minute', 'tcp-begun-a-minute']) expect(value(rate), rate).toBeGreaterThan(0)
    expect(value('tunnels-asked-by-strangers')).toBeGreaterThan(0)
    expect(value('tunnels-opened-by-strangers')).toBe(0)
    expect(value('decisions-no-certificate')).toBeGreaterThanOrEqual(value('tunnels-refused-to-strangers'))
    expect(value('tunnels-refused-to-strangers')).toBeGreaterThan(0)
  })
  it('are counted by the gateway, and no more are held than it says', () => {
    expect(value('ended-at-the-gateway-a-minute')).toBeGreaterThan(0)
    expect(value('strangers-held-at-the-end')).toBeLessThanOrEqual(2_048)
  })
  it('do not keep the device from its work, which is measured beside the calm', () => {
    expect(value('honest-failures')).toBe(0)
    for (const kind of ['echo', 'new-tunnel', 'new-connection']) for (const share of ['p50', 'p99']) expect(figures.find(({ metric }) => metric === `honest-${kind}-${share}`)?.ratio, kind).toBeGreaterThan(0)
    expect(value('memory-most')).toBeGreaterThanOrEqual(value('memory-calm') * 0.5)
  })
})
