// From a report that takes a tag to the gateway that applied it and the session that was cut, beside a floor of the same hops. Rounds of both alternate, so that noise hits both.
import { alone, beside, median, percentile, spread, type Figure, type Progress } from './figures.ts'
import { openFloor, type FloorClient } from './floor-client.ts'
import { floorFlip } from './floor/operations.ts'
import type { Device } from './device.ts'
import { openSession, type Session } from './session.ts'
import { openStage, type Gate, type Stage } from './stage.ts'
import { within } from './within.ts'

const BENCH = 'propagation'
const MOST_ROUNDS = 20
const WARM_UP = 50
const GOALS = { p50: 3, p99: 10 }

/** ms, one a flip. `sent…` begins when the client begins to sign its request; `accepted…` at the EMS's own instant in the change log (whole ms). */
interface Round { readonly sentToApplied: number[]; readonly sentToCut: number[]; readonly acceptedToApplied: number[]; readonly acceptedToCut: number[]; readonly sentToLetIn: number[]; readonly givenToApplied: number[] }
interface FloorRound { readonly sentToFrame: number[]; readonly acceptedToFrame: number[] }

/** What performance.now() is on the wall clock, to a few µs: Date.now() alone is up to 1 ms late. */
function wallClockOffset(): number {
  const begun = Date.now()
  let ticked = begun
  while (ticked === begun) ticked = Date.now()
  return ticked - performance.now()
}

async function letIn(stage: Stage, { gateway }: Gate, device: Device): Promise<Session> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const opening = await openSession({ ...gateway, authorityPem: stage.authorityPem }, device)
    if (opening.open) return opening.session
    if (!opening.answer.startsWith('HTTP/1.1 403')) throw new Error(`the gate answered: ${opening.answer.slice(0, 200)}`)
  }
  throw new Error('the gate refused a device that has its tag')
}

async function realRound(stage: Stage, gate: Gate, device: Device, flips: number): Promise<Round> {
  const database = await stage.ems.miniflare.getD1Database('DB')
  const before = await database.prepare('SELECT max(revision) AS revision FROM change_log').first<{ revision: number }>()
  const instants: { sent: number; applied: number; cut: number; given: number; givenApplied: number; letIn: number }[] = []
  let session = await letIn(stage, gate, device)
  const offset = wallClockOffset()
  for (let flip = 0; flip < flips; flip++) {
    const [take, give] = [await device.flipOf(false), await device.flipOf(true)]
    const sent = performance.now()
    const taking = device.send(take)
    const [cut] = await Promise.all([within('the cut', session.closed), taking])
    // Of the `current`s since (there is one a minute without a change, too) the one that cut it.
    const applied = gate.currents.findLast((at) => at <= cut)
    if (applied === undefined || applied < sent) throw new Error('the session ended before the gateway had applied the change')
    const given = performance.now()
    const [givenApplied] = await Promise.all([within('the tag given back', gate.nextCurrent()), device.send(give)])
    session = await letIn(stage, gate, device)
    instants.push({ sent, applied, cut, given, givenApplied, letIn: session.openedAt })
  }
  const { results } = await database.prepare('SELECT at FROM change_log WHERE uid = ? AND revision > ? ORDER BY revision').bind(device.uid, before?.revision ?? 0).all<{ at: number }>()
  if (results.length !== 2 * flips) throw new Error(`${2 * flips} reports made ${results.length} rows of the log`)
  const accepted = instants.map((_, n) => (results[2 * n]?.at ?? 0) - offset)
  const since = (begun: number[], ended: number[]) => ended.map((at, n) => at - (begun[n] ?? 0))
  const of = (name: keyof (typeof instants)[number]) => instants.map((each) => each[name])
  return {
    sentToApplied: since(of('sent'), of('applied')), sentToCut: since(of('sent'), of('cut')), acceptedToApplied: since(accepted, of('applied')), acceptedToCut: since(accepted, of('cut')),
    sentToLetIn: since(of('given'), of('letIn')), givenToApplied: since(of('given'), of('givenApplied')),
  }
}

async function floorRound(floor: FloorClient, device: Device, flips: number, padding: string): Promise<FloorRound> {
  const round: FloorRound = { sentToFrame: [], acceptedToFrame: [] }
  const offset = wallClockOffset()
  for (let flip = 0; flip < flips; flip++) {
    const sent = performance.now()
    const [{ arrivedAt, at }] = await Promise.all([within('the frame', floor.nextFrame()), device.client.call(floorFlip, { body: { padding } })])
    round.sentToFrame.push(arrivedAt - sent)
    round.acceptedToFrame.push(arrivedAt - (at - offset))
  }
  return round
}

/** Runs it. @param flips tags taken (each is given back too) */
export async function benchPropagation({ flips, progress }: { flips: number; progress: Progress }): Promise<Figure[]> {
  const stage = await openStage()
  try {
    const gate = await stage.newGate()
    const device = await stage.newDevice()
    const floor = await openFloor(device.client)
    const padding = 'x'.repeat(JSON.stringify(await device.flipOf(true)).length)
    const rounds = Math.min(MOST_ROUNDS, flips)
    const perRound = Math.ceil(flips / rounds)
    progress(`${BENCH}: warming up`)
    await realRound(stage, gate, device, Math.min(WARM_UP, perRound))
    await floorRound(floor, device, Math.min(WARM_UP, perRound), padding)
    const real: Round[] = []
    const floors: FloorRound[] = []
    for (let round = 1; round <= rounds; round++) {
      floors.push(await floorRound(floor, device, perRound, padding))
      real.push(await realRound(stage, gate, device, perRound))
      progress(`${BENCH}: round ${round} of ${rounds}, ${perRound} flips each`)
    }
    await floor.close()
    return figuresOf(real, floors)
  } finally {
    await stage.close()
  }
}

function figuresOf(real: readonly Round[], floors: readonly FloorRound[]): Figure[] {
  const all = <R, K extends keyof R>(rounds: readonly R[], name: K) => rounds.flatMap((round) => round[name] as number[])
  const both = (name: string, samples: number[], floor: number[], goals = true) => [
    beside(BENCH, `${name}-p50`, 'ms', median(samples), median(floor), goals ? GOALS.p50 : undefined), beside(BENCH, `${name}-p99`, 'ms', percentile(samples, 0.99), percentile(floor, 0.99), goals ? GOALS.p99 : undefined),
  ]
  const [sent, accepted] = [all(floors, 'sentToFrame'), all(floors, 'acceptedToFrame')]
  return [
    alone(BENCH, 'flips', 'flips', all(real, 'sentToCut').length),
    ...both('accepted-to-applied', all(real, 'acceptedToApplied'), accepted), ...both('accepted-to-cut', all(real, 'acceptedToCut'), accepted),
    ...both('sent-to-applied', all(real, 'sentToApplied'), sent), ...both('sent-to-cut', all(real, 'sentToCut'), sent),
    ...both('given-back-to-applied', all(real, 'givenToApplied'), sent, false), alone(BENCH, 'given-back-to-let-in-p50', 'ms', median(all(real, 'sentToLetIn'))),
    alone(BENCH, 'spread-of-rounds', '×', spread(real.map(({ sentToCut }) => median(sentToCut)))), alone(BENCH, 'spread-of-floor-rounds', '×', spread(floors.map(({ sentToFrame }) => median(sentToFrame)))),
  ]
}
