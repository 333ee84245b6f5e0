// The guarded write of one endpoint: every statement holds only while the endpoint's version and the rules' revision are those it was computed with.
import { sql, type SQL } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { endpoints, type EndpointRow } from '../endpoint.ts'

/** What a write was computed with. */
export interface Guard { readonly uid: string; readonly version: number; readonly rulesRevision: number }

/** `AND`-able condition. A later statement of the batch must still see it hold, so the version is advanced by the last one only. */
export const unchanged = ({ uid, version, rulesRevision }: Guard): SQL =>
  sql`EXISTS (SELECT 1 FROM endpoints e WHERE e.uid = ${uid} AND e.version = ${version}) AND COALESCE((SELECT revision FROM rules_state WHERE id = 1), 0) = ${rulesRevision}`

export const insertSection = (db: DrizzleD1Database, guard: Guard, row: { section: string; hash: string; at: number; body: Uint8Array }) => db.run(sql`
  INSERT INTO endpoint_sections (uid, section, hash, at, body) SELECT ${guard.uid}, ${row.section}, ${row.hash}, ${row.at}, ${row.body} WHERE ${unchanged(guard)}
  ON CONFLICT (uid, section) DO UPDATE SET hash = excluded.hash, at = excluded.at, body = excluded.body`)

/** Tags that are new or changed, in one statement. */
export const putTags = (db: DrizzleD1Database, guard: Guard, tags: readonly { tagUid: string; state: string; validUntil: number | null }[], now: number) => db.run(sql`
  INSERT INTO endpoint_tags (tag_uid, uid, state, valid_until, since)
  SELECT json_extract(value, '$.tagUid'), ${guard.uid}, json_extract(value, '$.state'), json_extract(value, '$.validUntil'), ${now} FROM json_each(${JSON.stringify(tags)}) WHERE ${unchanged(guard)}
  ON CONFLICT (tag_uid, uid) DO UPDATE SET state = excluded.state, valid_until = excluded.valid_until, since = excluded.since`)

export const dropTags = (db: DrizzleD1Database, guard: Guard, tagUids: readonly string[]) => db.run(sql`
  DELETE FROM endpoint_tags WHERE uid = ${guard.uid} AND tag_uid IN (SELECT value FROM json_each(${JSON.stringify(tagUids)})) AND ${unchanged(guard)}`)

export const insertLog = (db: DrizzleD1Database, row: { mark: string; at: number; uid: string | null; tables: string; entry: string | null }, when: SQL) => db.run(sql`
  INSERT INTO change_log (mark, at, uid, tables, entry) SELECT ${row.mark}, ${row.at}, ${row.uid}, ${row.tables}, ${row.entry} WHERE ${when}`)

/** The last statement: if it changed no row, nothing did. */
export const advance = (db: DrizzleD1Database, guard: Guard, set: Partial<EndpointRow>) => db.update(endpoints).set({ ...set, version: guard.version + 1 })
  .where(sql`${endpoints.uid} = ${guard.uid} AND ${endpoints.version} = ${guard.version} AND COALESCE((SELECT revision FROM rules_state WHERE id = 1), 0) = ${guard.rulesRevision}`)
