// A follower of the change log for one gateway: applies slices that pokes carry, reads what is missing, loads anew what can't be continued.
import { drizzle, type DrizzleD1Database } from 'drizzle-orm/d1'
import { toHex, utf8 } from '../identity/encoding.ts'
import { sha256Hex } from '../identity/keys.ts'
import { PROTOCOL } from '../protocol/ids.ts'
import type { SysinfoRecord } from '../protocol/fabric/tables.ts'
import type { GatewayRow } from '../schema/gateway.ts'
import { allTags, gatewayBySerial, insertMarker, insertReloadMarker, logFrom, logHead, smallRecords, smallRecordsAfter, subscribedAfter } from '../schema/queries/follow-log.ts'
import { toldSightsAfter } from '../schema/queries/sights.ts'
import { ownersOf, trustsOf } from './entitlement.ts'
import { endpointTables, FollowerStore, type Settings, type Sight, type Subscribed } from './follower-store.ts'
import { stepFrom, type Cursor } from './follow.ts'
import { entryOf, readLogRow, type LogEntry, type LogRow, type Poke } from './log-entry.ts'
import type { View } from './notices.ts'

/** Rows of the log read in one go when a poke does not reach back to the cursor. */
const GAP_ROWS = 500
const RELOAD_ROWS = 2_000
/** A journal longer than this is folded without waiting for the alarm: nobody listens, or much happens. */
const MAX_JOURNAL = 1_000
const EMPTY_LOG: Cursor = { revision: 0, mark: '0000000000000000' }
const random = (bytes: number) => toHex(crypto.getRandomValues(new Uint8Array(bytes)))

/** What listeners must hear, in order. */
export type Heard =
  | { readonly kind: 'told'; readonly before: Cursor; readonly cursor: Cursor; readonly rows: readonly LogRow[]; readonly sysinfo: Readonly<Record<string, SysinfoRecord>> }
  /** Nothing that was told before can be continued. */
  | { readonly kind: 'reloaded'; readonly cursor: Cursor }
  /** The records do not authorise this gateway. */
  | { readonly kind: 'refused'; readonly reason: string }

export class Follower {
  readonly store: FollowerStore
  readonly #db: DrizzleD1Database
  readonly #hear: (heard: Heard) => void
  #cursor: Cursor | null
  #settings: Settings | null
  #view: View | null = null
  #journalled: number
  #lane: Promise<unknown> = Promise.resolve()

  constructor(sql: SqlStorage, database: D1Database, hear: (heard: Heard) => void) {
    this.store = new FollowerStore(sql)
    this.#db = drizzle(database)
    this.#hear = hear
    this.#cursor = this.store.cursor()
    this.#settings = this.store.settings()
    this.#journalled = this.store.journalled()
    // Written by an earlier release that knew of no sights: loaded anew.
    if (this.#settings !== null && (this.#settings as Partial<Settings>).trusts === undefined) this.forget()
  }

  get db(): DrizzleD1Database { return this.#db }
  get cursor(): Cursor | null { return this.#cursor }
  get settings(): Settings | null { return this.#settings }
  /** The protocol that the gateway last spoke; ours before it spoke any. */
  get protocol(): string { return this.#settings?.protocol ?? PROTOCOL }
  get view(): View {
    this.#view ??= { tagNames: this.store.tagNames(), shareTagTypes: this.#settings?.shareTagTypes ?? [] }
    return this.#view
  }
  setProtocol(protocol: string): void {
    if (this.#settings !== null && this.#settings.protocol !== protocol) this.store.keepSettings(this.#settings = { ...this.#settings, protocol })
  }

  setVouchedUntil(vouchedUntil: number | null): void {
    if (this.#settings !== null && this.#settings.vouchedUntil !== vouchedUntil) this.store.keepSettings(this.#settings = { ...this.#settings, vouchedUntil })
  }

  /** Whether what was loaded is what the records entitle the gateway to: the call that says otherwise may have been lost. */
  isEntitledTo(gateway: GatewayRow): boolean {
    const { shareMode, trusts, shareTagTypes, vouchedUntil } = this.#settings ?? {}
    return this.#settings === null || JSON.stringify([shareMode, trusts, shareTagTypes, vouchedUntil]) === JSON.stringify([gateway.shareMode, trustsOf(gateway), JSON.parse(gateway.shareTagTypes), gateway.vouchedUntil])
  }

  /** One after the other: what is told keeps the order of the log. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#lane.then(work, work)
    this.#lane = run.catch(() => undefined)
    return run
  }

  /** Takes the slice of a poke: no read of D1 unless the slice does not reach back to the cursor. Doubled and late ones change nothing. */
  async follow(serial: string, { tail, sysinfo }: Poke): Promise<void> {
    await this.exclusively(async () => {
      const newest = tail.at(-1)
      if (newest !== undefined && this.store.holds(newest)) return
      const step = stepFrom(this.#cursor, tail)
      if (step.kind === 'apply' && this.#namesAll(step.rows)) await this.#tellThenWrite(step.rows, sysinfo)
      else if (step.kind === 'restored') await this.#reload(serial)
      else await this.#catchUp(serial)
    })
  }
  /** Inside {@link exclusively}: reads the log from the cursor. */
  async catchUp(serial: string): Promise<void> { await this.#catchUp(serial) }
  /** Loads everything: first use, another entitlement. */
  async reload(serial: string): Promise<void> { await this.exclusively(() => this.#reload(serial)) }

  fold(): void {
    if (this.#journalled === 0) return
    this.store.fold()
    this.#journalled = 0
  }
  forget(): void {
    this.store.clear()
    this.#cursor = null
    this.#settings = null
    this.#view = null
    this.#journalled = 0
  }

  #concerns({ uid, tables, sights }: LogRow): boolean {
    if (sights !== null) return this.#settings?.trusts?.includes(sights.serial) ?? true
    if (uid === null) return tables.length > 0
    return this.#settings?.shareMode === 1 || this.store.inScope(uid)
  }
  /** Whether every tag in the rows is known by name, and no row says that tags themselves changed. */
  #namesAll(rows: readonly LogRow[]): boolean {
    return rows.every(({ uid, tables, entry }) => !(uid === null && tables.includes('host_tags')) && (entry?.tags ?? []).every(({ tagUid }) => this.view.tagNames.has(tagUid)))
  }

  #apply(rows: readonly LogRow[], sysinfo: Readonly<Record<string, SysinfoRecord>>): void {
    const step = this.#advance(rows)
    if (step === null) return
    this.#write(step.concerning)
    this.#hear({ kind: 'told', before: step.before, cursor: step.cursor, rows: step.concerning, sysinfo })
  }
  /**
   * Frames wait for what their object has written to be on disk: with many gateways on one machine, for one disk after the other. So they go
   * first, and the acknowledgement alone waits. A crash in between loses nothing: the log holds these rows, and the object reads them from there.
   */
  async #tellThenWrite(rows: readonly LogRow[], sysinfo: Readonly<Record<string, SysinfoRecord>>): Promise<void> {
    const step = this.#advance(rows)
    if (step === null) return
    this.#hear({ kind: 'told', before: step.before, cursor: step.cursor, rows: step.concerning, sysinfo })
    await scheduler.wait(0)
    try {
      this.#write(step.concerning)
    } catch (cause) {
      this.#cursor = this.store.cursor()
      throw cause
    }
  }
  #advance(rows: readonly LogRow[]): { before: Cursor; cursor: Cursor; concerning: LogRow[] } | null {
    const [before, last] = [this.#cursor, rows.at(-1)]
    if (before === null || last === undefined) return null
    const concerning = rows.filter((row) => this.#concerns(row))
    this.#cursor = { revision: last.revision, mark: last.mark }
    return { before, cursor: this.#cursor, concerning }
  }
  #write(rows: readonly LogRow[]): void {
    for (const row of rows) {
      this.store.journal(row)
      if (row.tables.includes('host_tags')) this.store.keepTagsChangedAt(row.revision)
      if (row.sights !== null) this.store.keepSightsChangedAt(row.revision)
    }
    this.#journalled += rows.length
    if (this.#journalled > MAX_JOURNAL) this.fold()
  }

  async #catchUp(serial: string): Promise<void> {
    for (;;) {
      const cursor = this.#cursor
      if (cursor === null) return await this.#reload(serial)
      const found = await logFrom(this.#db, cursor.revision, GAP_ROWS)
      const [first] = found
      const goesOn = cursor.revision === 0 ? first === undefined || first.revision === 1 : first?.revision === cursor.revision && first.mark === cursor.mark
      if (!goesOn) return await this.#reload(serial)
      const rows = (cursor.revision === 0 ? found : found.slice(1)).map(readLogRow)
      if (!this.#namesAll(rows)) await this.#loadTags()
      this.#apply(rows, {})
      if (found.length < GAP_ROWS) return
    }
  }

  async #loadTags(): Promise<void> {
    this.store.keepTagNames(await allTags(this.#db))
    this.#view = null
  }

  /** The head is read first: what is committed meanwhile comes again from the log, and is the same. */
  async #reload(serial: string): Promise<void> {
    const protocol = this.#settings?.protocol ?? null
    this.forget()
    // A gateway that was away holds the watermark of before, to which other endpoints may have belonged: nothing continues from it.
    const [, rows, heads, tags] = await this.#db.batch([insertReloadMarker(this.#db, serial, { mark: random(8), at: Date.now() }), gatewayBySerial(this.#db, serial), logHead(this.#db), allTags(this.#db)])
    const [gateway] = rows
    if (gateway?.state !== 'authorised') return this.#hear({ kind: 'refused', reason: gateway?.reason ?? 'The gateway is not known.' })
    const head = heads[0] ?? EMPTY_LOG
    const owners = ownersOf(gateway)
    this.store.keepTagNames(tags)
    this.store.keepTagsChangedAt(head.revision)
    if (owners !== null) this.store.changeScope(await this.subscribed(owners), [])
    for (let after: string | undefined = ''; after !== undefined;) {
      const page: SmallRow[] = await smallRecordsAfter(this.#db, after, owners, RELOAD_ROWS)
      for (const row of page) this.store.put(row.uid, JSON.stringify(entryOf(row)), row.lastReportAt ?? 0, head.revision, endpointTables)
      after = page.length === RELOAD_ROWS ? page.at(-1)?.uid : undefined
    }
    const trusts = trustsOf(gateway)
    await this.#loadSights(trusts)
    this.#settings = { serial, protocol, epoch: random(3), floor: head.revision, shareMode: gateway.shareMode, trusts, vouchedUntil: gateway.vouchedUntil, shareTagTypes: JSON.parse(gateway.shareTagTypes) as number[] }
    this.store.keepSettings(this.#settings)
    this.store.keepCursor(head)
    this.#cursor = head
    this.#hear({ kind: 'reloaded', cursor: head })
  }
  async #loadSights(trusts: readonly string[] | null): Promise<void> {
    for (let last: Sight | undefined, more = true; more;) {
      const page: Sight[] = await toldSightsAfter(this.#db, last === undefined ? ['', '', '', '', ''] : [last.serial, last.kind, last.vdom, last.ip, last.uid], trusts, RELOAD_ROWS)
      for (const sight of page) this.store.keepSight(sight)
      last = page.at(-1)
      more = page.length === RELOAD_ROWS
    }
  }
  /** What these gateways subscribed to, read in pages. `among`: of these only. */
  async subscribed(owners: readonly string[], among: readonly string[] | null = null): Promise<string[]> {
    const uids: string[] = []
    for (;;) {
      const page = await subscribedAfter(this.#db, uids.at(-1) ?? '', owners, RELOAD_ROWS, among)
      uids.push(...page.map(({ uid }) => uid))
      if (page.length < RELOAD_ROWS) return uids
    }
  }

  /**
   * What these gateways subscribed to, and the revision since which that is so: the caller may see all of it all the time, so the log
   * does not tell who has come or gone. Call inside {@link exclusively}, after {@link catchUp}; the cursor may move.
   */
  async subscribedSince(owners: readonly string[]): Promise<Subscribed & { readonly uids: ReadonlySet<string> }> {
    if (owners.length === 0 || this.#settings === null) return { uids: new Set(), digest: '', revision: 0 }
    const uids = await this.subscribed(owners)
    const [key, digest] = [[...owners].sort().join(), await sha256Hex(utf8(uids.join()))]
    const before = this.store.subscriptions(key)
    if (before?.digest === digest) return { ...before, uids: new Set(uids) }
    await insertMarker(this.#db, { mark: random(8), at: Date.now(), tables: '' })
    await this.#catchUp(this.#settings.serial)
    const subscribed = { digest, revision: this.#cursor?.revision ?? 0 }
    if (this.#cursor !== null) this.store.keepSubscriptions(key, subscribed)
    return { ...subscribed, uids: new Set(uids) }
  }

  /** Subscriptions changed: what has come into sight is told and what has left it is taken back, each under a revision of its own. */
  async rescope(serial: string): Promise<void> {
    await this.exclusively(async () => {
      await this.#catchUp(serial)
      const [gateway] = await gatewayBySerial(this.#db, serial)
      const owners = gateway === undefined ? null : ownersOf(gateway)
      if (owners === null || this.#cursor === null) return
      const [now, before] = [new Set(await this.subscribed(owners)), this.store.scope()]
      const [added, removed] = [[...now].filter((uid) => !before.has(uid)), [...before].filter((uid) => !now.has(uid))]
      for (let at = 0; at < Math.max(added.length, removed.length); at += RELOAD_ROWS) await this.#move(added.slice(at, at + RELOAD_ROWS), removed.slice(at, at + RELOAD_ROWS))
    })
  }
  async #move(added: readonly string[], removed: readonly string[]): Promise<void> {
    const cursor = this.#cursor ?? EMPTY_LOG
    const at = Date.now()
    // One batch: the records are those of the revision that the marker takes.
    const [, found, records] = await this.#db.batch([insertMarker(this.#db, { mark: random(8), at, tables: '' }), logFrom(this.#db, cursor.revision, GAP_ROWS), smallRecords(this.#db, added)])
    const rows = found.filter(({ revision }) => revision > cursor.revision).map(readLogRow)
    const marker = rows.at(-1)
    if (marker === undefined) return
    const entries = new Map<string, LogEntry>(records.map((row) => [row.uid, entryOf(row)]))
    if (!this.#namesAll([...entries.values()].map((entry) => ({ ...marker, uid: entry.uid, entry })))) await this.#loadTags()
    this.#apply(rows.slice(0, -1), {})
    this.fold()
    const before = this.#cursor ?? cursor
    this.store.changeScope(added, removed)
    const told: LogRow[] = []
    for (const uid of [...entries.keys(), ...removed]) {
      const entry = entries.get(uid) ?? null
      this.store.put(uid, entry === null ? null : JSON.stringify(entry), at, marker.revision, endpointTables)
      told.push({ revision: marker.revision, mark: marker.mark, at, uid, tables: [...endpointTables], entry, sights: null })
    }
    this.#cursor = { revision: marker.revision, mark: marker.mark }
    this.store.keepCursor(this.#cursor)
    this.#hear({ kind: 'told', before, cursor: this.#cursor, rows: told, sysinfo: {} })
  }
}

type SmallRow = Parameters<typeof entryOf>[0]
