// Requests a second of a report that changes nothing and of one that takes or gives a tag, beside a bare handler and the floors of the same hops.
import type { Operation } from '../protocol/operation.ts'
import { report } from '../protocol/operations/endpoint.ts'
import { alone, beside, median, spread, type Figure, type Progress } from './figures.ts'
import { openFloor } from './floor-client.ts'
import { bare, floorFlip, signedOnly } from './floor/operations.ts'
import { openLoad, prepare, type Prepared } from './load.ts'
import type { Device } from './device.ts'
import { openStage, type Stage } from './stage.ts'

const BENCH = 'throughput'
const kinds = ['bare', 'signed', 'unchanged', 'floor', 'changed'] as const
type Kind = (typeof kinds)[number]

/** One lane a device: its reports follow each other, those of others run beside them. */
async function lanesOf(kind: Kind, stage: Stage, devices: readonly Device[], length: number): Promise<Prepared[][]> {
  const padding = 'x'.repeat(600)
  let on = true
  const next = async (device: Device): Promise<Prepared> => {
    const post = (operation: Operation, body: unknown) => prepare(stage.ems, operation, device, body)
    switch (kind) {
      case 'bare': return { method: bare.method, path: bare.path, headers: {}, body: null }
      case 'signed': return await post(signedOnly, { padding })
      case 'unchanged': return await post(report, await device.reportOf({}))
      case 'floor': return await post(floorFlip, { padding })
      case 'changed': return await post(report, await device.flipOf(on))
    }
  }
  const lanes: Prepared[][] = devices.map(() => [])
  for (let at = 0; at < length; at++) {
    on = !on
    for (const [n, device] of devices.entries()) lanes[n]?.push(await next(device))
  }
  return lanes
}

/** Runs it. @param requests of each kind in one round; at least two for each connection, and four times as many of the bare handler */
export async function benchThroughput({ requests, rounds, connections = 16, progress }: { requests: number; rounds: number; connections?: number; progress: Progress }): Promise<Figure[]> {
  const stage = await openStage()
  try {
    await stage.newGate()
    const devices: Device[] = []
    for (let n = 0; n < connections; n++) devices.push(await stage.newDevice())
    const [first] = devices
    if (first === undefined) throw new Error('there is no device')
    const floor = await openFloor(first.client)
    const load = openLoad(stage.ems, connections)
    const rates = new Map<Kind, number[]>(kinds.map((kind) => [kind, []]))
    // An even number, so that each device ends with its tag; the first round warms up.
    const length = Math.max(2, 2 * Math.ceil(requests / connections / 2))
    for (let round = 0; round <= rounds; round++) {
      for (const kind of kinds) {
        const lanes = await lanesOf(kind, stage, devices, kind === 'bare' ? 4 * length : length)
        const rate = await load.run(lanes)
        if (round > 0) rates.get(kind)?.push(rate)
      }
      progress(`${BENCH}: round ${round} of ${rounds}`)
    }
    await load.close()
    await floor.close()
    const rate = (kind: Kind) => median(rates.get(kind) ?? [])
    const both = (kind: Kind, against: Kind) => beside(BENCH, `${kind}-over-${against}`, 'requests/s', rate(kind), rate(against))
    return [
      alone(BENCH, 'bare', 'requests/s', rate('bare')), both('signed', 'bare'), both('unchanged', 'bare'), both('unchanged', 'signed'),
      both('floor', 'bare'), both('changed', 'bare'), both('changed', 'floor'),
      ...kinds.map((kind) => alone(BENCH, `spread-of-${kind}-rounds`, '×', spread(rates.get(kind) ?? []))),
    ]
  } finally {
    await stage.close()
  }
}
