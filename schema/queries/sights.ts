// What gateways see, in the records: taken in, told to the log in portions, ended when it is no longer seen. Every statement is about one gateway's sights of one group.
import { and, eq, gt, ne, sql, type SQL } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { changeLog } from '../change-log.ts'
import { gateways, sightings } from '../gateway.ts'

/** Neighbour tables and connections are told by calls of their own, each whole or in parts. */
export type SightGroup = 'neighbours' | 'connections'
export interface Sights { readonly serial: string; readonly group: SightGroup }
/** `[kind, vdom, ip, uid, mac, interface]` */
export type SeenRow = readonly [string, string, string, string, string, string]
/** …and whether it says that the device is on the fabric. */
export type PlacedRow = readonly [...SeenRow, 0 | 1]
/** Rows in one portion of the log: it fits into a poke. */
export const TOLD_AT_ONCE = 400
/** Never a time at which anything was seen: the row is gone as soon as followers were told so. */
const ENDED = 0

const among = ({ serial, group }: Sights): SQL => sql`sightings.serial = ${serial} AND sightings.kind ${group === 'neighbours' ? sql`=` : sql`<>`} 'neighbour'`
const keys = (rows: readonly SeenRow[]): SQL => sql`(SELECT value->>0, value->>1, value->>2, value->>3 FROM json_each(${JSON.stringify(rows)}))`
/** Whom followers should know there: nobody when it has ended, or when no endpoint says that the MAC is its own. */
const device = sql`CASE WHEN sightings.seen_at = ${ENDED} THEN '' WHEN sightings.kind <> 'neighbour' THEN sightings.uid WHEN EXISTS (SELECT 1 FROM endpoint_macs m WHERE m.mac = sightings.mac) THEN sightings.mac ELSE '' END`
const portion = (sights: Sights): SQL => sql`SELECT kind, vdom, ip, uid, interface, ${device} AS device FROM sightings WHERE ${among(sights)} AND told <> ${device} ORDER BY kind, vdom, ip, uid LIMIT ${TOLD_AT_ONCE}`

/** Writes what is new or moved, unless the gateway sees `most` already. What is seen as before costs no row until half its time is over (`refreshBefore`, ms). */
export const takeSeen = (db: DrizzleD1Database, sights: Sights, rows: readonly PlacedRow[], { now, refreshBefore, most }: { now: number; refreshBefore: number; most: number }) => db.insert(sightings)
  .select(sql`SELECT ${sights.serial}, value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, ${now}, '', value->>6 FROM json_each(${JSON.stringify(rows)})
    WHERE (SELECT count(*) FROM sightings WHERE ${among(sights)}) < ${most}
      OR EXISTS (SELECT 1 FROM sightings WHERE serial = ${sights.serial} AND kind = value->>0 AND vdom = value->>1 AND ip = value->>2 AND uid = value->>3)`)
  .onConflictDoUpdate({
    target: [sightings.serial, sightings.kind, sightings.vdom, sightings.ip, sightings.uid], set: { mac: sql`excluded.mac`, interface: sql`excluded.interface`, seenAt: sql`excluded.seen_at`, local: sql`excluded.local` },
    setWhere: sql`excluded.mac <> sightings.mac OR excluded.interface <> sightings.interface OR excluded.local <> sightings.local OR sightings.seen_at < ${refreshBefore}`,
  })
const end = (db: DrizzleD1Database, where: SQL) => db.update(sightings).set({ seenAt: ENDED }).where(sql`sightings.seen_at <> ${ENDED} AND ${where}`)
export const endNamed = (db: DrizzleD1Database, sights: Sights, rows: readonly SeenRow[]) => end(db, sql`${among(sights)} AND (kind, vdom, ip, uid) IN ${keys(rows)}`)
export const endUnnamed = (db: DrizzleD1Database, sights: Sights, rows: readonly SeenRow[]) => end(db, sql`${among(sights)} AND (kind, vdom, ip, uid) NOT IN ${keys(rows)}`)
export const endAll = (db: DrizzleD1Database, sights: Sights) => end(db, among(sights))
/** Those last seen before `cutoff`; a snapshot saw all that it left standing. */
export const endExpired = (db: DrizzleD1Database, sights: Sights, cutoff: number) => end(db, sql`${among(sights)} AND seen_at < ${cutoff}
  AND COALESCE((SELECT ${sql.raw(sights.group === 'neighbours' ? 'neighbours_at' : 'connections_at')} FROM gateways WHERE serial = ${sights.serial}), 0) < ${cutoff}`)

/** A row of the log with the next portion of what followers do not know yet; none when they know all. */
export const tellSights = (db: DrizzleD1Database, sights: Sights, row: { mark: string; at: number }) => db.insert(changeLog).select(sql`SELECT NULL, ${row.mark}, ${row.at}, NULL, 'tags',
  json_object('serial', ${sights.serial}, 'rows', json(p.rows)) FROM (SELECT count(*) AS n, json_group_array(json_array(kind, vdom, ip, uid, device, interface)) AS rows FROM (${portion(sights)})) p WHERE p.n > 0`)
/** Notes that this portion was told; in the same batch, after it. Its changes are the portion's rows. */
export const noteTold = (db: DrizzleD1Database, sights: Sights) => db.update(sightings).set({ told: device }).where(sql`${among(sights)} AND (kind, vdom, ip, uid) IN (SELECT kind, vdom, ip, uid FROM (${portion(sights)}))`)
export const dropEnded = (db: DrizzleD1Database, sights: Sights) => db.delete(sightings).where(sql`${among(sights)} AND seen_at = ${ENDED} AND told = ''`)

export const noteSnapshot = (db: DrizzleD1Database, { serial, group }: Sights, now: number) => db.update(gateways).set(group === 'neighbours' ? { neighboursAt: now } : { connectionsAt: now }).where(eq(gateways.serial, serial))
/** For whom a gateway may speak: itself, and those of `serials` that it vouched for. */
export const speaksFor = (db: DrizzleD1Database, speaker: string, serials: readonly string[]) => db.select({ serial: gateways.serial, shareMode: gateways.shareMode, selectedSerials: gateways.selectedSerials, fabric: gateways.fabric }).from(gateways).where(and(
  eq(gateways.state, 'authorised'), sql`(${gateways.serial} = ${speaker} OR (${gateways.vouchedBy} = ${speaker} AND ${gateways.serial} IN (SELECT value FROM json_each(${JSON.stringify(serials)}))))`,
))

/** What followers were told, in pages by key; `serials` null: of every gateway. */
export const toldSightsAfter = (db: DrizzleD1Database, after: readonly [string, string, string, string, string], serials: readonly string[] | null, limit: number) => db.select({
  serial: sightings.serial, kind: sightings.kind, vdom: sightings.vdom, ip: sightings.ip, uid: sightings.uid, device: sightings.told, interface: sightings.interface,
}).from(sightings).where(and(
  ne(sightings.told, ''), sql`(serial, kind, vdom, ip, uid) > (${after[0]}, ${after[1]}, ${after[2]}, ${after[3]}, ${after[4]})`,
  serials === null ? undefined : sql`serial IN (SELECT value FROM json_each(${JSON.stringify(serials)}))`,
)).orderBy(sightings.serial, sightings.kind, sightings.vdom, sightings.ip, sightings.uid).limit(limit)

export const oneSight = (db: DrizzleD1Database, sights: Sights) => db.select({ ip: sightings.ip }).from(sightings).where(among(sights)).limit(1)
/** Gateways that have sights, in pages, for the sweep. */
export const seeingAfter = (db: DrizzleD1Database, after: string, limit: number) => db.select({ serial: gateways.serial, neighboursAt: gateways.neighboursAt, connectionsAt: gateways.connectionsAt, fabric: gateways.fabric }).from(gateways)
  .where(and(gt(gateways.serial, after), sql`EXISTS (SELECT 1 FROM sightings WHERE sightings.serial = ${gateways.serial})`)).orderBy(gateways.serial).limit(limit)
