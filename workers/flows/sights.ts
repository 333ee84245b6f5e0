// What gateways see themselves: taken in, told to those whom it concerns by rows of the log, ended when it is no longer seen. Who claims what is not asked here.
import type { BatchItem } from 'drizzle-orm/batch'
import { MAX_SIGHTS, SIGHT_SECONDS } from '../../protocol/fabric/sightings.ts'
import { Fault } from '../../protocol/faults.ts'
import type { GatewayRow } from '../../schema/gateway.ts'
import { gatewaysTrusting } from '../../schema/queries/interest.ts'
import { logTail } from '../../schema/queries/log-tail.ts'
import {
  dropEnded, endAll, endExpired, endNamed, endUnnamed, noteSnapshot, noteTold, oneSight, seeingAfter, takeSeen, tellSights, TOLD_AT_ONCE, type SeenRow, type SightGroup, type Sights,
} from '../../schema/queries/sights.ts'
import type { Context } from '../context.ts'
import { newMark } from './commit-endpoint.ts'
import { followSights, placed, sweepPlaces } from './on-fabric.ts'
import { pokeGateways } from './poke.ts'

const SIGHT_MS = SIGHT_SECONDS * 1000
const groups: readonly SightGroup[] = ['neighbours', 'connections']
/** A report is one parameter of a statement. */
const MAX_REPORT_CHARACTERS = 900_000
const GATEWAYS_AT_ONCE = 100
/** Portions told in one call: what is left is told with the next report. */
const PORTIONS_AT_ONCE = 6

export interface SightReport {
  /** What is seen now, and what is not any more. */
  readonly seen: readonly SeenRow[]
  readonly ended: readonly SeenRow[]
  /** `seen` is all there is. */
  readonly isSnapshot: boolean
  /** The mark of the gateway that saw it, as stored. */
  readonly fabric: string | null
}

/** Takes a report of one gateway's sights. One that tells nothing new costs one trip and, as a snapshot, one row; of a marked gateway, a trip more. */
export async function takeSights(context: Context, sights: Sights, { seen, ended, isSnapshot, fabric }: SightReport): Promise<void> {
  const [{ db }, now] = [context, context.now()]
  if ([seen, ended].some((rows) => JSON.stringify(rows).length > MAX_REPORT_CHARACTERS)) throw new Fault('too_large', 'These are more sights than one report takes; tell them in several.')
  await settle(context, sights, [
    ...(seen.length === 0 ? [] : [takeSeen(db, sights, placed(seen, fabric), { now, refreshBefore: now - SIGHT_MS / 2, most: MAX_SIGHTS })]),
    ...(ended.length === 0 ? [] : [endNamed(db, sights, ended)]),
    ...(isSnapshot ? [endUnnamed(db, sights, seen), noteSnapshot(db, sights, now)] : []),
  ])
  // Who comes is known at once; who leaves with the next snapshot, for devices go from port to port all the time.
  if (fabric !== null) await followSights(context, sights, isSnapshot ? null : seen)
}

/** When what a gateway sees ends (ms), unless it tells it again; in the past for one that tells no snapshots. */
export const sightsEndAt = ({ neighboursAt, connectionsAt }: Pick<GatewayRow, 'neighboursAt' | 'connectionsAt'>): number => Math.min(...[neighboursAt, connectionsAt].map((at) => (at ?? Infinity))) + SIGHT_MS + 1
/** Ends what a gateway has not seen for {@link SIGHT_SECONDS}. While it tells all that it sees, there is nothing to end. */
export async function endStaleSights(context: Context, { serial, neighboursAt, connectionsAt, fabric }: Pick<GatewayRow, 'serial' | 'neighboursAt' | 'connectionsAt' | 'fabric'>): Promise<void> {
  const cutoff = context.now() - SIGHT_MS
  const snapshotAt = { neighbours: neighboursAt ?? 0, connections: connectionsAt ?? 0 }
  for (const group of groups) {
    if (snapshotAt[group] >= cutoff || (await oneSight(context.db, { serial, group })).length === 0) continue
    await settle(context, { serial, group }, [endExpired(context.db, { serial, group }, cutoff)])
    if (fabric !== null) await followSights(context, { serial, group }, null)
  }
}
/** The net under the gateways' own alarms: every gateway that has sights. */
export async function sweepSights(context: Context): Promise<void> {
  for (let after: string | undefined = ''; after !== undefined;) {
    const page: Awaited<ReturnType<typeof seeingAfter>> = await seeingAfter(context.db, after, GATEWAYS_AT_ONCE)
    for (const gateway of page) await endStaleSights(context, gateway)
    after = page.length === GATEWAYS_AT_ONCE ? page.at(-1)?.serial : undefined
  }
  await sweepPlaces(context)
}
/** A gateway that is put out of the fabric has seen nothing. */
export async function forgetSights(context: Context, serial: string): Promise<void> {
  for (const group of groups) await settle(context, { serial, group }, [endAll(context.db, { serial, group })])
}

/** Changes the records and tells the log what of it followers do not know, in one batch; further portions in further ones. */
async function settle(context: Context, sights: Sights, changes: readonly BatchItem<'sqlite'>[]): Promise<void> {
  const { db } = context
  const [concerned, tail] = [gatewaysTrusting(db, sights.serial), logTail(db)]
  const portion = () => [tellSights(db, sights, { mark: newMark(), at: context.now() }), noteTold(db, sights), dropEnded(db, sights), tail, concerned] as const
  let before = changes
  let told = false
  for (let portions = 1; ; portions++) {
    const results = await db.batch([...before, ...portion()] as unknown as ReturnType<typeof portion>)
    const [, noted, , rows, gateways] = results.slice(before.length) as unknown as typeof results
    told ||= noted.meta.changes > 0
    if (noted.meta.changes === TOLD_AT_ONCE && portions < PORTIONS_AT_ONCE) {
      before = []
      continue
    }
    if (told) await pokeGateways(context, gateways, rows)
    return
  }
}
