// Which gateways a change of one endpoint concerns: one table, one question, asked with the endpoint.
import { and, eq, lte, or, sql } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { endpoints } from '../endpoint.ts'
import { gateways } from '../gateway.ts'

/** Authorised gateways that see this endpoint: share mode 1 sees all, 0 its own subscriptions, 2 those of the gateways it selected. */
export const gatewaysConcerned = (db: DrizzleD1Database, uid: string) => db.select({ serial: gateways.serial, shareTagTypes: gateways.shareTagTypes }).from(gateways).where(and(
  eq(gateways.state, 'authorised'),
  or(
    eq(gateways.shareMode, 1),
    sql`${gateways.shareMode} = 0 AND EXISTS (SELECT 1 FROM gateway_subscriptions s WHERE s.uid = ${uid} AND s.serial = ${gateways.serial})`,
    sql`${gateways.shareMode} = 2 AND EXISTS (SELECT 1 FROM gateway_subscriptions s, json_each(${gateways.selectedSerials}) j WHERE s.uid = ${uid} AND s.serial = j.value)`,
  ),
))
/** Authorised gateways to whom it matters what gateway `serial` sees: itself, those that see all, those that selected it. */
export const gatewaysTrusting = (db: DrizzleD1Database, serial: string) => db.select({ serial: gateways.serial, shareTagTypes: gateways.shareTagTypes }).from(gateways).where(and(
  eq(gateways.state, 'authorised'),
  or(eq(gateways.shareMode, 1), eq(gateways.serial, serial), sql`${gateways.shareMode} = 2 AND EXISTS (SELECT 1 FROM json_each(${gateways.selectedSerials}) j WHERE j.value = ${serial})`),
))
export const authorisedGateways = (db: DrizzleD1Database) => db.select({ serial: gateways.serial, shareTagTypes: gateways.shareTagTypes }).from(gateways).where(eq(gateways.state, 'authorised'))
export interface Concerned { readonly serial: string; readonly shareTagTypes: string }
/** Which of these UIDs are registered endpoints. */
export const registeredAmong = (db: DrizzleD1Database, uids: readonly string[]) =>
  db.select({ uid: endpoints.uid }).from(endpoints).where(and(eq(endpoints.registered, true), sql`${endpoints.uid} IN (SELECT value FROM json_each(${JSON.stringify(uids)}))`))
/** Gateways for which a root vouched until an instant (ms) that is over. */
export const lapsedGateways = (db: DrizzleD1Database, now: number) => db.select({ serial: gateways.serial }).from(gateways).where(and(eq(gateways.state, 'authorised'), lte(gateways.vouchedUntil, now)))
/** Of these serials, the gateway's own and those that it vouched for. */
export const ownAmong = (db: DrizzleD1Database, serial: string, named: readonly string[]) => db.select({ serial: gateways.serial }).from(gateways)
  .where(and(sql`${gateways.serial} IN (SELECT value FROM json_each(${JSON.stringify(named)}))`, or(eq(gateways.serial, serial), eq(gateways.vouchedBy, serial))))
