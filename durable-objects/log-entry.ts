// An endpoint's whole small record in a row of the change log, and the slice of the log that a poke carries.
import type { CertificateRecord } from '../protocol/certificates.ts'
import type { SightKind } from '../protocol/fabric/sightings.ts'
import type { SysinfoRecord, TableName } from '../protocol/fabric/tables.ts'
import type { TagState } from '../protocol/rules.ts'
import type { EndpointRow } from '../schema/endpoint.ts'

/** What a gateway's decisions need; a later entry of the same UID replaces an earlier one whole. */
export interface LogEntry {
  readonly uid: string
  readonly registered: boolean
  /** False until the first report: its tags are not absent, they are not known. */
  readonly reported: boolean
  readonly online: boolean
  readonly onFabric: boolean
  readonly quarantined: boolean
  readonly certs: readonly CertificateRecord[]
  readonly tags: readonly TagState[]
  readonly ips: readonly string[]
  readonly macs: readonly string[]
}
/** An address at which a gateway sees a device: `[kind, vdom, ip, uid, mac or uid that is there, interface]`; nothing is there: it is no longer seen. */
export type SightRow = readonly [kind: SightKind, vdom: string, ip: string, uid: string, device: string, iface: string]
/** What changed in the sights of one gateway. Such a row of the log belongs to no endpoint. */
export interface SightChange { readonly serial: string; readonly rows: readonly SightRow[] }
/** One row of the log, as followers read it. `entry` is null where it concerns somebody else. */
export interface LogRow {
  readonly revision: number
  readonly mark: string
  readonly at: number
  readonly uid: string | null
  readonly tables: readonly TableName[]
  readonly entry: LogEntry | null
  readonly sights: SightChange | null
}
/** A contiguous slice of the log that ends at its head, and bodies that the Worker had at hand. */
export interface Poke {
  readonly tail: readonly LogRow[]
  readonly sysinfo: Readonly<Record<string, SysinfoRecord>>
}

export const entryOf = (row: Pick<EndpointRow, 'uid' | 'registered' | 'online' | 'onFabric' | 'quarantined' | 'certificates' | 'tags' | 'addresses' | 'lastReportAt'>): LogEntry => {
  const { ips, macs } = JSON.parse(row.addresses) as { ips: string[]; macs: string[] }
  return {
    uid: row.uid, registered: row.registered, reported: row.lastReportAt !== null, online: row.online, onFabric: row.onFabric, quarantined: row.quarantined,
    certs: JSON.parse(row.certificates) as CertificateRecord[], tags: JSON.parse(row.tags) as TagState[], ips, macs,
  }
}
/** A row as D1 gives it. */
export interface StoredLogRow { readonly revision: number; readonly mark: string; readonly at: number; readonly uid: string | null; readonly tables: string; readonly entry: string | null }
export const readLogRow = (row: StoredLogRow): LogRow =>
  ({
    ...row, tables: row.tables.split(',').filter((name) => name !== '') as TableName[],
    entry: row.entry === null || row.uid === null ? null : JSON.parse(row.entry) as LogEntry, sights: row.entry === null || row.uid !== null ? null : JSON.parse(row.entry) as SightChange,
  })
/** A cursor on the wire; a log that is empty has no row to name, and nothing continues from it. */
export const watermarkOf = ({ revision, mark }: { revision: number; mark: string }): string => `${revision}.${mark}`
export const readWatermark = (text: string): { revision: number; mark: string } | null => {
  const [revision, mark] = text.split('.')
  return mark === undefined || revision === '0' ? null : { revision: Number(revision), mark }
}
