// Certificates that were revoked and have not ended yet, for the revocation list.
import { and, asc, desc, eq, gt, sql } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { certificates } from '../endpoint.ts'
import { gatewayRevocations } from '../gateway.ts'

const live = (now: number) => and(eq(certificates.state, 'revoked'), gt(certificates.notAfter, now))
/** What changes whenever the list does: how many there are, and when the last one came. */
export const revokedSummary = (db: DrizzleD1Database, now: number) => [
  db.select({ count: sql<number>`count(*)`, last: sql<number>`COALESCE(max(${certificates.endedAt}), 0)` }).from(certificates).where(live(now)),
  db.select({ count: sql<number>`count(*)`, last: sql<number>`COALESCE(max(${gatewayRevocations.at}), 0)` }).from(gatewayRevocations).where(gt(gatewayRevocations.notAfter, now)),
] as const
/** Of endpoints, in pages by (end, serial). */
export const revokedAfter = (db: DrizzleD1Database, now: number, after: { notAfter: number; serial: string }, limit: number) => db.select({ serial: certificates.serial, notAfter: certificates.notAfter, at: certificates.endedAt, issuedAt: certificates.issuedAt })
  .from(certificates).where(and(live(now), sql`(${certificates.notAfter}, ${certificates.serial}) > (${after.notAfter}, ${after.serial})`)).orderBy(asc(certificates.notAfter), asc(certificates.serial)).limit(limit)
export const revokedGateways = (db: DrizzleD1Database, now: number, limit: number) => db.select({ serial: gatewayRevocations.certificateSerial, at: gatewayRevocations.at })
  .from(gatewayRevocations).where(gt(gatewayRevocations.notAfter, now)).orderBy(asc(gatewayRevocations.certificateSerial)).limit(limit)
/** Those that agents must refuse, the latest first. */
export const refusedGateways = (db: DrizzleD1Database, now: number, limit: number) => db.select({ serial: gatewayRevocations.certificateSerial })
  .from(gatewayRevocations).where(and(eq(gatewayRevocations.cause, 'revoked'), gt(gatewayRevocations.notAfter, now))).orderBy(desc(gatewayRevocations.at), asc(gatewayRevocations.certificateSerial)).limit(limit)
export const dropEndedRevocations = (db: DrizzleD1Database, now: number) => db.delete(gatewayRevocations).where(sql`${gatewayRevocations.notAfter} <= ${now}`)
