// What one follower of the log keeps in its SQLite: a journal (one row a poke), folded now and then into one entry an endpoint. It reads no log.
import type { TableName } from '../protocol/fabric/tables.ts'
import type { Cursor } from './follow.ts'
import type { LogEntry, LogRow, SightChange } from './log-entry.ts'
import type { SightKind } from '../protocol/fabric/sightings.ts'

/** Tables that are kept by endpoint, each with the revision that last changed it. */
export const endpointTables = ['sysinfo', 'uid_tags', 'tags', 'vuln', 'avatar'] as const
export type EndpointTable = (typeof endpointTables)[number]
export const isEndpointTable = (name: TableName): name is EndpointTable => (endpointTables as readonly string[]).includes(name)

/** An endpoint as last told; `entry` is null when it has left this gateway's sight. */
export interface KeptEntry { readonly uid: string; readonly revision: number; readonly at: number; readonly entry: LogEntry | null }
export interface TagRow { readonly uid: string; readonly name: string; readonly type: number; readonly description: string }
export interface Settings {
  readonly serial: string
  /** Marks one history of this store: offsets of another are void. */
  readonly epoch: string
  /** Increments reach back to this revision and no further. */
  readonly floor: number
  readonly shareMode: number
  /** Gateways whose sights count here, itself always among them; null: all. */
  readonly trusts: readonly string[] | null
  readonly shareTagTypes: readonly number[]
  /** The protocol that the gateway last spoke; null: none yet. */
  readonly protocol: string | null
  /** ms: until when a root gateway vouches for it; null: nobody's word ends. */
  readonly vouchedUntil: number | null
}

/** An address of a device, as a gateway sees it: `device` is the MAC of a neighbour, the UID at the end of a connection. */
export interface Sight { readonly serial: string; readonly kind: SightKind; readonly vdom: string; readonly ip: string; readonly uid: string; readonly device: string; readonly interface: string }

export interface Subscribed { readonly digest: string; readonly revision: number }
/** Lists of gateways that are remembered; whoever asks for a forgotten one reads it whole again. */
const MAX_SUBSCRIBED = 64

export class FollowerStore {
  readonly #sql: SqlStorage

  constructor(sql: SqlStorage) {
    this.#sql = sql
    sql.exec(`CREATE TABLE IF NOT EXISTS journal (revision INTEGER PRIMARY KEY, mark TEXT NOT NULL, at INTEGER NOT NULL, uid TEXT, tables TEXT NOT NULL, entry TEXT);
      CREATE TABLE IF NOT EXISTS entries (uid TEXT PRIMARY KEY, at INTEGER NOT NULL, entry TEXT, ${endpointTables.map((name) => `${name} INTEGER NOT NULL`).join(', ')}) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS scope (uid TEXT PRIMARY KEY) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS tag_names (uid TEXT PRIMARY KEY, name TEXT NOT NULL, type INTEGER NOT NULL, description TEXT NOT NULL) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS sights (serial TEXT NOT NULL, kind TEXT NOT NULL, vdom TEXT NOT NULL, ip TEXT NOT NULL, uid TEXT NOT NULL, device TEXT NOT NULL, interface TEXT NOT NULL, PRIMARY KEY (serial, kind, vdom, ip, uid)) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID`)
  }

  /** Where this follower stands: the greatest revision it has written down. Null before it was loaded. */
  cursor(): Cursor | null {
    const [row] = this.#sql.exec<{ revision: number; mark: string }>('SELECT revision, mark FROM journal ORDER BY revision DESC LIMIT 1').toArray()
    const kept = this.#read<Cursor>('cursor')
    return kept !== null && row !== undefined && row.revision > kept.revision ? row : kept
  }
  settings(): Settings | null { return this.#read<Settings>('settings') }
  keepSettings(settings: Settings): void { this.#write('settings', settings) }
  keepCursor(cursor: Cursor): void { this.#write('cursor', cursor) }

  /** Forgets everything; what follows is loaded anew. */
  clear(): void {
    for (const table of ['journal', 'entries', 'scope', 'tag_names', 'sights', 'kept']) this.#sql.exec(`DELETE FROM ${table}`)
  }

  /** Whether that very row was written down and not yet folded. */
  holds({ revision, mark }: Cursor): boolean {
    return this.#sql.exec('SELECT 1 FROM journal WHERE revision = ? AND mark = ?', revision, mark).toArray().length > 0
  }
  journal({ revision, mark, at, uid, tables, entry, sights }: LogRow): void {
    const body = entry ?? sights
    this.#sql.exec('INSERT INTO journal (revision, mark, at, uid, tables, entry) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING', revision, mark, at, uid, tables.join(','), body === null ? null : JSON.stringify(body))
  }
  journalled(): number {
    return this.#sql.exec<{ n: number }>('SELECT count(*) AS n FROM journal').one().n
  }
  /** Moves the journal into the entries, oldest first, so that a later row replaces an earlier one. */
  fold(): void {
    const cursor = this.cursor()
    const rows = this.#sql.exec<{ revision: number; at: number; uid: string | null; tables: string; entry: string | null }>('SELECT revision, at, uid, tables, entry FROM journal ORDER BY revision').toArray()
    if (rows.length === 0 || cursor === null) return
    for (const { revision, at, uid, tables, entry } of rows) {
      if (uid !== null) this.put(uid, entry, at, revision, tables.split(','))
      else if (entry !== null) this.#changeSights(JSON.parse(entry) as SightChange)
    }
    this.keepCursor(cursor)
    this.#sql.exec('DELETE FROM journal')
  }
  /** Writes one entry (JSON, null: out of sight); only the named tables advance to `revision`. */
  put(uid: string, entry: string | null, at: number, revision: number, tables: readonly string[]): void {
    this.#sql.exec(`INSERT INTO entries (uid, at, entry, ${endpointTables.join(', ')}) VALUES (?, ?, ?, ${endpointTables.map(() => '?').join(', ')})
      ON CONFLICT (uid) DO UPDATE SET at = excluded.at, entry = excluded.entry, ${endpointTables.map((name) => `${name} = max(${name}, excluded.${name})`).join(', ')}`,
    uid, at, entry, ...endpointTables.map((name) => (tables.includes(name) ? revision : 0)))
  }

  /** Entries of a table after a place, in the order (revision, uid): what changes meanwhile comes again at the end. `uids`: only of these. Fold first. */
  after(table: EndpointTable, place: { revision: number; uid: string }, limit: number, uids: readonly string[] | null = null): KeptEntry[] {
    const read = (where: string, order: string, most: number, ...bound: SqlStorageValue[]) => this.#sql.exec<{ uid: string; revision: number; at: number; entry: string | null }>(
      `SELECT uid, ${table} AS revision, at, entry FROM entries WHERE ${where}${uids === null ? '' : ' AND uid IN (SELECT value FROM json_each(?))'} ORDER BY ${order} LIMIT ?`,
      ...bound, ...(uids === null ? [] : [JSON.stringify(uids)]), most,
    ).toArray()
    // After a load most entries stand at one revision: the rest of it is read on by UID, not sorted out of all entries for each page.
    const rest = read(`${table} = ? AND uid > ?`, 'uid', limit, place.revision, place.uid)
    const later = rest.length === limit ? [] : read(`${table} > ?`, `${table}, uid`, limit - rest.length, place.revision)
    return [...rest, ...later].map((row) => ({ ...row, entry: row.entry === null ? null : JSON.parse(row.entry) as LogEntry }))
  }
  /** Every endpoint in sight, one by one. Fold first. */
  * all(): Generator<{ at: number; entry: LogEntry }> {
    for (const { at, entry } of this.#sql.exec<{ at: number; entry: string }>('SELECT at, entry FROM entries WHERE entry IS NOT NULL')) yield { at, entry: JSON.parse(entry) as LogEntry }
  }
  /** Entries by UID; those that are not in sight are left out. Fold first. */
  of(uids: readonly string[]): LogEntry[] {
    return this.#sql.exec<{ entry: string }>('SELECT entry FROM entries WHERE entry IS NOT NULL AND uid IN (SELECT value FROM json_each(?))', JSON.stringify(uids)).toArray().map(({ entry }) => JSON.parse(entry) as LogEntry)
  }
  /** How many endpoints are in sight. Fold first. */
  count(): number { return this.#sql.exec<{ n: number }>('SELECT count(*) AS n FROM entries WHERE entry IS NOT NULL').one().n }
  /** The revision that last changed a table for any endpoint; 0 for none. Fold first. */
  lastChange(table: EndpointTable): { revision: number; at: number } {
    const [row] = this.#sql.exec<{ revision: number; at: number }>(`SELECT ${table} AS revision, at FROM entries ORDER BY ${table} DESC LIMIT 1`).toArray()
    return row ?? { revision: 0, at: 0 }
  }

  /** UIDs in sight where the gateway does not see all. */
  scope(): ReadonlySet<string> { return new Set(this.#sql.exec<{ uid: string }>('SELECT uid FROM scope').toArray().map(({ uid }) => uid)) }
  inScope(uid: string): boolean { return this.#sql.exec('SELECT 1 FROM scope WHERE uid = ?', uid).toArray().length > 0 }
  changeScope(added: readonly string[], removed: readonly string[]): void {
    for (const uid of added) this.#sql.exec('INSERT INTO scope (uid) VALUES (?) ON CONFLICT DO NOTHING', uid)
    for (const uid of removed) this.#sql.exec('DELETE FROM scope WHERE uid = ?', uid)
  }

  /** What some gateways were last found to have subscribed to, by a digest, and since which revision. */
  subscriptions(owners: string): Subscribed | null { return this.#read<Subscribed>(`subscribed ${owners}`) }
  keepSubscriptions(owners: string, subscribed: Subscribed): void {
    if (this.#sql.exec<{ n: number }>('SELECT count(*) AS n FROM kept WHERE name LIKE \'subscribed %\'').one().n >= MAX_SUBSCRIBED) this.#sql.exec('DELETE FROM kept WHERE name LIKE \'subscribed %\'')
    this.#write(`subscribed ${owners}`, subscribed)
  }

  #changeSights({ serial, rows }: SightChange): void {
    for (const [kind, vdom, ip, uid, device, iface] of rows) {
      if (device === '') this.#sql.exec('DELETE FROM sights WHERE serial = ? AND kind = ? AND vdom = ? AND ip = ? AND uid = ?', serial, kind, vdom, ip, uid)
      else this.keepSight({ serial, kind, vdom, ip, uid, device, interface: iface })
    }
  }
  keepSight({ serial, kind, vdom, ip, uid, device, interface: iface }: Sight): void {
    this.#sql.exec('INSERT INTO sights (serial, kind, vdom, ip, uid, device, interface) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET device = excluded.device, interface = excluded.interface', serial, kind, vdom, ip, uid, device, iface)
  }
  /** Everything that the trusted gateways see. Fold first. */
  sights(): Sight[] { return this.#sql.exec<Sight & Record<string, SqlStorageValue>>('SELECT serial, kind, vdom, ip, uid, device, interface FROM sights').toArray() }
  /** Whether a gateway sees anything. Fold first. */
  sees(serial: string): boolean { return this.#sql.exec('SELECT 1 FROM sights WHERE serial = ? LIMIT 1', serial).toArray().length > 0 }
  /** The revision that last changed them. */
  sightsChangedAt(): number { return this.#read<number>('sights-changed') ?? 0 }
  keepSightsChangedAt(revision: number): void { this.#write('sights-changed', revision) }

  tagNames(): ReadonlyMap<string, TagRow> {
    return new Map(this.#sql.exec<{ uid: string; name: string; type: number; description: string }>('SELECT uid, name, type, description FROM tag_names').toArray().map((row) => [row.uid, row]))
  }
  keepTagNames(rows: readonly TagRow[]): void {
    this.#sql.exec('DELETE FROM tag_names')
    for (const { uid, name, type, description } of rows) this.#sql.exec('INSERT INTO tag_names (uid, name, type, description) VALUES (?, ?, ?, ?)', uid, name, type, description)
  }
  /** The revision that last changed the tags themselves. */
  tagsChangedAt(): number { return this.#read<number>('tags-changed') ?? 0 }
  keepTagsChangedAt(revision: number): void { this.#write('tags-changed', revision) }

  #read<T>(name: string): T | null {
    const [row] = this.#sql.exec<{ value: string }>('SELECT value FROM kept WHERE name = ?', name).toArray()
    return row === undefined ? null : JSON.parse(row.value) as T
  }
  #write(name: string, value: unknown): void {
    this.#sql.exec('INSERT INTO kept (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value', name, JSON.stringify(value))
  }
}
