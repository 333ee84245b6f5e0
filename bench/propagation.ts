// From a report that takes a tag to the gateway that applied it and the session that was cut, beside a floor of the same hops. Both alternate flip by flip, so that noise hits both.
import { alone, beside, median, percentile, spread, type Figure, type Progress } from './figures.ts'
import { openFloor, type FloorClient } from './floor-client.ts'
import { bare, floorFlip, signedOnly } from './floor/operations.ts'
import type { Device } from './device.ts'
import { openSession, type Session } from './session.ts'
import { openStage, type Gate, type Stage } from './stage.ts'
import { within } from './within.ts'

const BENCH = 'propagation'
const MOST_ROUNDS = 20
const WARM_UP = 50
const PARTS_EVERY = 10
const GOALS = { p50: 3, p99: 10 }

/** performance.now() of a flip's instants; `accepted` is the EMS's own, from the change log, in whole ms. */
interface Flip {
  readonly sent: number; readonly accepted: number; readonly applied: number; readonly cut: number
  /** The tag given back: its report, the gateway that applied it, a new session let in. */
  readonly given: number; readonly givenApplied: number; readonly letIn: number
}
interface FloorFlip { readonly sent: number; readonly accepted: number; readonly arrived: number }
interface Round { readonly flips: Flip[]; readonly floor: FloorFlip[]; readonly bare: number[]; readonly signed: number[] }
interface Players { readonly stage: Stage; readonly gate: Gate; readonly device: Device; readonly floor: FloorClient; readonly padding: string }

/** What performance.now() is on the wall clock, to a few µs: Date.now() alone is up to 1 ms late. */
function wallClockOffset(): number {
  const begun = Date.now()
  let ticked = begun
  while (ticked === begun) ticked = Date.now()
  return ticked - performance.now()
}
async function took(act: () => Promise<unknown>): Promise<number> {
  const begun = performance.now()
  await act()
  return performance.now() - begun
}

async function letIn({ stage, gate, device }: Players): Promise<Session> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const opening = await openSession({ ...gate.gateway, authorityPem: stage.authorityPem }, device)
    if (opening.open) return opening.session
    if (!opening.answer.startsWith('HTTP/1.1 403')) throw new Error(`the gate answered: ${opening.answer.slice(0, 200)}`)
  }
  throw new Error('the gate refused a device that has its tag')
}

async function take({ gate, device }: Players, session: Session) {
  const body = await device.flipOf(false)
  const sent = performance.now()
  const [cut] = await Promise.all([within('the cut', session.closed), device.send(body)])
  // Of the `current`s since (there is one a minute without a change, too) the one that cut it.
  const applied = gate.currents.findLast((at) => at <= cut)
  if (applied === undefined || applied < sent) throw new Error('the session ended before the gateway had applied the change')
  return { sent, applied, cut }
}
async function give({ gate, device }: Players) {
  const body = await device.flipOf(true)
  const given = performance.now()
  const [givenApplied] = await Promise.all([within('the tag given back', gate.nextCurrent()), device.send(body)])
  return { given, givenApplied }
}
async function flipFloor({ floor, device, padding }: Players, offset: number): Promise<FloorFlip> {
  const sent = performance.now()
  const [{ arrivedAt, at }] = await Promise.all([within('the frame', floor.nextFrame()), device.client.call(floorFlip, { body: { padding } })])
  return { sent, accepted: at - offset, arrived: arrivedAt }
}

async function play(players: Players, count: number): Promise<Round> {
  const { stage, device, padding } = players
  const database = await stage.ems.miniflare.getD1Database('DB')
  const before = await database.prepare('SELECT max(revision) AS revision FROM change_log').first<{ revision: number }>()
  const round: Round = { flips: [], floor: [], bare: [], signed: [] }
  const flips: Omit<Flip, 'accepted'>[] = []
  let session = await letIn(players)
  const offset = wallClockOffset()
  for (let flip = 0; flip < count; flip++) {
    const floorFirst = flip % 2 === 0
    if (floorFirst) round.floor.push(await flipFloor(players, offset))
    const taken = await take(players, session)
    if (!floorFirst) round.floor.push(await flipFloor(players, offset))
    const given = await give(players)
    session = await letIn(players)
    flips.push({ ...taken, ...given, letIn: session.openedAt })
    if (flip % PARTS_EVERY > 0) continue
    round.bare.push(await took(() => device.client.call(bare)))
    round.signed.push(await took(() => device.client.call(signedOnly, { body: { padding } })))
  }
  session.end()
  const { results } = await database.prepare('SELECT at FROM change_log WHERE uid = ? AND revision > ? ORDER BY revision').bind(device.uid, before?.revision ?? 0).all<{ at: number }>()
  if (results.length !== 2 * count) throw new Error(`${2 * count} reports made ${results.length} rows of the log`)
  round.flips.push(...flips.map((flip, n) => ({ ...flip, accepted: (results[2 * n]?.at ?? 0) - offset })))
  return round
}

/** Runs it. @param flips tags taken (each is given back too) */
export async function benchPropagation({ flips, progress }: { flips: number; progress: Progress }): Promise<Figure[]> {
  const stage = await openStage()
  try {
    const gate = await stage.newGate()
    const device = await stage.newDevice()
    const floor = await openFloor(device.client)
    const body = await device.flipOf(true)
    await device.send(body)
    const players: Players = { stage, gate, device, floor, padding: 'x'.repeat(JSON.stringify(body).length) }
    progress(`${BENCH}: warming up`)
    await play(players, Math.min(WARM_UP, flips))
    const rounds: Round[] = []
    const most = Math.min(MOST_ROUNDS, flips)
    for (let round = 1; round <= most; round++) {
      const count = Math.ceil((flips - rounds.reduce((total, each) => total + each.flips.length, 0)) / (most - round + 1))
      rounds.push(await play(players, count))
      progress(`${BENCH}: round ${round} of ${most}, ${count} flips`)
    }
    await floor.close()
    return figuresOf(rounds)
  } finally {
    await stage.close()
  }
}

function figuresOf(rounds: readonly Round[]): Figure[] {
  const [flips, floor] = [rounds.flatMap((round) => round.flips), rounds.flatMap((round) => round.floor)]
  const spans = (from: keyof Flip, to: keyof Flip) => flips.map((flip) => flip[to] - flip[from])
  const floors = (from: 'sent' | 'accepted') => floor.map((flip) => flip.arrived - flip[from])
  const both = (name: string, samples: number[], floor: number[], goals: typeof GOALS | null = GOALS) => [
    beside(BENCH, `${name}-p50`, 'ms', median(samples), median(floor), goals?.p50), beside(BENCH, `${name}-p99`, 'ms', percentile(samples, 0.99), percentile(floor, 0.99), goals?.p99),
  ]
  return [
    alone(BENCH, 'flips', 'flips', flips.length),
    ...(['accepted', 'sent'] as const).flatMap((from) => (['applied', 'cut'] as const).flatMap((to) => both(`${from}-to-${to}`, spans(from, to), floors(from)))),
    ...both('given-back-to-applied', spans('given', 'givenApplied'), floors('sent'), null), alone(BENCH, 'given-back-to-let-in-p50', 'ms', median(spans('given', 'letIn'))),
    alone(BENCH, 'bare-request-p50', 'ms', median(rounds.flatMap((round) => round.bare))), alone(BENCH, 'signed-request-p50', 'ms', median(rounds.flatMap((round) => round.signed))),
    alone(BENCH, 'spread-of-rounds', '×', spread(rounds.map((round) => median(round.flips.map(({ sent, cut }) => cut - sent))))),
    alone(BENCH, 'spread-of-floor-rounds', '×', spread(rounds.map((round) => median(round.floor.map(({ sent, arrived }) => arrived - sent))))),
  ]
}
