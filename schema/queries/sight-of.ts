// What an administrator is shown of a gateway's sight: counts, and what gateways see of one endpoint. Asked seldom; some of it reads whole tables.
import { eq, sql } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { changeLog } from '../change-log.ts'
import { endpoints } from '../endpoint.ts'
import { gateways, gatewaySubscriptions, sightings } from '../gateway.ts'
import { tags } from '../rules.ts'

export const sightCounts = (db: DrizzleD1Database, serial: string) => db.select({
  endpoints: sql<number>`(SELECT count(*) FROM ${endpoints} WHERE registered = 1)`, subscribed: sql<number>`(SELECT count(*) FROM ${gatewaySubscriptions} WHERE serial = ${serial})`,
  sights: sql<number>`(SELECT count(*) FROM ${sightings} WHERE serial = ${serial})`, head: sql<number>`COALESCE((SELECT max(revision) FROM ${changeLog}), 0)`,
}).from(gateways).where(eq(gateways.serial, serial))
export const tagsByType = (db: DrizzleD1Database) => db.select({ type: tags.type, count: sql<number>`count(*)` }).from(tags).groupBy(tags.type)
/** Serials that there are, with their state. */
export const statesOf = (db: DrizzleD1Database, serials: readonly string[]) =>
  db.select({ serial: gateways.serial, state: gateways.state }).from(gateways).where(sql`${gateways.serial} IN (SELECT value FROM json_each(${JSON.stringify(serials)}))`)

export const subscribersOf = (db: DrizzleD1Database, uid: string) => db.select({ serial: gatewaySubscriptions.serial }).from(gatewaySubscriptions).where(eq(gatewaySubscriptions.uid, uid))
const AT_MOST = 200
/** Where gateways see a device with one of these MACs, or at the end of a connection of this UID. */
export const sightsOf = (db: DrizzleD1Database, uid: string, macs: readonly string[]) => db.select().from(sightings)
  .where(sql`(${sightings.kind} = 'neighbour' AND ${sightings.mac} IN (SELECT value FROM json_each(${JSON.stringify(macs)}))) OR ${sightings.uid} = ${uid}`).limit(AT_MOST)
/** Everything that one gateway sees at these addresses. */
export const sightsAt = (db: DrizzleD1Database, serial: string, ips: readonly string[]) => db.select().from(sightings)
  .where(sql`${sightings.serial} = ${serial} AND ${sightings.ip} IN (SELECT value FROM json_each(${JSON.stringify(ips)}))`).limit(AT_MOST)
