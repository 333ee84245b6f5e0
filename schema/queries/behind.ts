// Which endpoints owe an evaluation: behind the rules, in rounds by UID, or due by time. And what an evaluation of many reads.
import { and, asc, eq, inArray, isNotNull, lt, lte, sql, type SQL } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { changeLog } from '../change-log.ts'
import { endpoints, endpointSections } from '../endpoint.ts'

const among = (uids: readonly string[]): SQL => sql`(SELECT value FROM json_each(${JSON.stringify(uids)}))`
/** Registered, has reported, and was worked out with older rules. */
const behind = (revision: number) => and(eq(endpoints.registered, true), isNotNull(endpoints.lastReportAt), lt(endpoints.rulesRevision, revision))

/** What edits touched: only endpoints of these systems, those that hold a verdict of these rule sets, and those whose system nobody knows, can be concerned. null: all. */
export interface Touched { readonly systems: readonly string[]; readonly ruleSets: readonly string[] }
const concernedBy = (touched: Touched | null): SQL => (touched === null ? sql`1` : sql`(os IN ${among(touched.systems)}
  OR EXISTS (SELECT 1 FROM json_each(${JSON.stringify(touched.ruleSets)}) t WHERE instr(verdicts, t.value) > 0)
  OR NOT EXISTS (SELECT 1 FROM endpoint_sections s WHERE s.uid = w.uid AND s.section = 'os'))`)

/** The next endpoints behind, by UID: whether they can be concerned, and how many bytes of these sections they hold. Reads no more rows than `limit`. */
export const nextBehind = (db: DrizzleD1Database, revision: number, after: string, touched: Touched | null, sections: readonly string[], limit: number) =>
  db.all<{ uid: string; concerned: number; bytes: number }>(sql`SELECT w.uid, w.concerned, CASE w.concerned WHEN 1 THEN
      COALESCE((SELECT sum(length(s.body)) FROM endpoint_sections s WHERE s.uid = w.uid AND s.section IN ${among(sections)}), 0) ELSE 0 END AS bytes
    FROM (SELECT w.uid, ${concernedBy(touched)} AS concerned
      FROM (SELECT uid, os, verdicts FROM endpoints WHERE uid > ${after} AND ${behind(revision)} ORDER BY uid LIMIT ${limit}) w) w ORDER BY w.uid`)
export const countBehind = (db: DrizzleD1Database, revision: number) => db.select({ count: sql<number>`count(*)` }).from(endpoints).where(behind(revision))

/** Endpoints whose verdict falls due, the longest due first; without those that were set aside. */
export const due = (db: DrizzleD1Database, now: number, without: readonly string[], limit: number) =>
  db.all<{ uid: string; bytes: number }>(sql`SELECT e.uid, COALESCE((SELECT sum(length(s.body)) FROM endpoint_sections s WHERE s.uid = e.uid), 0) AS bytes
    FROM (SELECT uid, next_due FROM endpoints WHERE ${and(isNotNull(endpoints.nextDue), lte(endpoints.nextDue, now), eq(endpoints.registered, true))} AND uid NOT IN ${among(without)} ORDER BY next_due LIMIT ${limit}) e ORDER BY e.next_due`)
export const nextDue = (db: DrizzleD1Database, without: readonly string[]) => db.select({ at: endpoints.nextDue }).from(endpoints)
  .where(and(isNotNull(endpoints.nextDue), eq(endpoints.registered, true), sql`${endpoints.uid} NOT IN ${among(without)}`)).orderBy(asc(endpoints.nextDue)).limit(1)

/** What an evaluation starts from and a row of the log is made of. */
const evaluated = {
  uid: endpoints.uid, version: endpoints.version, registered: endpoints.registered, online: endpoints.online, onFabric: endpoints.onFabric, quarantined: endpoints.quarantined,
  certificates: endpoints.certificates, tags: endpoints.tags, addresses: endpoints.addresses, lastReportAt: endpoints.lastReportAt,
  rulesRevision: endpoints.rulesRevision, verdicts: endpoints.verdicts, nextDue: endpoints.nextDue,
}
export const evaluatedOf = (db: DrizzleD1Database, uids: readonly string[]) => db.select(evaluated).from(endpoints).where(sql`${endpoints.uid} IN ${among(uids)} AND ${endpoints.registered} = 1`).orderBy(asc(endpoints.uid))
/** Sections of many endpoints; null: every section. What was matched for an endpoint belongs to its vulnerabilities. */
export const sectionsOf = (db: DrizzleD1Database, uids: readonly string[], sections: readonly string[] | null) => db.select().from(endpointSections)
  .where(and(sql`${endpointSections.uid} IN ${among(uids)}`, sections === null ? undefined : inArray(endpointSections.section, sections.includes('vulnerabilities') ? [...sections, 'matches'] : [...sections])))

/** The mark of one revision of the log; none: it was trimmed, or the database restored. */
export const markOf = (db: DrizzleD1Database, revision: number) => db.select({ mark: changeLog.mark }).from(changeLog).where(eq(changeLog.revision, revision))
