// From rows of the log to what a gateway is told: one frame. Pure; who hears it is decided elsewhere.
import { gatesFor } from '../domain/version/gate.ts'
import type { ToGateway } from '../protocol/fabric/notify.ts'
import { tableName, type SysinfoRecord, type TableName, type UidTags } from '../protocol/fabric/tables.ts'
import type { TagRow } from './follower-store.ts'
import { watermarkOf, type LogEntry, type LogRow } from './log-entry.ts'
import type { Cursor } from './follow.ts'

/** Above this an increment is left to be pulled: the notice alone is always enough. */
export const MAX_INCREMENT_BYTES = 64 * 1024

export interface View {
  readonly tagNames: ReadonlyMap<string, TagRow>
  readonly shareTagTypes: readonly number[]
}

/** One endpoint's tags by the published names, as far as the gateway is entitled to them. Null: nothing was ever reported, so nothing is known. */
export function uidTagsOf(entry: LogEntry, at: number, { tagNames, shareTagTypes }: View): UidTags | null {
  if (!entry.reported) return null
  const seen = entry.tags.flatMap((state) => {
    const tag = tagNames.get(state.tagUid)
    return tag !== undefined && shareTagTypes.includes(tag.type) ? [{ ...state, tag }] : []
  })
  const unknown = seen.filter(({ state }) => state === 'unknown')
  const deadlines = unknown.flatMap(({ validUntil }) => validUntil ?? [])
  return {
    members: seen.filter(({ state }) => state === 'present').map(({ tagUid, validUntil, tag }) => ({ tag_uid: tagUid, tag_name: tag.name, tag_properties: propertiesOf(tag), valid_until: validUntil })),
    unknown: unknown.map(({ tagUid }) => tagUid), valid_until: deadlines.length === 0 ? null : Math.min(...deadlines),
    host_tag_update_time: Math.floor(at / 1000),
  }
}
export const propertiesOf = ({ name, type, description }: TagRow) => ({ name, type, detection_level: '', description })

/** A record as a gateway of an older protocol may have it: certificates are told from 7.0.0 on. */
export const gatedSysinfo = (record: SysinfoRecord, protocol: string): SysinfoRecord =>
  (gatesFor(protocol).certificates ? record : { ...record, client_cert_sn: '', client_certs: [] })
/** Whether a table is told to a gateway of that protocol. */
export const tells = (table: TableName, protocol: string): boolean => gatesFor(protocol).dynamicGroups || !['uid_tags', 'tags', 'host_tags'].includes(table)

export interface Increment { readonly rows: readonly LogRow[]; readonly before: Cursor; readonly cursor: Cursor; readonly sysinfo: Readonly<Record<string, SysinfoRecord>>; readonly view: View; readonly protocol: string; readonly isWhole: boolean }

/** Notices of every table that the rows changed, each with its increment where it is small and whole. */
export function noticesOf({ rows, before, cursor, sysinfo, view, protocol, isWhole }: Increment): ToGateway[] {
  const [after, updated_after] = [watermarkOf(before), watermarkOf(cursor)]
  return tableName.options.filter((table) => tells(table, protocol)).flatMap((table): ToGateway[] => {
    const changed = rows.filter(({ tables }) => tables.includes(table))
    const at = changed.at(-1)?.at
    if (at === undefined) return []
    const data = isWhole ? incrementOf(table, changed, sysinfo, view, protocol) : undefined
    const small = data !== undefined && JSON.stringify(data).length <= MAX_INCREMENT_BYTES
    return [{ type: 'changed', table, after, updated_after, at, ...(small ? { data } : {}) }]
  })
}

function incrementOf(table: TableName, changed: readonly LogRow[], sysinfo: Readonly<Record<string, SysinfoRecord>>, view: View, protocol: string): object | undefined {
  const latest = new Map(changed.flatMap(({ uid, at, entry }) => (uid === null || entry === null ? [] : [[uid, { at, entry }] as const])))
  if (latest.size === 0) return undefined
  if (table === 'uid_tags') return { uid_tag_lists: Object.fromEntries([...latest].map(([uid, { at, entry }]) => [uid, uidTagsOf(entry, at, view)])) }
  if (table !== 'sysinfo') return undefined
  // Only whole: a notice whose data lacked one of its endpoints would hide that change.
  const records = [...latest.keys()].map((uid) => [uid, sysinfo[uid]] as const)
  return records.every(([, record]) => record !== undefined) ? Object.fromEntries(records.map(([uid, record]) => [uid, record === undefined ? null : gatedSysinfo(record, protocol)])) : undefined
}

/** What it continues from is filled in for each socket when it is sent. */
export const currentOf = (cursor: Cursor, now: number): ToGateway => ({ type: 'current', revision: watermarkOf(cursor), after: '', at: now })
