// The guarded write of what was computed for many endpoints: set-based, each endpoint by its own version and all by the rules' revision.
// As in guarded.ts: an endpoint whose version has moved on gets none of it, and the statement that advances the version is the last.
import { and, desc, eq, or, sql, type SQL } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { changeLog } from '../change-log.ts'
import { endpoints, endpointSections, endpointTags, type EndpointRow } from '../endpoint.ts'
import { gateways } from '../gateway.ts'
import { jsonPieces } from './chunks.ts'

/** One endpoint as computed. The whole is bound as JSON, so keep the sum of all below a megabyte. */
export interface ComputedEndpoint {
  readonly uid: string
  readonly version: number
  /** `verdicts` null, `assigned` and `tagChanges` absent: they stay as they are. */
  readonly set: Pick<EndpointRow, 'rulesRevision' | 'tags' | 'nextDue'> & { readonly verdicts: string | null; readonly assigned?: string; readonly tagChanges?: string }
  /** The row of the log; null: gateways need not hear of it. */
  readonly log: { readonly mark: string; readonly tables: string; readonly entry: string } | null
  readonly put: readonly { readonly tagUid: string; readonly state: string; readonly validUntil: number | null }[]
  readonly gone: readonly string[]
  /** Sections that can't be read any more. */
  readonly damaged: readonly string[]
  /** Where it stands to the fabric now, and the section that says so where that is another one; absent: as before. */
  readonly fabric?: { readonly on: boolean; readonly by: string | null; readonly until: number | null; readonly moved: boolean; readonly at: number; readonly section: { readonly section: 'fabric'; readonly hash: string; readonly at: number; readonly body: Uint8Array } | null }
  /** Nobody is signed in any more: the section that said so is among the damaged. */
  readonly signedOut?: true
}

const rulesAre = (revision: number): SQL => sql`COALESCE((SELECT revision FROM rules_state WHERE id = 1), 0) = ${revision}`
const json = (rows: readonly unknown[]): SQL => sql`json_each(${JSON.stringify(rows)})`
/** Rows `j` of [uid, version, …] whose endpoint `e` is still as it was. */
const stillSo = (rows: readonly unknown[], revision: number): SQL => stillAs(JSON.stringify(rows), revision)
const stillAs = (rows: string, revision: number): SQL =>
  sql`json_each(${rows}) j JOIN endpoints e ON e.uid = json_extract(j.value, '$[0]') AND e.version = json_extract(j.value, '$[1]') WHERE ${rulesAre(revision)}`

export const insertLogs = (db: DrizzleD1Database, computed: readonly ComputedEndpoint[], revision: number, at: number) => db.insert(changeLog)
  .select(sql`SELECT NULL, json_extract(j.value, '$[2]'), ${at}, e.uid, json_extract(j.value, '$[3]'), json_extract(j.value, '$[4]')
    FROM ${stillSo(computed.flatMap(({ uid, version, log }) => (log === null ? [] : [[uid, version, log.mark, log.tables, log.entry]])), revision)} ORDER BY j.key`)

export const putManyTags = (db: DrizzleD1Database, computed: readonly ComputedEndpoint[], revision: number, at: number) => db.insert(endpointTags)
  .select(sql`SELECT json_extract(j.value, '$[2]'), e.uid, json_extract(j.value, '$[3]'), json_extract(j.value, '$[4]'), ${at}
    FROM ${stillSo(computed.flatMap(({ uid, version, put }) => put.map(({ tagUid, state, validUntil }) => [uid, version, tagUid, state, validUntil])), revision)}`)
  .onConflictDoUpdate({ target: [endpointTags.tagUid, endpointTags.uid], set: { state: sql`excluded.state`, validUntil: sql`excluded.valid_until`, since: sql`excluded.since` } })

export const dropManyTags = (db: DrizzleD1Database, computed: readonly ComputedEndpoint[], revision: number) => db.delete(endpointTags)
  .where(sql`(${endpointTags.tagUid}, ${endpointTags.uid}) IN (SELECT json_extract(j.value, '$[2]'), e.uid FROM ${stillSo(computed.flatMap(({ uid, version, gone }) => gone.map((tagUid) => [uid, version, tagUid])), revision)})`)

export const dropManySections = (db: DrizzleD1Database, computed: readonly ComputedEndpoint[], revision: number) => db.delete(endpointSections)
  .where(sql`(${endpointSections.uid}, ${endpointSections.section}) IN (SELECT e.uid, json_extract(j.value, '$[2]') FROM ${stillSo(computed.flatMap(({ uid, version, damaged }) => damaged.map((section) => [uid, version, section])), revision)})`)

const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
/** Sections, in as many statements as their bodies need. */
export const insertManySections = (db: DrizzleD1Database, rows: readonly { readonly uid: string; readonly version: number; readonly section: string; readonly hash: string; readonly at: number; readonly body: Uint8Array }[], revision: number) =>
  jsonPieces(rows.map(({ uid, version, section, hash, at, body }) => [uid, version, section, hash, at, hex(body)])).map((piece) => db.insert(endpointSections)
    .select(sql`SELECT e.uid, json_extract(j.value, '$[2]'), json_extract(j.value, '$[3]'), json_extract(j.value, '$[4]'), unhex(json_extract(j.value, '$[5]')) FROM ${stillAs(piece, revision)}`)
    .onConflictDoUpdate({ target: [endpointSections.uid, endpointSections.section], set: { hash: sql`excluded.hash`, at: sql`excluded.at`, body: sql`excluded.body` } }))

/** Where endpoints stand to the fabric; apart from the statement below, so that whoever does not move costs no row of its index. */
export const putFabric = (db: DrizzleD1Database, computed: readonly ComputedEndpoint[], revision: number) => db.update(endpoints)
  .set({ onFabric: sql`n.on_fabric`, fabricBy: sql`n.fabric_by`, fabricUntil: sql`n.fabric_until`,
    profileMovedAt: sql`CASE WHEN n.moved = 1 AND EXISTS (SELECT 1 FROM endpoint_policies WHERE off_fabric_profile_id IS NOT NULL) THEN max(n.at, COALESCE(${endpoints.profileMovedAt} + 1, 0)) ELSE ${endpoints.profileMovedAt} END` })
  .from(sql`(SELECT json_extract(value, '$[0]') AS uid, json_extract(value, '$[1]') AS version, json_extract(value, '$[2]') AS on_fabric, json_extract(value, '$[3]') AS fabric_by, json_extract(value, '$[4]') AS fabric_until, json_extract(value, '$[5]') AS moved, json_extract(value, '$[6]') AS at
    FROM ${json(computed.flatMap(({ uid, version, fabric }) => (fabric === undefined ? [] : [[uid, version, fabric.on ? 1 : 0, fabric.by, fabric.until, fabric.moved ? 1 : 0, fabric.at]])))}) n`)
  .where(sql`${endpoints.uid} = n.uid AND ${endpoints.version} = n.version AND ${rulesAre(revision)}`)

/** Whose sign-in has ended, and is written down as that. */
export const forgetSignIns = (db: DrizzleD1Database, computed: readonly ComputedEndpoint[], revision: number) => db.update(endpoints).set({ identityBy: null, identityUntil: null })
  .where(sql`${endpoints.uid} IN (SELECT e.uid FROM ${stillSo(computed.map(({ uid, version }) => [uid, version]), revision)})`)

/** The last statement: as many rows as it changed were written; of the others nothing was. */
export const advanceMany = (db: DrizzleD1Database, computed: readonly ComputedEndpoint[], revision: number) => db.update(endpoints)
  .set({
    verdicts: sql`COALESCE(n.verdicts, ${endpoints.verdicts})`, assigned: sql`COALESCE(n.assigned, ${endpoints.assigned})`, tagChanges: sql`COALESCE(n.tag_changes, ${endpoints.tagChanges})`,
    tags: sql`n.tags`, nextDue: sql`n.next_due`, rulesRevision: sql`n.rules_revision`, version: sql`n.version + 1`,
  })
  .from(sql`(SELECT json_extract(value, '$[0]') AS uid, json_extract(value, '$[1]') AS version, json_extract(value, '$[2]') AS verdicts, json_extract(value, '$[3]') AS tags, json_extract(value, '$[4]') AS next_due,
    json_extract(value, '$[5]') AS rules_revision, json_extract(value, '$[6]') AS assigned, json_extract(value, '$[7]') AS tag_changes
    FROM ${json(computed.map(({ uid, version, set }) => [uid, version, set.verdicts, set.tags, set.nextDue, set.rulesRevision, set.assigned ?? null, set.tagChanges ?? null]))}) n`)
  .where(sql`${endpoints.uid} = n.uid AND ${endpoints.version} = n.version AND ${rulesAre(revision)}`)

/** Gateways that any of these endpoints concerns (see interest.ts), in one question. */
export const concernedByAny = (db: DrizzleD1Database, uids: readonly string[]) => {
  const subscribed = (serial: SQL) => sql`EXISTS (SELECT 1 FROM ${json(uids)} u JOIN gateway_subscriptions s ON s.uid = u.value AND s.serial = ${serial})`
  return db.select({ serial: gateways.serial, shareTagTypes: gateways.shareTagTypes }).from(gateways).where(and(eq(gateways.state, 'authorised'), or(
    eq(gateways.shareMode, 1),
    sql`${gateways.shareMode} = 0 AND ${subscribed(sql`${gateways.serial}`)}`,
    sql`${gateways.shareMode} = 2 AND EXISTS (SELECT 1 FROM json_each(${gateways.selectedSerials}) c WHERE ${subscribed(sql`c.value`)})`,
  )))
}

/** The newest rows of the log, newest first. */
export const newestLogs = (db: DrizzleD1Database, rows: number) => db.select().from(changeLog).orderBy(desc(changeLog.revision)).limit(rows)
