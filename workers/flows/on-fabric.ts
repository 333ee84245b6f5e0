// Endpoints come on the fabric and leave it as marked gateways see them: the same guarded commit, log and notices as a report. A sight that goes on costs an endpoint nothing.
import { lost, left, placeOf, seenBy } from '../../domain/policy/on-fabric.ts'
import { fabricPlace, type FabricPlace } from '../../protocol/fabric/place.ts'
import type { SightKind } from '../../protocol/fabric/sightings.ts'
import { evaluatedOf, sectionsOf } from '../../schema/queries/behind.ts'
import type { ComputedEndpoint } from '../../schema/queries/guarded-many.ts'
import { endAllBy, marked, noLongerSeen, notYetSeen, seenByAny } from '../../schema/queries/on-fabric.ts'
import type { SeenRow, Sights } from '../../schema/queries/sights.ts'
import { logEvent, type Context } from '../context.ts'
import { bytesOf, commitMany, computedOf, MAX_COMMIT_BYTES } from './commit-many.ts'
import { noteFlapping } from './commit-endpoint.ts'
import { readSections } from './facts.ts'
import { moveFabric } from './move-fabric.ts'
import { rulesOf } from './rules.ts'
import { tellProfiles } from './tell-profiles.ts'
import { evaluatedThrough, selectStates } from './states.ts'
import { workOut } from './work-out.ts'

/** Endpoints in one pass, with all their sections; who is left is found by the gateway's next report. */
const AT_ONCE = 200
/** Of the queries that one invocation may make. */
const PASSES = 2

/** Damaged, it is no mark: nothing that the gateway sees says where a device is. */
export function readPlace(fabric: string | null): FabricPlace | null {
  if (fabric === null) return null
  const read = fabricPlace.safeParse(JSON.parse(fabric))
  return read.success ? read.data : null
}
/** Sights as they are kept: each with whether it says that its device is on the fabric. */
export function placed(rows: readonly SeenRow[], fabric: string | null): (readonly [...SeenRow, 0 | 1])[] {
  const isThere = placeOf(readPlace(fabric))
  return rows.map((row) => [...row, isThere(row[0] as SightKind, row[2]) ? 1 : 0])
}

/**
 * Brings endpoints where the sights of one gateway show them.
 * @param among by these of its sights only, and nobody leaves; null: by all, as after a snapshot
 * @param atOnce whoever leaves is not held for a moment
 */
export async function followSights(context: Context, { serial, group }: Sights, among: readonly SeenRow[] | null, atOnce = false): Promise<void> {
  const { db } = context
  for (let pass = 0; pass < PASSES; pass++) {
    const [come, gone] = among === null
      ? await db.batch([notYetSeen(db, serial, group, null, AT_ONCE), noLongerSeen(db, serial, AT_ONCE)])
      : [among.length === 0 ? [] : await notYetSeen(db, serial, group, among, AT_ONCE), []]
    const elsewhere = new Map((gone.length === 0 ? [] : await seenByAny(db, gone.map(({ uid }) => uid))).map((each) => [each.uid, each.serial]))
    const seers = new Map([...gone.map(({ uid }) => [uid, elsewhere.get(uid) ?? null] as const), ...come.map(({ uid }) => [uid, serial] as const)])
    if (seers.size === 0 || await move(context, serial, seers, atOnce)) return
  }
}

/** @param seers UID → the gateway that sees it now, or null @returns whether that was all */
async function move(context: Context, serial: string, seers: ReadonlyMap<string, string | null>, atOnce: boolean): Promise<boolean> {
  const { db } = context
  const uids = [...seers.keys()].slice(0, AT_ONCE)
  const [rows, states, stored] = await db.batch([evaluatedOf(db, uids), selectStates(context), sectionsOf(db, uids, null)])
  const [held, byUid, now] = [await rulesOf(context, states), Map.groupBy(stored, ({ uid }) => uid), context.now()]
  const computed: ComputedEndpoint[] = []
  let [bytes, complete, due] = [0, uids.length === seers.size && uids.length < AT_ONCE, Infinity]
  for (const row of rows) {
    const { facts, damaged } = readSections(byUid.get(row.uid) ?? [])
    const [before, by] = [facts.fabric?.value ?? null, seers.get(row.uid) ?? null]
    const fabric = by !== null ? seenBy(by, before, now) : atOnce || before === null ? left(serial, now) : lost(before, now)
    const moved = await moveFabric(row.onFabric, facts, fabric, by, now)
    const worked = workOut({ endpoint: { ...row, fabricUntil: moved.fabric.until }, held, through: Math.max(row.rulesRevision, evaluatedThrough(states)), facts: moved.facts, changed: ['fabric', ...damaged], now })
    const each = computedOf(row, worked, damaged, { fabric: moved.fabric })
    if (computed.length > 0 && (bytes += bytesOf(each)) > MAX_COMMIT_BYTES) {
      complete = false
      break
    }
    for (const section of damaged) logEvent('section-damaged', { uid: row.uid, section })
    computed.push(each)
    due = Math.min(due, each.set.nextDue ?? Infinity)
  }
  if (computed.length === 0) return true
  const { written, told } = await commitMany(context, computed, held.rules.revision)
  if (Number.isFinite(due)) context.waitUntil(context.env.RE_EVALUATION.getByName('one').due(due))
  // The log stands: who did not hear is told by the re-evaluation.
  if (!told) context.waitUntil(context.env.RE_EVALUATION.getByName('one').start(true))
  tellProfiles(context, computed)
  // Somebody else was first with some of them: they are found again.
  if (written < computed.length) return false
  for (const row of rows) noteFlapping(row, computed.find(({ uid }) => uid === row.uid)?.set ?? {})
  return complete
}

/** A gateway that says nothing any more of where devices are: whom it alone saw leaves the fabric at once. */
export async function endPlace(context: Context, serial: string): Promise<void> {
  await followSights(context, { serial, group: 'neighbours' }, null, true)
  const { meta } = await endAllBy(context.db, serial, context.now())
  if (meta.changes > 0) await context.env.RE_EVALUATION.getByName('one').start()
}
/** The net under reports and de-authorisations that broke off: every marked gateway. */
export async function sweepPlaces(context: Context): Promise<void> {
  for (const { serial, state } of await marked(context.db)) await (state === 'authorised' ? followSights(context, { serial, group: 'neighbours' }, null) : endPlace(context, serial))
}
