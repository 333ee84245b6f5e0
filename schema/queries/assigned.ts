// What a setting of tags starts from: the endpoints with what they bear, by UID. Nothing of their facts is read.
import { and, asc, eq, gt, sql } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { endpoints, endpointTags } from '../endpoint.ts'
import { tags } from '../rules.ts'

export const bearersOf = (db: DrizzleD1Database, uids: readonly string[]) => db.select({
  uid: endpoints.uid, version: endpoints.version, registered: endpoints.registered, online: endpoints.online, onFabric: endpoints.onFabric, quarantined: endpoints.quarantined,
  certificates: endpoints.certificates, tags: endpoints.tags, addresses: endpoints.addresses, lastReportAt: endpoints.lastReportAt,
  rulesRevision: endpoints.rulesRevision, nextDue: endpoints.nextDue, assigned: endpoints.assigned,
}).from(endpoints).where(and(eq(endpoints.registered, true), sql`${endpoints.uid} IN (SELECT value FROM json_each(${JSON.stringify(uids)}))`)).orderBy(asc(endpoints.uid))
export type Bearer = Awaited<ReturnType<typeof bearersOf>>[number]

export const tagByUid = (db: DrizzleD1Database, uid: string) => db.select().from(tags).where(eq(tags.uid, uid))
/** Who bears a tag, or of whom it is unknown, by UID. */
export const tagBearers = (db: DrizzleD1Database, tagUid: string, after: string, limit: number) => db.select({
  uid: endpointTags.uid, hostName: endpoints.hostName, state: endpointTags.state, validUntil: endpointTags.validUntil, since: endpointTags.since, assigned: endpoints.assigned,
}).from(endpointTags).innerJoin(endpoints, eq(endpoints.uid, endpointTags.uid)).where(and(eq(endpointTags.tagUid, tagUid), gt(endpointTags.uid, after))).orderBy(asc(endpointTags.uid)).limit(limit)
/** Removes a tag that nobody bears. */
export const deleteUnborneTag = (db: DrizzleD1Database, uid: string) => db.delete(tags).where(sql`${tags.uid} = ${uid} AND NOT EXISTS (SELECT 1 FROM ${endpointTags} t WHERE t.tag_uid = ${uid})`)
/** Whether some rule set reads tags: then another tag on an endpoint may change what its rules give. */
export const rulesReadTags = (db: DrizzleD1Database) => db.all<{ reads: number }>(sql`SELECT EXISTS (SELECT 1 FROM rule_sets WHERE instr(body, '"tag-present"') > 0) AS reads`)
