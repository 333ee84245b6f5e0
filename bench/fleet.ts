// A fleet: one tag flip to every gateway beside a floor of the same hops, an edit that flips thousands, first loads, and what a gateway's memory holds.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PAGE_BYTES } from '../protocol/fabric/envelope.ts'
import { sysinfo, uidTags } from '../protocol/operations/fabric.ts'
import { counted } from './counts.ts'
import { alone, beside, median, percentile, type Figure, type Progress } from './figures.ts'
import { clientOf, membershipIn, openEar, type Ear, type Frame } from './fleet-ear.ts'
import type { Memory, MemorySetting } from './fleet-memory.ts'
import { administratorOf, emsOf, openFleet, openFloorFan, type Fleet } from './fleet-stage.ts'
import { floorFlip, plainRead } from './floor/operations.ts'
import { within } from './within.ts'

const BENCH = 'fleet'
const FOLLOWERS = 3
const WARM_UP = 20
const PLAIN_PAGES = { records: 800, tags: 2_000 } as const
const MOST_FRAME_BYTES = 1_000_000
const EDIT_WITHIN_MS = 600_000

export interface FleetSizes { readonly endpoints: number; readonly gateways: number; readonly flips: number; /** Endpoints that the edit flips. */ readonly edit: number }

async function memoryOf({ ems, places, policiesFile }: Fleet, endpoints: number): Promise<Memory> {
  const child = fork(new URL('fleet-memory.ts', import.meta.url), { execArgv: ['--expose-gc'], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  child.send({ stateDirectory: places[0]?.directory ?? '', policiesFile, tlsCaPem: ems.tlsCaPem, endpoints } satisfies MemorySetting)
  const ended = once(child, 'exit')
  const [memory] = await Promise.race([once(child, 'message'), ended.then(() => { throw new Error('the gateway that is measured ended') })]) as [Memory]
  await ended
  return memory
}

const openEars = ({ ems, places }: Pick<Fleet, 'ems' | 'places'>, followers: number, watched: string): Promise<Ear[]> => Promise.all(places.map(({ directory }, n) =>
  openEar({ ems: ems.address, tlsCaPem: ems.tlsCaPem, directory, kind: n < followers ? 'follower' : 'bare', watched })))

/** Each page of a table, read as a gateway reads it. */
async function readTable({ ems, places }: Fleet, table: 'sysinfo' | 'uid_tags'): Promise<{ rows: number; pages: number; ms: number }> {
  const where = { ems: ems.address, tlsCaPem: ems.tlsCaPem, directory: places[0]?.directory ?? '' }
  const client = clientOf(where, await membershipIn(where.directory))
  try {
    const began = performance.now()
    let [rows, pages] = [0, 0]
    for (let query: { updated_after?: string; uid_offset?: string; unzipped_size: number } = { unzipped_size: PAGE_BYTES }; ;) {
      const page = table === 'sysinfo' ? (await client.call(sysinfo.get, { query })).data : (await client.call(uidTags.get, { query })).data
      rows += Object.keys('uid_tag_lists' in page.data ? page.data.uid_tag_lists : page.data).length
      pages++
      if (page.is_final) return { rows, pages, ms: performance.now() - began }
      query = { unzipped_size: PAGE_BYTES, ...(page.updated_after === '' ? {} : { updated_after: page.updated_after }), ...(page.uid_offset === undefined ? {} : { uid_offset: page.uid_offset }) }
    }
  } finally {
    await client.close()
  }
}

/** ms of a plain read of the endpoints up to a UID. */
async function readPlainly({ administrator }: Fleet, what: 'records' | 'tags', upTo: string): Promise<{ rows: number; ms: number }> {
  const began = performance.now()
  let rows = 0
  for (let after: string | null = ''; after !== null;) {
    const page: { rows: number; last: string | null } = await administrator.call(plainRead, { query: { what, after, upTo, limit: PLAIN_PAGES[what] } })
    rows += page.rows
    after = page.last
  }
  return { rows, ms: performance.now() - began }
}

async function firstLoads(fleet: Fleet, progress: Progress): Promise<Figure[]> {
  const figures: Figure[] = []
  for (const [table, what] of [['sysinfo', 'records'], ['uid_tags', 'tags']] as const) {
    progress(`${BENCH}: first load of ${table}`)
    const plain = await readPlainly(fleet, what, '~')
    const { rows, pages, ms } = await readTable(fleet, table)
    const name = table.replace('_', '-')
    figures.push(beside(BENCH, `first-load-${name}`, 'rows/s', rows / (ms / 1_000), plain.rows / (plain.ms / 1_000)), alone(BENCH, `first-load-${name}-pages`, 'pages', pages))
  }
  return figures
}

async function flipOne({ device }: Fleet, ears: readonly Ear[], on: boolean): Promise<number[]> {
  const body = await device.flipOf(on)
  const changes = Promise.all(ears.map((ear) => ear.nextChange()))
  const sent = performance.now()
  const [ats] = await Promise.all([within('a flip at every gateway', changes), device.send(body)])
  return ats.map((at) => at - sent)
}

async function flips(fleet: Fleet, ears: readonly Ear[], count: number, progress: Progress): Promise<Figure[]> {
  const { ems, device } = fleet
  const padding = 'x'.repeat(JSON.stringify(await device.flipOf(true)).length)
  const fan = await openFloorFan(ems, ears.length)
  const floorOf = async (objects: number): Promise<number[]> => {
    const frames = fan.next(objects)
    const sent = performance.now()
    const [ats] = await Promise.all([within('the frames of the floor', frames), device.client.call(floorFlip, { body: { padding, objects } })])
    return ats.map((at) => at - sent)
  }
  const [reached, floor, single]: [number[][], number[][], number[]] = [[], [], []]
  for (let flip = 0; flip < WARM_UP + count; flip++) {
    const [one, all] = [await floorOf(1), await floorOf(ears.length)]
    const taken = await flipOne(fleet, ears, flip % 2 === 1)
    if (flip < WARM_UP) continue
    if (flip % 50 === 0) progress(`${BENCH}: flip ${flip - WARM_UP} of ${count}`)
    single.push(...one)
    floor.push(all)
    reached.push(taken)
  }
  fan.close()
  const last = (samples: readonly number[][]) => samples.map((each) => Math.max(...each))
  return [
    alone(BENCH, 'flips', 'flips', reached.length),
    beside(BENCH, 'flip-to-each-gateway-p50', 'ms', median(reached.flat()), median(floor.flat()), 3), beside(BENCH, 'flip-to-each-gateway-p99', 'ms', percentile(reached.flat(), 0.99), percentile(floor.flat(), 0.99)),
    beside(BENCH, 'flip-to-last-gateway-p50', 'ms', median(last(reached)), median(last(floor)), 3),
    beside(BENCH, 'flip-to-each-gateway-over-one-hop-p50', 'ms', median(reached.flat()), median(single)),
  ]
}

/** Most notices of one table that one gateway had within a second. */
export function mostNoticesASecond(frames: readonly Frame[]): number {
  const byTable = Map.groupBy(frames.flatMap(({ at, tables }) => tables.map((table) => ({ at, table }))), ({ table }) => table)
  return Math.max(0, ...[...byTable.values()].flatMap((notices) => notices.map(({ at }) => notices.filter((other) => other.at >= at && other.at < at + 1_000).length)))
}

async function editRule(fleet: Fleet, ears: readonly Ear[], { edit }: FleetSizes, progress: Progress): Promise<Figure[]> {
  progress(`${BENCH}: an edit that flips ${edit} endpoints`)
  const plain = await readPlainly(fleet, 'tags', fleet.uids[edit - 1] ?? '')
  const began = performance.now()
  const bearing = Promise.all(ears.map((ear) => ear.bearing(edit)))
  await fleet.editRule(true)
  const returned = performance.now()
  const ats = await within(`${edit} flips at every gateway`, bearing, EDIT_WITHIN_MS)
  await fleet.settled()
  const settled = performance.now()
  const frames = ears.map((ear) => ear.frames.filter(({ at }) => at >= began))
  return [
    alone(BENCH, 'edit-flips', 'endpoints', edit), alone(BENCH, 'edit-answered', 'ms', returned - began),
    beside(BENCH, 'edit-at-every-gateway', 'ms', Math.max(...ats) - began, plain.ms), alone(BENCH, 'edit-at-first-gateway', 'ms', Math.min(...ats) - began), alone(BENCH, 'edit-worked-out', 'ms', settled - began),
    alone(BENCH, 'edit-notices-of-a-table-within-a-second', 'notices', Math.max(...frames.map(mostNoticesASecond)), 2), alone(BENCH, 'edit-frames-at-a-gateway', 'frames', Math.max(...frames.map(({ length }) => length))),
    alone(BENCH, 'largest-frame', 'B', Math.max(...ears.flatMap((ear) => ear.frames.map(({ bytes }) => bytes))), MOST_FRAME_BYTES),
  ]
}

/** The same fleet under a meter: nothing is timed. */
async function count(directory: string, { device, places, recent }: Fleet): Promise<Figure[]> {
  const ems = await emsOf(directory, true)
  const administrator = administratorOf(ems)
  const ears: Ear[] = []
  try {
    ears.push(...await openEars({ ems, places }, 0, recent))
    const flip = async (on: boolean) => flipOne({ device } as Fleet, ears, on)
    await flip(false)
    const tally = await counted({ administrator }, device, () => flip(true))
    const { length } = places
    return [
      alone(BENCH, 'flip-object-calls', 'calls', tally.objectCalls, length), alone(BENCH, 'flip-d1-trips-in-objects', 'trips', tally.objectTrips, 0), alone(BENCH, 'flip-object-rows-written-a-gateway', 'rows', tally.objectRowsWritten / length, 2),
      alone(BENCH, 'flip-frames', 'frames', tally.frames, length), alone(BENCH, 'flip-pulls', 'pages', tally.pulls, 0), alone(BENCH, 'flip-d1-trips', 'trips', tally.trips, 2), alone(BENCH, 'flip-d1-rows-written', 'rows', tally.rowsWritten),
    ]
  } finally {
    for (const ear of ears) await ear.close()
    await administrator.close()
    await ems.close()
  }
}

/** Runs it. */
export async function benchFleet(sizes: FleetSizes, progress: Progress): Promise<Figure[]> {
  const directory = await mkdtemp(join(tmpdir(), 'sallyport-bench-'))
  try {
    const fleet = await openFleet(directory, { ...sizes, progress })
    const ears: Ear[] = []
    const figures: Figure[] = [alone(BENCH, 'endpoints', 'endpoints', sizes.endpoints), alone(BENCH, 'gateways', 'gateways', sizes.gateways)]
    try {
      const empty = await memoryOf(fleet, 1)
      const loads = await fleet.seed()
      figures.push(alone(BENCH, 'object-load', 'rows/s', sizes.endpoints / (median(loads) / 1_000)))
      progress(`${BENCH}: memory of a gateway`)
      const full = await memoryOf(fleet, sizes.endpoints + 1)
      const mega = 1_048_576
      figures.push(alone(BENCH, 'gateway-memory-above-empty', 'MiB', (full.heap - empty.heap) / mega, 60), alone(BENCH, 'gateway-resident-above-empty', 'MiB', (full.resident - empty.resident) / mega))
      figures.push(...await firstLoads(fleet, progress))
      progress(`${BENCH}: gateways open`)
      ears.push(...await openEars(fleet, FOLLOWERS, fleet.recent))
      const swaps = ears.flatMap((ear) => ear.swaps)
      figures.push(alone(BENCH, 'largest-snapshot-swap', 'ms', Math.max(...swaps.map(({ ms }) => ms)), 300), alone(BENCH, 'largest-snapshot-swap-own-time', 'ms', Math.max(...swaps.map(({ ownMs }) => ownMs))))
      figures.push(...await flips(fleet, ears, sizes.flips, progress))
      figures.push(...await editRule(fleet, ears, sizes, progress))
    } finally {
      for (const ear of ears) await ear.close()
      await fleet.administrator.close()
      await fleet.ems.close()
    }
    progress(`${BENCH}: counting`)
    figures.push(...await count(directory, fleet))
    await fleet.device.close()
    return figures
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}
