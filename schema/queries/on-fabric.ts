// Whom marked gateways see, and whose row does not say so yet. A neighbour is an endpoint that alone claims the MAC, at an address that it claims too.
import { and, eq, isNotNull, isNull, sql, type SQL } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { endpoints } from '../endpoint.ts'
import { gateways, sightings } from '../gateway.ts'
import type { SeenRow, SightGroup } from './sights.ts'

const claimsAlone = sql`EXISTS (SELECT 1 FROM json_each(e.addresses, '$.ips') i WHERE i.value = s.ip) AND NOT EXISTS (SELECT 1 FROM endpoint_macs o WHERE o.mac = m.mac AND o.uid <> m.uid)`
const isMarked = sql`s.local = 1 AND s.seen_at <> 0 AND EXISTS (SELECT 1 FROM gateways g WHERE g.serial = s.serial AND g.state = 'authorised' AND g.fabric IS NOT NULL)`
/** UIDs that sights `s`, chosen by `from` and `where`, show on the fabric, each with the gateway. */
const shown = (group: SightGroup, from: SQL, where: SQL): SQL => (group === 'neighbours'
  ? sql`SELECT e.uid, s.serial FROM ${from} CROSS JOIN endpoint_macs m ON m.mac = s.mac CROSS JOIN endpoints e ON e.uid = m.uid WHERE ${where} AND s.kind = 'neighbour' AND ${isMarked} AND ${claimsAlone}`
  : sql`SELECT s.uid, s.serial FROM ${from} WHERE ${where} AND s.kind = 'mtls' AND ${isMarked}`)
const byBoth = (from: SQL, where: SQL): SQL => sql`${shown('neighbours', from, where)} UNION ${shown('connections', from, where)}`

/** Endpoints that the gateway sees and that nobody is known to see. `among`: by these of its sights only, looked up one by one; null: by all of them. */
export function notYetSeen(db: DrizzleD1Database, serial: string, group: SightGroup, among: readonly SeenRow[] | null, limit: number) {
  const own = sql`s.serial = ${serial}`
  const seen = among === null ? byBoth(sql`sightings s`, own) : shown(group, sql`json_each(${JSON.stringify(among.map((row) => row.slice(0, 4)))}) j CROSS JOIN sightings s
    ON s.serial = ${serial} AND s.kind = j.value->>0 AND s.vdom = j.value->>1 AND s.ip = j.value->>2 AND s.uid = j.value->>3`, own)
  return db.select({ uid: endpoints.uid }).from(endpoints)
    .where(and(sql`${endpoints.uid} IN (SELECT uid FROM (${seen}))`, isNull(endpoints.fabricBy), isNotNull(endpoints.lastReportAt), sql`+${endpoints.registered} = 1`)).limit(limit)
}
/** Endpoints that are on the fabric by this gateway's sight, and that it sees no more. */
export const noLongerSeen = (db: DrizzleD1Database, serial: string, limit: number) => db.select({ uid: endpoints.uid }).from(endpoints)
  .where(and(eq(endpoints.fabricBy, serial), sql`${endpoints.uid} NOT IN (SELECT uid FROM (${byBoth(sql`sightings s`, sql`s.serial = ${serial}`)}))`)).limit(limit)
/** Which of these endpoints any marked gateway sees. Asked of the few that one lost: it reads every sight of every marked gateway. */
export const seenByAny = (db: DrizzleD1Database, uids: readonly string[]) =>
  db.all<{ uid: string; serial: string }>(sql`SELECT uid, min(serial) AS serial FROM (${byBoth(sql`sightings s`, sql`s.serial IN (SELECT serial FROM gateways WHERE fabric IS NOT NULL)`)})
    WHERE uid IN (SELECT value FROM json_each(${JSON.stringify(uids)})) GROUP BY uid`)

/** Whom one gateway alone kept on the fabric leaves it now, however many they are: each is due at once, and what was computed before is void. */
export const endAllBy = (db: DrizzleD1Database, serial: string, now: number) => db.update(endpoints)
  .set({ fabricBy: null, fabricUntil: now, nextDue: now, version: sql`version + 1` }).where(eq(endpoints.fabricBy, serial))
/** Marks a gateway as the fabric's own, or as not. */
export const setPlace = (db: DrizzleD1Database, serial: string, fabric: string | null) => db.update(gateways).set({ fabric }).where(eq(gateways.serial, serial))
/** Nothing that it saw says so any more. */
export const forgetPlaces = (db: DrizzleD1Database, serial: string) => db.update(sightings).set({ local: false }).where(and(eq(sightings.serial, serial), eq(sightings.local, true)))
/** Gateways that are marked, whatever their state. */
export const marked = (db: DrizzleD1Database) => db.select({ serial: gateways.serial, state: gateways.state }).from(gateways).where(isNotNull(gateways.fabric))
