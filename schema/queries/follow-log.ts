// What a gateway's object asks of D1: the log after its cursor, and the world anew when that can't be continued.
import { asc, desc, eq, gte, sql, type SQL } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { changeLog } from '../change-log.ts'
import { endpoints } from '../endpoint.ts'
import { gateways } from '../gateway.ts'
import { tags } from '../rules.ts'

export const logFrom = (db: DrizzleD1Database, revision: number, limit: number) =>
  db.select().from(changeLog).where(gte(changeLog.revision, revision)).orderBy(asc(changeLog.revision)).limit(limit)
export const logHead = (db: DrizzleD1Database) => db.select({ revision: changeLog.revision, mark: changeLog.mark }).from(changeLog).orderBy(desc(changeLog.revision)).limit(1)
/** Marks of the revisions that the log still has. */
export const logMarks = (db: DrizzleD1Database, revisions: readonly number[]) =>
  db.select({ revision: changeLog.revision, mark: changeLog.mark }).from(changeLog).where(sql`${changeLog.revision} IN (SELECT value FROM json_each(${JSON.stringify(revisions)}))`)
/** A row that belongs to no endpoint: what a gateway sees has changed, and its watermark must move. */
export const insertMarker = (db: DrizzleD1Database, row: { mark: string; at: number; tables: string }) => db.insert(changeLog).values({ ...row, uid: null, entry: null })
/** The same for a gateway that loads anew, if it is authorised: whatever it held before, nobody can mistake it for the world that it sees now. */
export const insertReloadMarker = (db: DrizzleD1Database, serial: string, { mark, at }: { mark: string; at: number }) =>
  db.insert(changeLog).select(sql`SELECT NULL, ${mark}, ${at}, NULL, '', NULL FROM gateways WHERE serial = ${serial} AND state = 'authorised'`)

export const gatewayBySerial = (db: DrizzleD1Database, serial: string) => db.select().from(gateways).where(eq(gateways.serial, serial))
export const allTags = (db: DrizzleD1Database) => db.select({ uid: tags.uid, name: tags.name, type: tags.type, description: tags.description }).from(tags)

const shown = {
  uid: endpoints.uid, registered: endpoints.registered, online: endpoints.online, onFabric: endpoints.onFabric, quarantined: endpoints.quarantined,
  certificates: endpoints.certificates, tags: endpoints.tags, addresses: endpoints.addresses, lastReportAt: endpoints.lastReportAt,
}
const subscribedBy = (serials: readonly string[]): SQL => sql`SELECT uid FROM gateway_subscriptions WHERE serial IN (SELECT value FROM json_each(${JSON.stringify(serials)}))`
/** Small records by UID, in pages; `owners`: only what these gateways subscribed to, null: all. */
export const smallRecordsAfter = (db: DrizzleD1Database, after: string, owners: readonly string[] | null, limit: number) => db.select(shown).from(endpoints)
  .where(owners === null ? sql`${endpoints.uid} > ${after}` : sql`${endpoints.uid} > ${after} AND ${endpoints.uid} IN (${subscribedBy(owners)})`).orderBy(asc(endpoints.uid)).limit(limit)
export const smallRecords = (db: DrizzleD1Database, uids: readonly string[]) => db.select(shown).from(endpoints).where(sql`${endpoints.uid} IN (SELECT value FROM json_each(${JSON.stringify(uids)}))`)
/** UIDs that these gateways subscribed to, in pages; `among`: of these only. */
export const subscribedAfter = (db: DrizzleD1Database, after: string, owners: readonly string[], limit: number, among: readonly string[] | null = null) => db.all<{ uid: string }>(
  sql`SELECT DISTINCT uid FROM (${subscribedBy(owners)}) WHERE uid > ${after}${among === null ? sql`` : sql` AND uid IN (SELECT value FROM json_each(${JSON.stringify(among)}))`} ORDER BY uid LIMIT ${limit}`,
)
