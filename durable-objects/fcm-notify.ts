// FcmNotify: one gateway's follower of the change log, and its sockets. The log is the truth; a notice is a hint that is always enough.
import { DurableObject } from 'cloudflare:workers'
import { gatesFor } from '../domain/version/gate.ts'
import type { Decision } from '../protocol/decisions.ts'
import { fromGateway, MAX_NOTIFY_FRAME_BYTES, NOTIFY_PING, NOTIFY_PONG, NOTIFY_SUBPROTOCOL, type FromGateway, type ToGateway } from '../protocol/fabric/notify.ts'
import { subscribe } from '../workers/flows/subscriptions.ts'
import { sysinfoBodies } from '../workers/flows/report-bodies.ts'
import { readConfig, type Env } from '../workers/env.ts'
import { smallRecords } from '../schema/queries/follow-log.ts'
import type { Cursor } from './follow.ts'
import { Follower, type Heard } from './follower.ts'
import type { EndpointTable } from './follower-store.ts'
import { greet } from './greet.ts'
import { entryOf, type Poke } from './log-entry.ts'
import { currentOf, gatedSysinfo, noticesOf, tells, uidTagsOf } from './notices.ts'
import { acceptChallenged, attachmentOf, isProved, proveSocket, readFrame } from './proved-socket.ts'
import { readPage, type PageRequest } from './report-page.ts'
import { changedSince } from './status.ts'

type Goodbye = Extract<ToGateway, { type: 'bye' }>['reason']
type Status = Partial<Record<EndpointTable | 'host_tags', boolean>>
/** Sent and not answered by `applied`: above this the reader is too slow, and resumes by its watermarks. */
const MAX_UNAPPLIED_BYTES = 4_000_000
const MAX_SOCKETS = 8
const EXPLAINED_WITHIN_MS = 3_000

export class FcmNotify extends DurableObject<Env> {
  readonly #follower: Follower
  readonly #everyMs: number
  readonly #unapplied = new WeakMap<WebSocket, number>()
  readonly #asked = new Map<string, (decision: Decision | null) => void>()

  constructor(context: DurableObjectState, env: Env) {
    super(context, env)
    this.#everyMs = readConfig(env).currentEveryMs
    context.setWebSocketAutoResponse(new WebSocketRequestResponsePair(NOTIFY_PING, NOTIFY_PONG))
    this.#follower = new Follower(context.storage.sql, env.DB, (heard) => { this.#tell(heard) })
  }

  // --- what the Worker calls ---

  /** Takes a slice of the log. Resolves when everything up to its head is written down; a doubled or late poke changes nothing. */
  async poke(serial: string, poke: Poke): Promise<void> { await this.#follower.follow(serial, poke) }
  /** Authorised, or entitled to something else: loads what it may see. */
  async configure(serial: string): Promise<void> { await this.#follower.reload(serial) }
  /** Subscriptions that concern this gateway changed. */
  async rescope(serial: string): Promise<void> { await this.#follower.rescope(serial) }
  /** De-authorised or revoked: cut at once, and nothing is kept. */
  async end(_serial: string, why: Goodbye, reason: string): Promise<void> {
    this.#cut(why, reason)
    await this.#follower.exclusively(() => Promise.resolve(this.#follower.forget()))
    // Whoever opened meanwhile was admitted before the records changed.
    this.#cut(why, reason)
  }
  /** One page of a report, the JSON of its parts; null when the records do not authorise this gateway. */
  async page(serial: string, table: EndpointTable, request: PageRequest): Promise<string | null> {
    const page = await readPage(this.#follower, serial, table, request)
    return page === null ? null : JSON.stringify(page)
  }
  /** Per table: is there anything after that watermark? */
  async status(serial: string, since: Readonly<Record<string, string>>): Promise<Status> {
    return await this.#follower.exclusively(async () => {
      await this.#follower.catchUp(serial)
      return Object.fromEntries((await changedSince(this.#follower, since)).map(({ table, state }) => [table, state !== 'same']))
    })
  }
  /** Told to every socket: a new list of CAs. */
  sendAuthorities(document: string): void {
    for (const socket of this.#proved()) this.#send(socket, [{ type: 'ca', document }])
  }
  /** Asks the gateway for a decision it took; null when it is not connected, does not know it, or takes too long. */
  async explainDecision(id: string): Promise<Decision | null> {
    const sockets = this.#proved()
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
      for (const socket of sockets) this.#send(socket, [{ type: 'explain', request, id }])
    })
  }
  /** Where this follower stands in the log; null before it was loaded. */
  cursor(): Cursor | null { return this.#follower.cursor }
  connected(): boolean { return this.#proved().length > 0 }

  // --- the gateway's sockets ---

  override fetch(request: Request): Response {
    const { response, socket, challenge } = acceptChallenged(this.ctx, request, NOTIFY_SUBPROTOCOL)
    const others = this.ctx.getWebSockets().filter((each) => each !== socket && each.readyState === WebSocket.OPEN).sort((a, b) => attachmentOf(a).openedAt - attachmentOf(b).openedAt)
    for (const oldest of others.slice(0, Math.max(0, others.length + 1 - MAX_SOCKETS))) this.#bye(oldest, 'replaced')
    this.#send(socket, [{ type: 'challenge', challenge }])
    return response
  }

  override async webSocketMessage(socket: WebSocket, frame: string | ArrayBuffer): Promise<void> {
    const read = fromGateway.safeParse(readFrame(frame, MAX_NOTIFY_FRAME_BYTES))
    if (!read.success) return this.#bye(socket, 'bad-message')
    const message = read.data
    if (message.type === 'answer') {
      if (!await proveSocket(socket, message.signature, 'gateway')) this.#bye(socket, 'bad-challenge')
    } else if (!isProved(socket)) this.#bye(socket, 'bad-challenge')
    else await this.#take(socket, message)
  }
  override webSocketClose(socket: WebSocket, code: number): void {
    // Always reciprocated: without it the client waits for its own time-out.
    socket.close(code === 1005 || code === 1006 ? 1000 : code)
  }

  async #take(socket: WebSocket, message: Exclude<FromGateway, { type: 'answer' }>): Promise<void> {
    const serial = attachmentOf(socket).name
    if (message.type === 'applied') this.#unapplied.set(socket, 0)
    else if (message.type === 'explained') this.#asked.get(message.request)?.(message.decision)
    else if (message.type === 'lookup') await this.#lookUp(socket, serial, message.uid)
    else await this.#hello(socket, serial, message)
  }

  async #hello(socket: WebSocket, serial: string, { protocol, have }: Extract<FromGateway, { type: 'hello' }>): Promise<void> {
    await this.#follower.exclusively(async () => {
      await this.#follower.catchUp(serial)
      if (this.#follower.cursor === null) return
      this.#follower.setProtocol(protocol)
      socket.serializeAttachment({ ...attachmentOf(socket), protocol })
      const { missing } = gatesFor(protocol)
      const greeting = await greet(this.#follower, have, protocol)
      this.#send(socket, [{ type: 'authorisation', state: 'authorised', reason: missing.join('; ') }, ...greeting, currentOf(this.#follower.cursor, Date.now())])
    })
    if (await this.ctx.storage.getAlarm() === null) await this.ctx.storage.setAlarm(Date.now() + this.#everyMs)
  }

  /** The record, or that there is none; a gateway that sees its own endpoints only now sees this one too. */
  async #lookUp(socket: WebSocket, serial: string, uid: string): Promise<void> {
    const { settings, view } = this.#follower
    if (settings === null) return
    const { protocol = '' } = attachmentOf(socket)
    const [bodies, [row]] = await Promise.all([sysinfoBodies(this.#follower.db, [uid]), smallRecords(this.#follower.db, [uid])])
    const record = bodies.get(uid)
    const visible = settings.shareMode !== 2 || this.#follower.store.inScope(uid)
    if (record === undefined || row === undefined || !visible) return this.#send(socket, [{ type: 'found', uid, sysinfo: null, tags: null }])
    this.#send(socket, [{ type: 'found', uid, sysinfo: gatedSysinfo(record, protocol), tags: tells('uid_tags', protocol) ? uidTagsOf(entryOf(row), row.lastReportAt ?? 0, view) : null }])
    if (settings.shareMode === 0 && !this.#follower.store.inScope(uid)) {
      const { concerned } = await subscribe(this.#follower.db, serial, [uid], [])
      await this.#follower.rescope(serial)
      await Promise.all(concerned.filter((other) => other !== serial).map((other) => this.env.FCM_NOTIFY.getByName(other).rescope(other)))
    }
  }

  /** The last net under a lost poke: reads the head of the log, and says that this is all. */
  override async alarm(): Promise<void> {
    if (this.#listening().length > 0) await this.ctx.storage.setAlarm(Date.now() + this.#everyMs)
    try {
      const serial = this.#follower.settings?.serial
      if (serial === undefined) return
      await this.#follower.exclusively(async () => {
        await this.#follower.catchUp(serial)
        this.#follower.fold()
        const { cursor } = this.#follower
        if (cursor !== null) for (const socket of this.#listening()) this.#send(socket, [currentOf(cursor, Date.now())])
      })
    } catch (cause) {
      // Never thrown: the platform gives an alarm up after six retries, and the next one is set.
      console.log(JSON.stringify({ event: 'follow-failed', at: new Date().toISOString(), cause: cause instanceof Error ? cause.message : String(cause) }))
    }
  }

  // --- telling ---

  #proved(): WebSocket[] { return this.ctx.getWebSockets().filter((socket) => socket.readyState === WebSocket.OPEN && isProved(socket)) }
  #listening(): WebSocket[] { return this.#proved().filter((socket) => attachmentOf(socket).protocol !== undefined) }

  #tell(heard: Heard): void {
    if (heard.kind === 'refused') return this.#cut('deauthorised', heard.reason)
    const byProtocol = Map.groupBy(this.#listening(), (socket) => attachmentOf(socket).protocol ?? '')
    for (const [protocol, sockets] of byProtocol) {
      const messages: ToGateway[] = heard.kind === 'told' ? noticesOf({ ...heard, view: this.#follower.view, protocol }) : (['host_tags', 'sysinfo', 'uid_tags', 'tags', 'vuln', 'avatar'] as const)
        .filter((table) => tells(table, protocol)).map((table) => ({ type: 'reload', table }))
      for (const socket of sockets) this.#send(socket, [...messages, currentOf(heard.cursor, Date.now())])
    }
  }

  #send(socket: WebSocket, messages: readonly ToGateway[]): void {
    if (socket.readyState !== WebSocket.OPEN) return
    const frame = JSON.stringify(messages)
    // What a reader does not read is kept in our memory: only so much of it.
    const unapplied = messages.some(({ type }) => type === 'changed') ? (this.#unapplied.get(socket) ?? 0) + frame.length : 0
    if (unapplied > MAX_UNAPPLIED_BYTES) return this.#bye(socket, 'too-slow')
    if (unapplied > 0) this.#unapplied.set(socket, unapplied)
    socket.send(frame)
  }
  #bye(socket: WebSocket, reason: Goodbye): void {
    if (socket.readyState !== WebSocket.OPEN) return
    socket.send(JSON.stringify([{ type: 'bye', reason }] satisfies ToGateway[]))
    socket.close(4000, reason)
  }
  #cut(why: Goodbye, reason: string): void {
    for (const socket of this.#proved()) this.#send(socket, [{ type: 'authorisation', state: 'denied', reason }])
    for (const socket of this.ctx.getWebSockets()) this.#bye(socket, why)
  }
}

