// Which endpoints owe an evaluation: behind the rules, in rounds by UID, or due by time. And what an evaluation of many reads.
import { Buffer } from 'node:buffer'
import { and, asc, eq, getTableColumns, inArray, isNotNull, lt, lte, sql, type SQL } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { changeLog } from '../change-log.ts'
import { endpoints, endpointSections } from '../endpoint.ts'

const among = (uids: readonly string[]): SQL => sql`(SELECT value FROM json_each(${JSON.stringify(uids)}))`
/** With a plus, so that nothing is looked up by it: nearly every endpoint is registered, and the order wanted is another. */
const registered = sql`+${endpoints.registered} = 1`
/** Registered, has reported, and was worked out with older rules. */
export const behind = (revision: number) => and(registered, isNotNull(endpoints.lastReportAt), lt(endpoints.rulesRevision, revision))

/** What edits touched: only endpoints of these systems, those that hold a verdict of these rule sets, and those whose system nobody knows, can be concerned. null: all. */
export interface Touched { readonly systems: readonly string[]; readonly ruleSets: readonly string[] }
const holdsAny = (touched: Touched | null): SQL => (touched === null ? sql`1` : sql`EXISTS (SELECT 1 FROM json_each(${JSON.stringify(touched.ruleSets)}) t WHERE instr(verdicts, t.value) > 0)`)
export const systemIn = (touched: Touched | null): SQL => (touched === null ? sql`1` : sql`(w.os IN ${among(touched.systems)} OR NOT EXISTS (SELECT 1 FROM endpoint_sections s WHERE s.uid = w.uid AND s.section = 'os'))`)

export interface Behind {
  readonly uid: string
  /** 1: it can be concerned. */
  readonly concerned: number
  /** 1: it holds a verdict of an edited rule set, or one of its verdicts is due. */
  readonly full: number
  /** Bytes of the sections in question. */
  readonly bytes: number
}
/** The next endpoints behind, by UID. Reads no more rows than `limit`. */
export const nextBehind = (db: DrizzleD1Database, given: { revision: number; after: string; touched: Touched | null; sections: readonly string[]; now: number; limit: number }) =>
  db.all<Behind>(sql`SELECT w.uid, w.concerned, w.holds OR COALESCE(w.next_due <= ${given.now}, 0) AS full, CASE w.concerned WHEN 1 THEN
      COALESCE((SELECT sum(length(s.body)) FROM endpoint_sections s WHERE s.uid = w.uid AND s.section IN ${among(given.sections)}), 0) ELSE 0 END AS bytes
    FROM (SELECT w.uid, w.next_due, w.holds, w.holds OR ${systemIn(given.touched)} AS concerned
      FROM (SELECT uid, os, next_due, ${holdsAny(given.touched)} AS holds FROM endpoints WHERE uid > ${given.after} AND ${behind(given.revision)} ORDER BY uid LIMIT ${given.limit}) w) w ORDER BY w.uid`)
export const countBehind = (db: DrizzleD1Database, revision: number) => db.select({ count: sql<number>`count(*)` }).from(endpoints).where(behind(revision))

/** The same of every endpoint that has reported: later than all rules there will be. */
const EVER = Number.MAX_SAFE_INTEGER
export const nextReported = (db: DrizzleD1Database, given: { after: string; touched: Touched | null; sections: readonly string[]; limit: number }) => nextBehind(db, { ...given, revision: EVER, now: 0 })
export const countReported = (db: DrizzleD1Database) => countBehind(db, EVER)

/** Endpoints whose verdict falls due, the longest due first; without those that were set aside. */
export const due = (db: DrizzleD1Database, now: number, without: readonly string[], limit: number) =>
  db.all<{ uid: string; bytes: number }>(sql`SELECT e.uid, COALESCE((SELECT sum(length(s.body)) FROM endpoint_sections s WHERE s.uid = e.uid), 0) AS bytes
    FROM (SELECT uid, next_due FROM endpoints WHERE ${and(isNotNull(endpoints.nextDue), lte(endpoints.nextDue, now), registered)} AND uid NOT IN ${among(without)} ORDER BY next_due LIMIT ${limit}) e ORDER BY e.next_due`)
export const nextDue = (db: DrizzleD1Database, without: readonly string[]) => db.select({ at: endpoints.nextDue }).from(endpoints)
  .where(and(isNotNull(endpoints.nextDue), registered, sql`${endpoints.uid} NOT IN ${among(without)}`)).orderBy(asc(endpoints.nextDue)).limit(1)

/** What an evaluation starts from and a row of the log is made of. */
const evaluated = {
  uid: endpoints.uid, version: endpoints.version, registered: endpoints.registered, online: endpoints.online, onFabric: endpoints.onFabric, quarantined: endpoints.quarantined,
  certificates: endpoints.certificates, tags: endpoints.tags, addresses: endpoints.addresses, lastReportAt: endpoints.lastReportAt,
  rulesRevision: endpoints.rulesRevision, verdicts: endpoints.verdicts, nextDue: endpoints.nextDue, assigned: endpoints.assigned, tagChanges: endpoints.tagChanges, os: endpoints.os, hostName: endpoints.hostName,
  fabricBy: endpoints.fabricBy, fabricUntil: endpoints.fabricUntil, identityBy: endpoints.identityBy, identityUntil: endpoints.identityUntil,
}
export const evaluatedOf = (db: DrizzleD1Database, uids: readonly string[]) => db.select(evaluated).from(endpoints).where(sql`${endpoints.uid} IN ${among(uids)} AND ${registered}`).orderBy(asc(endpoints.uid))
/** D1 hands a blob over as a list of numbers, which is three times as slow as its digits. */
const bodyAsText = sql<Uint8Array>`hex(${endpointSections.body})`.mapWith((digits: string) => Buffer.from(digits, 'hex'))
/** Sections of many endpoints; null: every section. What was matched for an endpoint belongs to its vulnerabilities. */
export const sectionsOf = (db: DrizzleD1Database, uids: readonly string[], sections: readonly string[] | null) => db.select({ ...getTableColumns(endpointSections), body: bodyAsText }).from(endpointSections)
  .where(and(sql`${endpointSections.uid} IN ${among(uids)}`, sections === null ? undefined : inArray(endpointSections.section, sections.includes('vulnerabilities') ? [...sections, 'matches'] : [...sections])))

/** The mark of one revision of the log; none: it was trimmed, or the database restored. */
export const markOf = (db: DrizzleD1Database, revision: number) => db.select({ mark: changeLog.mark }).from(changeLog).where(eq(changeLog.revision, revision))
