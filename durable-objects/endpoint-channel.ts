// The push channel of agents: one hibernating websocket each, a sixteenth of all agents per object. It decides nothing about endpoints but whether they are online.
import { DurableObject } from 'cloudflare:workers'
import { CHANNEL_PING, CHANNEL_PONG, CHANNEL_SUBPROTOCOL, fromAgent, MAX_AGENT_FRAME_BYTES, type FromAgent, type ToAgent } from '../protocol/channel.ts'
import type { DocumentVersions } from '../protocol/documents.ts'
import type { Env } from '../workers/env.ts'
import { authoritiesSigner, newerDocuments, setOnline, type InObject } from '../workers/flows/presence.ts'
import { isSilent, Presence, SWEEP_EVERY_MS } from './presence.ts'
import { acceptChallenged, attachmentOf, isProved, proveSocket, readFrame } from './proved-socket.ts'

type Goodbye = Extract<ToAgent, { type: 'bye' }>['reason']
/** Endpoints that one sweep calls offline; the rest follow a second later. Each takes two trips. */
const OFFLINE_AT_ONCE = 20
const SOON_MS = 1_000
/** An edit makes every agent fetch: so that all sixteen shards together bring no more than 500 requests a second. */
const MS_EACH = 16 * 1000 / 500

export class EndpointChannel extends DurableObject<Env> {
  readonly #presence: Presence

  constructor(context: DurableObjectState, env: Env) {
    super(context, env)
    // Pings are answered by the platform: an idle laptop wakes nobody and costs nothing.
    context.setWebSocketAutoResponse(new WebSocketRequestResponsePair(CHANNEL_PING, CHANNEL_PONG))
    this.#presence = new Presence(context.storage.sql)
  }

  override fetch(request: Request): Response {
    const { response, socket, challenge } = acceptChallenged(this.ctx, request, CHANNEL_SUBPROTOCOL)
    send(socket, { type: 'challenge', challenge })
    return response
  }

  override async webSocketMessage(socket: WebSocket, frame: string | ArrayBuffer): Promise<void> {
    const message = fromAgent.safeParse(readFrame(frame, MAX_AGENT_FRAME_BYTES))
    if (!message.success) return bye(socket, 'bad-message')
    if (message.data.type === 'answer') await this.#prove(socket, message.data)
    else if (isProved(socket)) await this.#hello(socket, message.data.have)
    else bye(socket, 'bad-challenge')
  }

  override webSocketClose(socket: WebSocket, code: number): void {
    // A note only: whether it is offline is decided by the sweep, for a laptop that reconnects was never away.
    const { name } = attachmentOf(socket)
    if (isProved(socket) && !this.#proved(name).some((other) => other !== socket)) this.#presence.closed(name, Date.now())
    // Always reciprocated: without it the client waits for its own time-out.
    socket.close(code === 1005 || code === 1006 ? 1000 : code)
  }

  /** The clock of presence: sets itself anew while anybody is online, and never throws, for the platform gives an alarm up after six retries. */
  override async alarm(): Promise<void> {
    if (this.#presence.all().length > 0) await this.ctx.storage.setAlarm(Date.now() + SWEEP_EVERY_MS)
    try {
      if (await this.#sweep(Date.now())) await this.ctx.storage.setAlarm(Date.now() + SOON_MS)
    } catch (cause) {
      console.log(JSON.stringify({ event: 'presence-sweep-failed', at: new Date().toISOString(), cause: cause instanceof Error ? cause.message : String(cause) }))
    }
  }

  /** Sends a message to an agent; false when it is not connected here. A hint: what must happen is also found by asking. */
  push(uid: string, message: ToAgent): boolean {
    const sockets = this.#proved(uid)
    for (const socket of sockets) send(socket, message)
    return sockets.length > 0
  }
  /** Tells every agent of this shard which documents are the newest, and over how long a time they are to fetch them. */
  announce(versions: DocumentVersions): number {
    const sockets = this.#proved()
    for (const socket of sockets) send(socket, { type: 'newer', versions, spreadMs: Math.ceil(sockets.length * MS_EACH) })
    return sockets.length
  }
  /** Sends every agent of this shard the list of CAs and of revoked certificates of gateways. */
  async sendAuthorities(): Promise<number> {
    const sockets = this.#proved()
    if (sockets.length === 0) return 0
    const signedFor = await authoritiesSigner(this.#inObject())
    for (const socket of sockets) send(socket, { type: 'document', kind: 'authorities', document: await signedFor(attachmentOf(socket).name) })
    return sockets.length
  }
  /** Closes an agent's sockets; with a serial, only those opened by that certificate. */
  end(uid: string, serial: string | null, reason: Goodbye): void {
    for (const socket of this.ctx.getWebSockets(uid)) if (serial === null || attachmentOf(socket).serial === serial) bye(socket, reason)
    if (reason === 'deregistered') this.#presence.remove(uid)
  }
  /** Whether an agent's socket is open and proved. */
  connected(uid: string): boolean { return this.#proved(uid).length > 0 }

  #proved(uid?: string): WebSocket[] { return this.ctx.getWebSockets(uid).filter((socket) => socket.readyState === WebSocket.OPEN && isProved(socket)) }
  #inObject(): InObject { return { env: this.env, waitUntil: (promise) => { this.ctx.waitUntil(promise) } } }

  async #prove(socket: WebSocket, { signature }: Extract<FromAgent, { type: 'answer' }>): Promise<void> {
    if (!await proveSocket(socket, signature, 'agent')) return bye(socket, 'bad-challenge')
    const { name } = attachmentOf(socket)
    for (const other of this.#proved(name)) if (other !== socket) bye(other, 'replaced')
    send(socket, { type: 'welcome', at: Date.now() })
    if (this.#presence.has(name)) return this.#presence.closed(name, null)
    // Noted before it is written: should the write fail, the sweep writes it.
    this.#presence.add(name)
    if (await this.ctx.storage.getAlarm() === null) await this.ctx.storage.setAlarm(Date.now() + SWEEP_EVERY_MS)
    await this.#writeOnline(name)
  }
  async #writeOnline(uid: string): Promise<void> {
    await setOnline(this.#inObject(), uid, true)
    this.#presence.written(uid)
  }

  /** What is newer than the agent's is pushed; it also finds it by asking. */
  async #hello(socket: WebSocket, have: DocumentVersions): Promise<void> {
    const documents = await newerDocuments(this.#inObject(), attachmentOf(socket).name, have)
    if (documents === null) return bye(socket, 'deregistered')
    for (const { kind, document } of documents) send(socket, { type: 'document', kind, document })
  }

  /** @returns whether more is to be done at once */
  async #sweep(now: number): Promise<boolean> {
    const present = this.#presence.all()
    const silent = present.filter(({ uid, closedAt }) => {
      const sockets = this.#proved(uid)
      const heardAt = sockets.length === 0 ? null : Math.max(...sockets.map((socket) => this.ctx.getWebSocketAutoResponseTimestamp(socket)?.getTime() ?? attachmentOf(socket).openedAt))
      // No close was seen, as after a deployment: it counts from now.
      if (heardAt === null && closedAt === null) this.#presence.closed(uid, now)
      return isSilent(heardAt, closedAt, now)
    })
    for (const { uid } of silent.slice(0, OFFLINE_AT_ONCE)) {
      for (const socket of this.ctx.getWebSockets(uid)) bye(socket, 'replaced')
      await setOnline(this.#inObject(), uid, false)
      // It may have come back while that was written.
      if (this.connected(uid)) await this.#writeOnline(uid)
      else this.#presence.remove(uid)
    }
    for (const { uid } of present.filter(({ uid: each, written }) => !written && this.connected(each)).slice(0, OFFLINE_AT_ONCE)) await this.#writeOnline(uid)
    return silent.length > OFFLINE_AT_ONCE
  }
}

function send(socket: WebSocket, message: ToAgent): void {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message))
}
function bye(socket: WebSocket, reason: Goodbye): void {
  send(socket, { type: 'bye', reason })
  socket.close(4000, reason)
}
