// For which endpoints a rule set holds, from their stored verdicts. No index tells it: a page looks at so many rows and no more.
import { sql, type SQL } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { endpoints } from '../endpoint.ts'

const verdict = (id: string): SQL => sql`json_extract(verdicts, ${`$."${id}"`})`
const mentions = (id: string): SQL => sql`instr(verdicts, ${id}) > 0`
const look = (after: string, rows: number): SQL => sql`(SELECT uid, host_name, verdicts FROM ${endpoints} WHERE uid > ${after} AND +registered = 1 ORDER BY uid LIMIT ${rows})`

/** Of the next `rows` endpoints by UID, the first that have a verdict of it. */
export const holdersOf = (db: DrizzleD1Database, id: string, after: string, rows: number, limit: number) =>
  db.all<{ uid: string; hostName: string; verdict: string }>(sql`SELECT uid, host_name AS hostName, ${verdict(id)} AS verdict FROM ${look(after, rows)} WHERE ${mentions(id)} ORDER BY uid LIMIT ${limit}`)
/** The last of those rows; null: there are no more. */
export const lookedTo = (db: DrizzleD1Database, after: string, rows: number) => db.all<{ uid: string | null }>(sql`SELECT CASE WHEN count(*) < ${rows} THEN NULL ELSE max(uid) END AS uid FROM ${look(after, rows)}`)

const count = (when: SQL): SQL => sql`COALESCE(sum(${when}), 0)`
/** Reads every endpoint: for people who ask, not for every poll. */
export const standingOf = (db: DrizzleD1Database, id: string) => db.all<{ holds: number; unknown: number; owing: number; standing: number }>(sql`
  SELECT ${count(sql`v ->> 'value' = 'true'`)} AS holds, ${count(sql`v ->> 'value' = 'unknown'`)} AS unknown, ${count(sql`v ->> 'owes' IS NOT NULL`)} AS owing, ${count(sql`v ->> 'standsUntil' IS NOT NULL`)} AS standing
  FROM (SELECT ${verdict(id)} AS v FROM ${endpoints} WHERE +registered = 1 AND ${mentions(id)})`)
