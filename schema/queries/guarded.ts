// The guarded write of one endpoint: every statement holds only while the endpoint's version and the rules' revision are those it was computed with.
import { sql, type SQL } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { changeLog } from '../change-log.ts'
import { endpoints, endpointSections, endpointTags, type EndpointRow } from '../endpoint.ts'

/** What a write was computed with. */
export interface Guard { readonly uid: string; readonly version: number; readonly rulesRevision: number; /** What else must still hold. */ readonly when?: SQL }

/** `AND`-able condition. A later statement of the batch must still see it hold, so the version is advanced by the last one only. */
export const unchanged = ({ uid, version, rulesRevision, when }: Guard): SQL =>
  sql`EXISTS (SELECT 1 FROM endpoints e WHERE e.uid = ${uid} AND e.version = ${version}) AND COALESCE((SELECT revision FROM rules_state WHERE id = 1), 0) = ${rulesRevision}${when === undefined ? sql`` : sql` AND ${when}`}`

// Inserts are written with `.select(sql)`: drizzle can't put a bare `db.run(sql)` with parameters into a D1 batch. All columns, in the table's order.

export const insertSection = (db: DrizzleD1Database, guard: Guard, row: { section: string; hash: string; at: number; body: Uint8Array }) => db.insert(endpointSections)
  .select(sql`SELECT ${guard.uid}, ${row.section}, ${row.hash}, ${row.at}, ${row.body} WHERE ${unchanged(guard)}`)
  .onConflictDoUpdate({ target: [endpointSections.uid, endpointSections.section], set: { hash: sql`excluded.hash`, at: sql`excluded.at`, body: sql`excluded.body` } })

/** Sections that are as they were, and known to be so since an instant (ms): one row each. */
export const renewSections = (db: DrizzleD1Database, guard: Guard, looked: readonly (readonly [section: string, at: number])[]) => db.update(endpointSections)
  .set({ at: sql`(SELECT j.value->>1 FROM json_each(${JSON.stringify(looked)}) j WHERE j.value->>0 = ${endpointSections.section})` })
  .where(sql`${endpointSections.uid} = ${guard.uid} AND ${endpointSections.section} IN (SELECT value->>0 FROM json_each(${JSON.stringify(looked)})) AND ${unchanged(guard)}`)

/** Sections that can't be read any more: the next report is asked for them. */
export const dropSections = (db: DrizzleD1Database, guard: Guard, sections: readonly string[]) => db.delete(endpointSections)
  .where(sql`${endpointSections.uid} = ${guard.uid} AND ${endpointSections.section} IN (SELECT value FROM json_each(${JSON.stringify(sections)})) AND ${unchanged(guard)}`)

/** Tags that are new or changed, in one statement. */
export const putTags = (db: DrizzleD1Database, guard: Guard, tags: readonly { tagUid: string; state: string; validUntil: number | null }[], now: number) => db.insert(endpointTags)
  .select(sql`SELECT json_extract(value, '$.tagUid'), ${guard.uid}, json_extract(value, '$.state'), json_extract(value, '$.validUntil'), ${now} FROM json_each(${JSON.stringify(tags)}) WHERE ${unchanged(guard)}`)
  .onConflictDoUpdate({ target: [endpointTags.tagUid, endpointTags.uid], set: { state: sql`excluded.state`, validUntil: sql`excluded.valid_until`, since: sql`excluded.since` } })

export const dropTags = (db: DrizzleD1Database, guard: Guard, tagUids: readonly string[]) => db.delete(endpointTags)
  .where(sql`${endpointTags.uid} = ${guard.uid} AND ${endpointTags.tagUid} IN (SELECT value FROM json_each(${JSON.stringify(tagUids)})) AND ${unchanged(guard)}`)

export const insertLog = (db: DrizzleD1Database, row: { mark: string; at: number; uid: string | null; tables: string; entry: string | null }, when: SQL) => db.insert(changeLog)
  .select(sql`SELECT NULL, ${row.mark}, ${row.at}, ${row.uid}, ${row.tables}, ${row.entry} WHERE ${when}`)

/** The last statement: if it changed no row, nothing did. */
export const advance = (db: DrizzleD1Database, guard: Guard, set: Partial<EndpointRow>) => db.update(endpoints).set({ ...set, version: guard.version + 1 })
  .where(sql`${endpoints.uid} = ${guard.uid} AND ${endpoints.version} = ${guard.version} AND COALESCE((SELECT revision FROM rules_state WHERE id = 1), 0) = ${guard.rulesRevision}${guard.when === undefined ? sql`` : sql` AND ${guard.when}`}`)
