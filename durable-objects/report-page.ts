// One page of a report table for the gateway that an object serves: rows from its own store, bodies from D1 by UID.
import { sysinfoBodies, avatarBodies, vulnBodies, BODIES_AT_ONCE } from '../workers/flows/report-bodies.ts'
import { PAGE_BYTES } from '../protocol/fabric/envelope.ts'
import type { SysinfoRecord } from '../protocol/fabric/tables.ts'
import { logMarks } from '../schema/queries/follow-log.ts'
import type { EndpointTable, KeptEntry } from './follower-store.ts'
import type { Follower } from './follower.ts'
import { readWatermark, watermarkOf } from './log-entry.ts'
import { addressCommands, gatedSysinfo, tells, uidTagsOf } from './notices.ts'
import { continues, fitting, readPlace, writePlace } from './page-place.ts'

export interface PageRequest {
  readonly updatedAfter: string
  readonly offset: string
  readonly maxBytes: number
  /** Only these; null: all in sight. */
  readonly uids: readonly string[] | null
}
/** A page's data, and where the next begins (null: this was the last). */
export interface ReportPage { readonly updatedAfter: string; readonly offset: string | null; readonly isSnapshot: boolean; readonly bytes: number; readonly data: object }

/** A UID greater than all: after it come only later revisions. */
const LAST_UID = '~'
/** Avatars are large: fewer at once. */
const ROWS_AT_ONCE: Record<EndpointTable, number> = { sysinfo: BODIES_AT_ONCE, uid_tags: 2_000, tags: 0, vuln: 50, avatar: 20 }

/** Null when this gateway is not authorised (any more). */
export async function readPage(follower: Follower, serial: string, table: EndpointTable, request: PageRequest): Promise<ReportPage | null> {
  const start = await follower.exclusively(async () => {
    await follower.catchUp(serial)
    const { cursor, settings } = follower
    if (cursor === null || settings === null) return null
    const since = readWatermark(request.updatedAfter)
    const [row] = since === null || since.revision === cursor.revision ? [] : await logMarks(follower.db, [since.revision])
    const goesOn = continues(since, { cursor, floor: settings.floor }, row?.mark ?? null)
    const place = readPlace(request.offset)
    // An offset of another history of this store is void, as is one of a whole load that has since been continued.
    const resumed = place?.epoch === settings.epoch && (goesOn || request.updatedAfter === '') ? place : null
    const from = resumed ?? (goesOn && since !== null ? { revision: since.revision, uid: LAST_UID } : { revision: 0, uid: '' })
    follower.fold()
    const limit = ROWS_AT_ONCE[table]
    const rows = table === 'tags' ? [] : follower.store.after(table, from, limit)
    return { cursor, settings, from, goesOn, rows, more: rows.length === limit && limit > 0, isSnapshot: resumed === null && !goesOn, base: goesOn ? request.updatedAfter : '', watermark: watermarkOf(cursor) }
  })
  if (start === null) return null
  const { settings, rows, more, isSnapshot, watermark } = start
  if (!tells(table, settings.protocol)) return { updatedAfter: watermark, offset: null, isSnapshot, bytes: 2, data: emptyOf(table, follower) }
  if (table === 'tags') return tagsPage(follower, request, start.cursor.revision, start.from.revision, start.goesOn, watermark)
  const wanted = request.uids === null ? rows : rows.filter(({ uid }) => request.uids?.includes(uid) === true)
  const parts = await partsOf(follower, table, wanted, isSnapshot || start.base === '')
  const sized = rows.map((row) => ({ row, part: parts.get(row.uid), size: parts.has(row.uid) ? JSON.stringify(parts.get(row.uid)).length + row.uid.length + 4 : 0 }))
  const { taken, bytes } = fitting(sized, ({ size }) => size, Math.min(request.maxBytes, PAGE_BYTES))
  const last = taken.at(-1)?.row
  const goesFurther = last !== undefined && (taken.length < rows.length || more)
  return {
    updatedAfter: goesFurther ? start.base : watermark, offset: goesFurther ? writePlace({ revision: last.revision, uid: last.uid, epoch: settings.epoch }) : null, isSnapshot, bytes,
    data: merge(table, taken.flatMap(({ row, part }) => (part === undefined ? [] : [[row.uid, part] as const]))),
  }
}

/** What each UID adds to the page. In a whole load what has left sight is simply not there. */
async function partsOf(follower: Follower, table: EndpointTable, rows: readonly KeptEntry[], whole: boolean): Promise<Map<string, object | null>> {
  const gone = rows.filter(({ entry }) => entry === null).map(({ uid }) => [uid, null] as const)
  const seen = rows.filter(({ entry }) => entry !== null)
  const parts = new Map<string, object | null>(whole || table === 'vuln' || table === 'avatar' ? [] : gone)
  if (table === 'uid_tags') {
    for (const { uid, at, entry } of seen) {
      const tags = entry === null ? null : uidTagsOf(entry, at, follower.view)
      if (tags !== null) parts.set(uid, tags)
    }
    return parts
  }
  const uids = seen.map(({ uid }) => uid)
  const read = uids.length === 0 ? new Map<string, object>() : await { sysinfo: sysinfoBodies, vuln: vulnBodies, avatar: avatarBodies, tags: sysinfoBodies }[table](follower.db, uids)
  const protocol = follower.settings?.protocol ?? ''
  for (const [uid, body] of read) parts.set(uid, table === 'sysinfo' ? gatedSysinfo(body as SysinfoRecord, protocol) : body)
  return parts
}

function merge(table: EndpointTable, parts: readonly (readonly [string, object | null])[]): object {
  if (table === 'sysinfo') return Object.fromEntries(parts)
  if (table === 'uid_tags') return { uid_tag_lists: Object.fromEntries(parts) }
  if (table === 'avatar') return Object.assign({}, ...parts.map(([, part]) => part)) as object
  const bodies = parts.map(([, part]) => part as { forticlients: object; vulns: object })
  return { forticlients: Object.assign({}, ...bodies.map(({ forticlients }) => forticlients)) as object, vulns: Object.assign({}, ...bodies.map(({ vulns }) => vulns)) as object }
}

const commandsHead = (follower: Follower, version: number) => ({ command_version: version, serial: follower.settings?.serial ?? '', device_type: 'fct', send_mac: true, no_vdom: true })
const emptyOf = (table: EndpointTable, follower: Follower): object => (table === 'tags' ? { ...commandsHead(follower, 0), commands: [] } : merge(table, []))

/** Addresses by tag are always whole: they are derived from all endpoints. Nothing changed: no commands. A change between two pages begins anew. */
function tagsPage(follower: Follower, request: PageRequest, revision: number, since: number, continued: boolean, watermark: string): ReportPage {
  const { store, view } = follower
  const changedAt = Math.max(store.lastChange('tags').revision, store.tagsChangedAt())
  const [, told, place = ''] = /^(\d{1,16})\/(.+)$/.exec(request.offset) ?? []
  const resumed = told !== undefined && changedAt <= Number(told)
  const all = !resumed && continued && changedAt <= since ? [] : addressCommands(store.all(), view).filter((command) => !resumed || placeOf(command) > place)
  const { taken, bytes } = fitting(all, (command) => JSON.stringify(command).length + 1, Math.min(request.maxBytes, PAGE_BYTES))
  const last = taken.at(-1)
  const goesFurther = taken.length < all.length && last !== undefined
  return {
    updatedAfter: goesFurther ? request.updatedAfter : watermark, offset: goesFurther ? `${revision}/${placeOf(last)}` : null, isSnapshot: !resumed && (all.length > 0 || !continued), bytes,
    data: { ...commandsHead(follower, revision), commands: taken },
  }
}
const placeOf = ({ uuid, type }: { uuid: string; type: string }): string => `${uuid}/${type}`
