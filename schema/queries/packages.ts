// Distinct packages of the fleet, and who has them. Holders are bits, set and cleared by one statement each.
import { asc, eq, sql, type SQL } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import type { FleetPackage } from '../../domain/vulnerability/match.ts'
import { affectedPackages } from '../advisory.ts'
import { ENDPOINTS_IN_WORD, inventories, packageHolders, packages, staleInventories } from '../package.ts'
import { jsonPieces } from './chunks.ts'
import { unchanged, type Guard } from './guarded.ts'

const rowOf = ({ ecosystem, subject, subjectVersion, name, version }: FleetPackage) => [ecosystem, subject, subjectVersion, name, version] as const
const column = (index: number): SQL => sql.raw(`json_extract(j.value, '$[${index}]')`)
/** `p` is the package that row `j` tells of; the columns are those of its unique index. */
const isPackage = (): SQL => sql`p.ecosystem = ${column(0)} AND p.subject = ${column(1)} AND p.subject_version = ${column(2)} AND p.name = ${column(3)} AND p.version = ${column(4)}`
const among = (ids: readonly number[]): SQL => sql`(SELECT value FROM json_each(${JSON.stringify(ids)}))`

/** Ids in the order of the list, null where the fleet has no such package yet. One row, for twenty thousand may be asked for. */
export async function packageIds(db: DrizzleD1Database, list: readonly FleetPackage[]): Promise<(number | null)[]> {
  const ids: (number | null)[] = []
  for (const piece of list.length === 0 ? [] : jsonPieces(list.map(rowOf))) {
    const [row] = await db.all<{ ids: string }>(sql`SELECT json_group_array(id) AS ids FROM (SELECT p.id AS id FROM json_each(${piece}) j LEFT JOIN packages p ON ${isPackage()} ORDER BY j.key)`)
    ids.push(...JSON.parse(row?.ids ?? '[]') as (number | null)[])
  }
  return ids
}
/** Packages that wait to be removed are wanted again. */
export const keepPackages = (db: DrizzleD1Database, ids: readonly number[]) => db.update(packages).set({ orphanedAt: null }).where(sql`${packages.orphanedAt} IS NOT NULL AND ${packages.id} IN ${among(ids)}`)

/** While the advisories are at this revision: what was matched with others must not be written. */
const advisoriesAre = (revision: number): SQL => sql`EXISTS (SELECT 1 FROM advisory_state WHERE id = 1 AND revision = ${revision})`
export const insertPackages = (db: DrizzleD1Database, list: readonly FleetPackage[], revision: number) => jsonPieces(list.map(rowOf)).map((piece) => db.insert(packages)
  .select(sql`SELECT NULL, ${column(0)}, ${column(3)}, ${column(4)}, ${column(1)}, ${column(2)}, NULL FROM json_each(${piece}) j WHERE ${advisoriesAre(revision)}`).onConflictDoNothing())
/** Rows for `insertMatches` (affected.ts): `p` is the package of each. */
export const matchedPackages = (list: readonly (readonly [FleetPackage, ...unknown[]])[]) => jsonPieces(list.map(([each, ...rest]) => [...rowOf(each), ...rest]))
export const joinPackages = (piece: string, revision: number): SQL => sql`json_each(${piece}) j JOIN packages p ON ${isPackage()} WHERE ${advisoriesAre(revision)}`

export const ecosystemsAmong = (db: DrizzleD1Database, ids: readonly number[]) => db.selectDistinct({ ecosystem: packages.ecosystem }).from(packages).where(sql`${packages.id} IN ${among(ids)}`)
export const packagesByIds = (db: DrizzleD1Database, ids: readonly number[]) => db.select().from(packages).where(sql`${packages.id} IN ${among(ids)}`)

/** The endpoint's number, made at the first inventory. */
export const numberEndpoint = (db: DrizzleD1Database, uid: string) => db.insert(inventories).values({ uid }).onConflictDoNothing()
export const endpointNumber = (db: DrizzleD1Database, uid: string) => db.select({ number: inventories.number, introduced: inventories.introduced, introducedSince: inventories.introducedSince }).from(inventories).where(eq(inventories.uid, uid))
/** Counts rows that an endpoint's report has made; in the batch that writes them. */
export const countIntroduced = (db: DrizzleD1Database, number: number, rows: number, now: number, everyMs: number) => db.update(inventories).set({
  introduced: sql`CASE WHEN introduced_since > ${now - everyMs} THEN introduced ELSE 0 END + ${rows}`, introducedSince: sql`CASE WHEN introduced_since > ${now - everyMs} THEN introduced_since ELSE ${now} END`,
}).where(eq(inventories.number, number))

// Written out: a bound number is a double to SQLite, and would divide as one.
const perWord = sql.raw(String(ENDPOINTS_IN_WORD))
const wordOf = (number: number): number => Math.floor(number / ENDPOINTS_IN_WORD)
const bitOf = (number: number): SQL => sql`(1 << ${number % ENDPOINTS_IN_WORD})`
export const addHolder = (db: DrizzleD1Database, guard: Guard, number: number, ids: readonly number[]) => db.insert(packageHolders)
  .select(sql`SELECT value, ${wordOf(number)}, ${bitOf(number)} FROM json_each(${JSON.stringify(ids)}) WHERE ${unchanged(guard)}`)
  .onConflictDoUpdate({ target: [packageHolders.packageId, packageHolders.word], set: { bits: sql`bits | excluded.bits` } })
export const removeHolder = (db: DrizzleD1Database, guard: Guard, number: number, ids: readonly number[]) => db.update(packageHolders)
  .set({ bits: sql`bits & ~${bitOf(number)}` }).where(sql`${packageHolders.word} = ${wordOf(number)} AND ${packageHolders.packageId} IN ${among(ids)} AND ${unchanged(guard)}`)

const setMark = { bits: sql`bits | excluded.bits`, mark: sql`mark + 1` }
/** Advisories were matched after this endpoint's findings were read: it is looked at again. In the batch that stores them. */
export const markIfMatchedSince = (db: DrizzleD1Database, guard: Guard, number: number, matchedThrough: number) => db.insert(staleInventories)
  .select(sql`SELECT ${wordOf(number)}, ${bitOf(number)}, 0 WHERE ${unchanged(guard)} AND NOT EXISTS (SELECT 1 FROM advisory_state WHERE id = 1 AND matched_through = ${matchedThrough})`)
  .onConflictDoUpdate({ target: staleInventories.word, set: setMark })
/** Everybody who has one of the packages that the query gives; `when` guards it. */
export const markHolders = (db: DrizzleD1Database, packageIds: SQL, when: SQL) => db.insert(staleInventories)
  .select(sql`SELECT h.word, h.bits, 0 FROM package_holders h WHERE h.package_id IN (${packageIds}) AND h.bits <> 0 AND ${when}`)
  .onConflictDoUpdate({ target: staleInventories.word, set: setMark })
/** Everybody: an ecosystem has advisories for the first time. */
export const markEverybody = (db: DrizzleD1Database, when: SQL) => db.insert(staleInventories)
  .select(sql`SELECT number / ${perWord}, sum(1 << (number % ${perWord})), 0 FROM inventories WHERE ${when} GROUP BY 1`)
  .onConflictDoUpdate({ target: staleInventories.word, set: setMark })
/** A word in which somebody is marked, looked for from one on and then from the beginning. */
export const nextStale = (db: DrizzleD1Database, from: number) => db.select().from(staleInventories).where(sql`${staleInventories.bits} <> 0`).orderBy(sql`${staleInventories.word} < ${from}`, asc(staleInventories.word)).limit(1)
/** Nothing is cleared that was marked again meanwhile. */
export const clearStale = (db: DrizzleD1Database, word: number, bits: number, mark: number) => db.update(staleInventories)
  .set({ bits: sql`bits & ~${bits}` }).where(sql`${staleInventories.word} = ${word} AND ${staleInventories.mark} = ${mark}`)

/** Registered endpoints by their numbers, by look-up: left to itself the planner reads every registered endpoint. */
export const endpointsByNumbers = (db: DrizzleD1Database, numbers: readonly number[]) => db.all<{ number: number; uid: string; hostName: string }>(sql`
  SELECT i.number AS number, e.uid AS uid, e.host_name AS hostName FROM json_each(${JSON.stringify(numbers)}) n CROSS JOIN inventories i ON i.number = n.value CROSS JOIN endpoints e ON e.uid = i.uid AND e.registered = 1 ORDER BY i.number`)

export const packagesNamed = (db: DrizzleD1Database, name: string, limit: number) => db.select().from(packages).where(eq(packages.name, name)).orderBy(asc(packages.id)).limit(limit)
/** Words of holders from one word on, by word: as many endpoints as are shown, not as there are. */
export const holdersFrom = (db: DrizzleD1Database, ids: readonly number[], word: number, limit: number) => db.select().from(packageHolders)
  .where(sql`${packageHolders.packageId} IN ${among(ids)} AND ${packageHolders.word} >= ${word} AND ${packageHolders.bits} <> 0`).orderBy(asc(packageHolders.word), asc(packageHolders.packageId)).limit(limit)

const nobodyHas = sql`NOT EXISTS (SELECT 1 FROM package_holders h WHERE h.package_id = ${packages.id} AND h.bits <> 0)`
/** Packages that nobody has any more, of those that an endpoint has let go: noted first, removed when they still are so after a while, for another report may be on its way with them. */
export const noteOrphans = (db: DrizzleD1Database, guard: Guard, ids: readonly number[], now: number) => db.update(packages).set({ orphanedAt: now })
  .where(sql`${packages.orphanedAt} IS NULL AND ${packages.id} IN ${among(ids)} AND ${nobodyHas} AND ${unchanged(guard)}`)
export const newestPackage = (db: DrizzleD1Database) => db.select({ id: sql<number | null>`max(${packages.id})` }).from(packages)
/** The same of a part of all: reports that broke off leave packages that nobody ever had. */
export const noteOrphansBetween = (db: DrizzleD1Database, from: number, to: number, now: number) => db.update(packages).set({ orphanedAt: now })
  .where(sql`${packages.orphanedAt} IS NULL AND ${packages.id} BETWEEN ${from} AND ${to} AND ${nobodyHas}`)
/** Never the newest, whose id would be given again. */
export const orphansBefore = (db: DrizzleD1Database, before: number, limit: number) => db.select({ id: packages.id }).from(packages)
  .where(sql`${packages.orphanedAt} < ${before} AND ${packages.id} < (SELECT max(id) FROM packages)`).orderBy(asc(packages.orphanedAt)).limit(limit)
export const removePackages = (db: DrizzleD1Database, ids: readonly number[]) => {
  const still = sql`(SELECT p.id FROM packages p WHERE p.id IN ${among(ids)} AND p.orphaned_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM package_holders h WHERE h.package_id = p.id AND h.bits <> 0))`
  return [
    db.delete(affectedPackages).where(sql`${affectedPackages.packageId} IN ${still}`), db.delete(packageHolders).where(sql`${packageHolders.packageId} IN ${still}`), db.delete(packages).where(sql`${packages.id} IN ${still}`),
    // What is left of them somebody has again.
    keepPackages(db, ids),
  ] as const
}
