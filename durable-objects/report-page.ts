// One page of a report table for the gateway that an object serves: rows from its own store, bodies from D1 by UID.
import { sysinfoBodies, avatarBodies, vulnBodies, BODIES_AT_ONCE } from '../workers/flows/report-bodies.ts'
import { PAGE_BYTES } from '../protocol/fabric/envelope.ts'
import type { SysinfoRecord } from '../protocol/fabric/tables.ts'
import { logMarks } from '../schema/queries/follow-log.ts'
import type { EndpointTable, KeptEntry } from './follower-store.ts'
import type { Follower } from './follower.ts'
import { readWatermark, watermarkOf } from './log-entry.ts'
import { gatedSysinfo, tells, uidTagsOf } from './notices.ts'
import { continues, fitting, readPlace, writePlace } from './page-place.ts'
import { devicesSeen, routesOf } from './tag-addresses.ts'
import { isWhole, wholePage, type WholeTable } from './whole-page.ts'

export type ReportTable = EndpointTable | WholeTable
export interface PageRequest {
  readonly updatedAfter: string
  readonly offset: string
  readonly maxBytes: number
  /** Only these; null: all in sight. */
  readonly uids: readonly string[] | null
  /** Only what these gateways subscribed to; null: all in sight. */
  readonly owners: readonly string[] | null
}
/** A page's data, and where the next begins (null: this was the last). */
export interface ReportPage {
  readonly updatedAfter: string
  readonly offset: string | null
  readonly isSnapshot: boolean
  readonly bytes: number
  readonly data: object
  /** UIDs that have left this gateway's sight, in increments. */
  readonly removed: readonly string[]
}

/** A UID greater than all: after it come only later revisions. */
const LAST_UID = '~'
/** Rows of a page at most: with what their bodies ask of D1 it stays within the queries that an invocation may make. Avatars and vulnerabilities can be large. */
const ROWS_AT_MOST = { sysinfo: 2_000, uid_tags: 2_000, vuln: 8, avatar: 20 } as const
type RowTable = keyof typeof ROWS_AT_MOST

/** Null when this gateway is not authorised (any more). */
export async function readPage(follower: Follower, serial: string, table: ReportTable, request: PageRequest): Promise<ReportPage | null> {
  const start = await follower.exclusively(async () => {
    await follower.catchUp(serial)
    const theirs = request.owners === null ? null : await follower.subscribedSince(request.owners)
    const { cursor, settings } = follower
    if (cursor === null || settings === null) return null
    const since = readWatermark(request.updatedAfter)
    const [row] = since === null || since.revision === cursor.revision ? [] : await logMarks(follower.db, [since.revision])
    const goesOn = since !== null && continues(since, { cursor, floor: Math.max(settings.floor, theirs?.revision ?? 0) }, row?.mark ?? null)
    follower.fold()
    const wanted = request.uids === null ? null : new Set(request.uids)
    const shown = (uid: string) => (wanted?.has(uid) ?? true) && (theirs?.uids.has(uid) ?? true)
    const at = { revision: cursor.revision, since: since?.revision ?? 0, goesOn, watermark: watermarkOf(cursor), subscribedAt: theirs?.revision ?? 0, epoch: theirs === null ? settings.epoch : `${settings.epoch}${theirs.digest.slice(0, 6)}` }
    if (isWhole(table)) return { page: wholePage(follower, table, request, at, tells(table, follower.protocol), shown), rows: null }
    return { page: null, rows: { table, shown, begun: beginRows(follower, table, request, at) } }
  })
  if (start === null || start.rows === null) return start?.page ?? null
  return await rowsPage(follower, request, start.rows)
}

type Begun = ReturnType<typeof beginRows>
function beginRows(follower: Follower, table: RowTable, request: PageRequest, at: { since: number; goesOn: boolean; watermark: string; epoch: string }) {
  const { epoch } = at
  const place = readPlace(request.offset)
  // An offset of another history of this store is void, as is one of a whole load that has since been continued.
  const resumed = place?.epoch === epoch && (at.goesOn || request.updatedAfter === '') ? place : null
  const from = resumed ?? (at.goesOn ? { revision: at.since, uid: LAST_UID } : { revision: 0, uid: '' })
  const limit = ROWS_AT_MOST[table]
  const rows = follower.store.after(table, from, limit, request.uids)
  return { epoch, rows, more: rows.length === limit, isSnapshot: resumed === null && !at.goesOn, base: at.goesOn ? request.updatedAfter : '', watermark: at.watermark }
}

/** Bodies are read outside the follower's lane: nobody waits for them. */
async function rowsPage(follower: Follower, request: PageRequest, { table, shown, begun }: { table: RowTable; shown: (uid: string) => boolean; begun: Begun }): Promise<ReportPage> {
  const { epoch, rows, more, isSnapshot, base, watermark } = begun
  if (!tells(table, follower.protocol)) return { updatedAfter: watermark, offset: null, isSnapshot, bytes: 2, data: merge(table, []), removed: [] }
  const maxBytes = Math.min(request.maxBytes, PAGE_BYTES)
  const parts = new Map<string, object | null>()
  const sized: { readonly row: KeptEntry; readonly size: number }[] = []
  // Piece by piece, and no more than the page takes.
  for (let at = 0, size = 0; at < rows.length && size <= maxBytes; at += BODIES_AT_ONCE) {
    const piece = rows.slice(at, at + BODIES_AT_ONCE)
    for (const [uid, part] of await partsOf(follower, table, piece.filter(({ uid }) => shown(uid)), isSnapshot)) parts.set(uid, part)
    for (const row of piece) {
      const own = parts.has(row.uid) ? JSON.stringify(parts.get(row.uid)).length + row.uid.length + 4 : 0
      sized.push({ row, size: own })
      size += own
    }
  }
  const { taken, bytes } = fitting(sized, ({ size }) => size, maxBytes)
  const last = taken.at(-1)?.row
  const goesFurther = last !== undefined && (taken.length < rows.length || more)
  const told = taken.flatMap(({ row: { uid } }) => (parts.has(uid) ? [{ uid, part: parts.get(uid) ?? null }] : []))
  return {
    updatedAfter: goesFurther ? base : watermark, offset: goesFurther ? writePlace({ revision: last.revision, uid: last.uid, epoch }) : null, isSnapshot, bytes,
    data: merge(table, told.flatMap(({ uid, part }) => (part === null ? [] : [[uid, part] as const]))), removed: told.filter(({ part }) => part === null).map(({ uid }) => uid),
  }
}

/** What each UID adds to the page; null: it has left sight. On the first page of a whole load that is simply not there; a later one may take back what an earlier one told. */
async function partsOf(follower: Follower, table: RowTable, rows: readonly KeptEntry[], begins: boolean): Promise<Map<string, object | null>> {
  const seen = rows.flatMap(({ uid, at, entry }) => (entry === null ? [] : [{ uid, at, entry }]))
  const parts = new Map<string, object | null>(begins ? [] : rows.filter(({ entry }) => entry === null).map(({ uid }) => [uid, null]))
  if (table === 'uid_tags') {
    for (const { uid, at, entry } of seen) {
      const tags = uidTagsOf(entry, at, follower.view)
      if (tags !== null) parts.set(uid, tags)
    }
    return parts
  }
  const uids = seen.map(({ uid }) => uid)
  if (uids.length === 0) return parts
  const read: Map<string, object> = await { sysinfo: sysinfoBodies, vuln: vulnBodies, avatar: avatarBodies }[table](follower.db, uids)
  const sights = Map.groupBy(devicesSeen(seen, follower.store.sights(), follower.settings?.serial ?? ''), ({ entry }) => entry.uid)
  for (const [uid, body] of read) parts.set(uid, withRoutes(table, uid, body, routesOf(sights.get(uid) ?? []), follower.protocol))
  return parts
}

/** Fills in which gateways see the endpoint, where the published row has a place for it. */
function withRoutes(table: RowTable, uid: string, body: object, routes: SysinfoRecord['gateway_route_list'], protocol: string): object {
  if (table === 'sysinfo') return { ...gatedSysinfo(body as SysinfoRecord, protocol), gateway_route_list: routes }
  const first = routes[0]?.gateway_info
  if (table !== 'vuln' || first === undefined) return body
  const { forticlients, vulns } = body as { forticlients: Record<string, object>; vulns: object }
  return { forticlients: { [uid]: { ...forticlients[uid], fgt_sn: first.fgt_sn, vdom: first.vdom } }, vulns }
}

function merge(table: RowTable, parts: readonly (readonly [string, object])[]): object {
  if (table === 'sysinfo') return Object.fromEntries(parts)
  if (table === 'uid_tags') return { uid_tag_lists: Object.fromEntries(parts) }
  if (table === 'avatar') return Object.assign({}, ...parts.map(([, part]) => part)) as object
  const bodies = parts.map(([, part]) => part as { forticlients: object; vulns: object })
  return { forticlients: Object.assign({}, ...bodies.map(({ forticlients }) => forticlients)) as object, vulns: Object.assign({}, ...bodies.map(({ vulns }) => vulns)) as object }
}
