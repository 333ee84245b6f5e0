// FcmNotify: one gateway's follower of the change log, and its sockets. The log is the truth; a notice is a hint that is always enough.
import { DurableObject } from 'cloudflare:workers'
import { gatesFor } from '../domain/version/gate.ts'
import type { Decision } from '../protocol/decisions.ts'
import { fromGateway, MAX_NOTIFY_FRAME_BYTES, NOTIFY_PING, NOTIFY_PONG, NOTIFY_SUBPROTOCOL, type FromGateway, type ToGateway } from '../protocol/fabric/notify.ts'
import { SIGHT_SECONDS } from '../protocol/fabric/sightings.ts'
import { tableName } from '../protocol/fabric/tables.ts'
import type { GatewayRow } from '../schema/gateway.ts'
import { reviewMembership } from '../workers/flows/end-membership.ts'
import { sightsEndAt } from '../workers/flows/sights.ts'
import { readConfig, type Env } from '../workers/env.ts'
import { Audience, laterProtocol, type Goodbye } from './audience.ts'
import type { Cursor } from './follow.ts'
import { Follower, type Heard } from './follower.ts'
import { greet } from './greet.ts'
import { readWatermark, watermarkOf, type Poke } from './log-entry.ts'
import { lookUp, OpenLookUps } from './look-up.ts'
import { currentOf, noticesOf, tells } from './notices.ts'
import { objectClock, PendingNotices, type Waiting } from './pending-notices.ts'
import { acceptChallenged, attachmentOf, isProved, proveSocket, readFrame } from './proved-socket.ts'
import { readPage, type PageRequest, type ReportTable } from './report-page.ts'
import { changedSince } from './status.ts'

/** Per table whether anything came after the watermark asked about; `current`: that is true of all up to there, as the log was at `at` (ms) or later. */
interface Status { readonly updated: Partial<Record<ReportTable, boolean>>; readonly current: { readonly revision: string; readonly at: number } }
/** What this gateway is told, as its object knows it. */
export interface Standing { readonly listening: number; readonly protocol: string; readonly inSight: number; readonly seesItself: boolean; readonly cursor: Cursor | null }
const EXPLAINED_WITHIN_MS = 3_000
/** Lines held for one key that waits: whoever opens more has its answer at once. */
const MAX_HELD = 4

export class FcmNotify extends DurableObject<Env> {
  readonly #follower: Follower
  readonly #audience: Audience
  readonly #pending = new PendingNotices({ clock: objectClock, isApplied: () => this.#audience.isApplied(), tell: (waiting) => { this.#tell(waiting) } })
  readonly #everyMs: number
  /** Gateways that wait to be authorised hold their line here. */
  readonly #awaiting = new Set<() => void>()
  readonly #lookUps = new OpenLookUps()
  readonly #asked = new Map<string, (decision: Decision | null) => void>()

  constructor(context: DurableObjectState, env: Env) {
    super(context, env)
    this.#everyMs = readConfig(env).currentEveryMs
    context.setWebSocketAutoResponse(new WebSocketRequestResponsePair(NOTIFY_PING, NOTIFY_PONG))
    this.#audience = new Audience(context)
    this.#follower = new Follower(context.storage.sql, env.DB, (heard) => { this.#hear(heard) })
  }

  // --- what the Worker calls ---

  /** Takes a slice of the log. Resolves when everything up to its head is written down; a doubled or late poke changes nothing. */
  async poke(serial: string, poke: Poke): Promise<void> {
    await this.#follower.follow(serial, poke)
    if (poke.tail.some(({ sights }) => sights?.serial === serial)) await this.#wakeBy(Date.now() + SIGHT_SECONDS * 1000)
  }
  /** Authorised, or entitled to something else: loads what it may see. */
  async configure(serial: string): Promise<void> {
    await this.#follower.reload(serial)
    const until = this.#follower.settings?.vouchedUntil ?? null
    if (until !== null) await this.#wakeBy(until)
    this.#decided()
  }
  /** A root gateway's word ends at another instant (ms), or never: nothing else changes. */
  async vouchedUntil(until: number | null): Promise<void> {
    this.#follower.setVouchedUntil(until)
    if (until !== null) await this.#wakeBy(until)
    this.#decided()
  }
  /** Subscriptions that concern this gateway changed. */
  async rescope(serial: string): Promise<void> { await this.#follower.rescope(serial) }
  /** De-authorised or revoked: cut at once, and nothing is kept. */
  async end(_serial: string, why: Goodbye, reason: string): Promise<void> {
    this.#audience.cut(why, reason)
    await this.#follower.exclusively(() => Promise.resolve(this.#follower.forget()))
    this.#pending.drop()
    // Whoever opened meanwhile was admitted before the records changed.
    this.#audience.cut(why, reason)
    this.#decided()
  }
  /** One page of a report, the JSON of its parts; null when the records do not authorise this gateway. */
  async page(serial: string, table: ReportTable, request: PageRequest): Promise<string | null> {
    const page = await readPage(this.#follower, serial, table, request)
    return page === null ? null : JSON.stringify(page)
  }
  /**
   * Per table: is there anything after that watermark? The head of the log is read for each question, as at the alarm: without a socket there is none.
   * @param owners by table: whose subscriptions bound the question; not named: nobody's
   * @param gateway as the records had it a moment ago: one that is entitled to something else loads anew first
   * @returns null when the records do not authorise this gateway
   */
  async status(serial: string, since: Readonly<Record<string, string>>, owners: Readonly<Record<string, readonly string[]>>, gateway: GatewayRow): Promise<Status | null> {
    if (!this.#follower.isEntitledTo(gateway)) await this.#follower.reload(serial)
    const at = Date.now()
    return await this.#caughtUp(serial, async () => {
      const subscribedAt = new Map<string, number>()
      for (const serials of new Map(Object.values(owners).map((each) => [each.join(), each])).values()) subscribedAt.set(serials.join(), (await this.#follower.subscribedSince(serials)).revision)
      const updated = Object.fromEntries((await changedSince(this.#follower, since, 'report')).map(({ table, state }) => [table, state !== 'same' || (readWatermark(since[table] ?? '')?.revision ?? 0) < (subscribedAt.get(owners[table]?.join() ?? '') ?? 0)]))
      const { cursor } = this.#follower
      return cursor === null ? null : { updated, current: { revision: watermarkOf(cursor), at } }
    })
  }
  /** Which of these endpoints the gateway sees; null when the records do not authorise it. */
  async seenAmong(serial: string, uids: readonly string[]): Promise<string[] | null> {
    return await this.#caughtUp(serial, () => {
      this.#follower.fold()
      return Promise.resolve(this.#follower.settings === null ? null : this.#follower.store.of(uids).map(({ uid }) => uid))
    })
  }
  /** Told to every socket: a new list of CAs. */
  sendAuthorities(document: string): void {
    for (const socket of this.#audience.proved()) this.#audience.send(socket, [{ type: 'ca', document }])
  }
  /** Asks the gateway for a decision it took; null when it is not connected, does not know it, or takes too long. */
  async explainDecision(id: string): Promise<Decision | null> {
    const sockets = this.#audience.proved()
    if (sockets.length === 0) return null
    const request = crypto.randomUUID()
    return await new Promise<Decision | null>((resolve) => {
      const finish = (decision: Decision | null) => {
        clearTimeout(timer)
        this.#asked.delete(request)
        resolve(decision)
      }
      const timer = setTimeout(() => { finish(null) }, EXPLAINED_WITHIN_MS)
      let open = sockets.length
      this.#asked.set(request, (decision) => { if (decision !== null || --open === 0) finish(decision) })
      for (const socket of sockets) this.#audience.send(socket, [{ type: 'explain', request, id }])
    })
  }
  /** Where this follower stands in the log; null before it was loaded. */
  cursor(): Cursor | null { return this.#follower.cursor }
  /** Whether the gateway is there, and the protocol it last spoke; null before it spoke any. */
  peer(): { connected: boolean; protocol: string | null } { return { connected: this.#audience.proved().length > 0, protocol: this.#follower.settings?.protocol ?? null } }
  /** Resolves when the gateway is authorised or denied, or after `ms`. */
  async awaitDecision(ms: number): Promise<void> {
    if (this.#awaiting.size >= MAX_HELD) return
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.#awaiting.delete(done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      this.#awaiting.add(done)
    })
  }
  protocol(): string { return this.#follower.protocol }
  standing(serial: string): Standing {
    this.#follower.fold()
    const { cursor, store } = this.#follower
    return { listening: this.#audience.listening().length, protocol: this.protocol(), inSight: store.count(), seesItself: store.sees(serial), cursor }
  }

  // --- the gateway's sockets ---

  override fetch(request: Request): Response {
    const { response, socket, challenge } = acceptChallenged(this.ctx, request, NOTIFY_SUBPROTOCOL)
    this.#audience.send(socket, [{ type: 'challenge', challenge }])
    this.#audience.makeRoom()
    return response
  }

  override async webSocketMessage(socket: WebSocket, frame: string | ArrayBuffer): Promise<void> {
    const read = fromGateway.safeParse(readFrame(frame, MAX_NOTIFY_FRAME_BYTES))
    if (!read.success) return this.#audience.bye(socket, 'bad-message')
    const message = read.data
    if (message.type === 'answer') {
      if (await proveSocket(socket, message.signature, 'gateway')) this.#audience.makeRoom()
      else this.#audience.bye(socket, 'bad-challenge')
    } else if (!isProved(socket)) this.#audience.bye(socket, 'bad-challenge')
    else await this.#take(socket, message)
  }
  override webSocketClose(socket: WebSocket, code: number): void {
    // Always reciprocated: without it the client waits for its own time-out.
    socket.close(code === 1005 || code === 1006 ? 1000 : code)
  }

  async #take(socket: WebSocket, message: Exclude<FromGateway, { type: 'answer' }>): Promise<void> {
    const serial = attachmentOf(socket).name
    if (message.type === 'applied') {
      this.#audience.applied(socket)
      this.#pending.tellInTime()
    } else if (message.type === 'explained') this.#asked.get(message.request)?.(message.decision)
    else if (message.type === 'hello') await this.#hello(socket, serial, message)
    else {
      const { uid } = message
      const { rescoped } = await this.#lookUps.answer(uid, () => lookUp(this.#follower, serial, uid, attachmentOf(socket).protocol ?? ''), ({ found }) => { this.#audience.send(socket, [found]) })
      await Promise.all(rescoped.map((each) => (each === serial ? this.rescope(serial) : this.env.FCM_NOTIFY.getByName(each).rescope(each))))
    }
  }

  async #hello(socket: WebSocket, serial: string, { protocol, have }: Extract<FromGateway, { type: 'hello' }>): Promise<void> {
    // Subscriptions are written before their gateways are told: what ended in between is mended here.
    if ((this.#follower.settings?.shareMode ?? 1) !== 1) await this.rescope(serial)
    await this.#caughtUp(serial, async () => {
      if (this.#follower.cursor === null) return
      socket.serializeAttachment({ ...attachmentOf(socket), protocol })
      this.#follower.setProtocol(this.#audience.protocols().reduce(laterProtocol, protocol))
      const { missing } = gatesFor(protocol)
      await this.#catchUpSocket(socket, have, [{ type: 'authorisation', state: 'authorised', reason: missing.join('; ') }])
    })
    await this.#wakeBy(Date.now() + this.#everyMs)
  }

  /** The last net under a lost poke: reads the head of the log, and says that this is all. */
  override async alarm(): Promise<void> {
    const now = Date.now()
    const serial = this.#follower.settings?.serial
    this.#follower.fold()
    const next = this.#nextWake(serial, now)
    if (next !== null) await this.ctx.storage.setAlarm(next)
    if (serial === undefined) return
    try {
      const reviewed = await reviewMembership({ env: this.env, waitUntil: (promise) => { this.ctx.waitUntil(promise) } }, serial)
      if (!reviewed.isMember) return await this.end(serial, 'deauthorised', reviewed.reason)
      const sightsEnd = sightsEndAt(reviewed.gateway)
      if (sightsEnd > now && Number.isFinite(sightsEnd)) await this.#wakeBy(sightsEnd)
      if (!this.#follower.isEntitledTo(reviewed.gateway)) await this.#follower.reload(serial)
      await this.#caughtUp(serial, async () => {
        this.#follower.fold()
        // What waits is told in its time, to all, and that it is all.
        if (this.#pending.waiting) return
        for (const socket of this.#audience.listening()) await this.#catchUpSocket(socket, null)
      })
    } catch (cause) {
      // Never thrown: the platform gives an alarm up after six retries, and the next one is set.
      console.log(JSON.stringify({ event: 'follow-failed', at: new Date().toISOString(), cause: cause instanceof Error ? cause.message : String(cause) }))
    }
  }
  #nextWake(serial: string | undefined, now: number): number | null {
    const until = this.#follower.settings?.vouchedUntil ?? null
    const due = [
      ...(this.#audience.listening().length > 0 ? [now + this.#everyMs] : []), ...(serial !== undefined && this.#follower.store.sees(serial) ? [now + SIGHT_SECONDS * 1000] : []),
      ...(until !== null ? [Math.max(until, now + this.#everyMs)] : []),
    ]
    return due.length === 0 ? null : Math.min(...due)
  }
  async #wakeBy(at: number): Promise<void> {
    const set = await this.ctx.storage.getAlarm()
    if (set === null || at < set) await this.ctx.storage.setAlarm(at)
  }
  async #caughtUp<T>(serial: string, work: () => Promise<T>): Promise<T> {
    return await this.#follower.exclusively(async () => {
      await this.#follower.catchUp(serial)
      return await work()
    })
  }

  #decided(): void { for (const done of this.#awaiting) done() }

  // --- telling ---

  #hear(heard: Heard): void {
    this.#lookUps.heard(heard)
    if (heard.kind === 'told') return this.#pending.add(heard)
    this.#pending.drop()
    if (heard.kind === 'refused') return this.#audience.cut('deauthorised', heard.reason)
    for (const socket of this.#audience.listening()) {
      const tables = (['host_tags', 'sysinfo', 'uid_tags', 'tags', 'vuln', 'avatar'] as const).filter((table) => tells(table, attachmentOf(socket).protocol ?? ''))
      this.#audience.send(socket, [...tables.map((table): ToGateway => ({ type: 'reload', table })), currentOf(heard.cursor, Date.now())], watermarkOf(heard.cursor))
    }
  }
  #tell(waiting: Waiting): void {
    const now = Date.now()
    const [before, told] = [watermarkOf(waiting.before), watermarkOf(waiting.cursor)]
    const [listeners, others] = partition(this.#audience.listening(), (socket) => attachmentOf(socket).told === before)
    for (const [protocol, sockets] of Map.groupBy(listeners, (socket) => attachmentOf(socket).protocol ?? '')) {
      const notices = noticesOf({ ...waiting, view: this.#follower.view, protocol })
      for (const socket of sockets) this.#audience.send(socket, [...notices, currentOf(waiting.cursor, now)], told)
    }
    // Not told what came before (this object was ended while it waited), or greeted while it waited: told from where they stand.
    const behind = others.filter((socket) => attachmentOf(socket).told !== told)
    const serial = this.#follower.settings?.serial
    if (behind.length > 0 && serial !== undefined) this.ctx.waitUntil(this.#caughtUp(serial, async () => { for (const socket of behind) await this.#catchUpSocket(socket, null) }))
  }
  /** Inside the follower's lane, with nothing waiting: tells one socket what it misses, and that this is all. @param have null: it holds what it was told */
  async #catchUpSocket(socket: WebSocket, have: Parameters<typeof greet>[1] | null, first: readonly ToGateway[] = []): Promise<void> {
    const { protocol = '', told = '' } = attachmentOf(socket)
    const { cursor } = this.#follower
    if (cursor === null) return
    const isThere = have === null && told === watermarkOf(cursor)
    const missed = isThere ? [] : await greet(this.#follower, have ?? Object.fromEntries(tableName.options.map((table) => [table, told])), protocol)
    this.#audience.send(socket, [...first, ...missed, currentOf(cursor, Date.now())], watermarkOf(cursor))
  }
}

function partition<T>(items: readonly T[], isFirst: (item: T) => boolean): [T[], T[]] {
  const { first = [], second = [] } = Object.groupBy(items, (item) => (isFirst(item) ? 'first' : 'second'))
  return [first, second]
}
