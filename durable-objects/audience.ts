// The sockets of one gateway (a pair of machines may hold one each): who has proved itself, who listens, up to where each was told, and how much of it was not applied yet.
import { MAX_NOTIFY_FRAME_BYTES, type ToGateway } from '../protocol/fabric/notify.ts'
import { attachmentOf, isProved } from './proved-socket.ts'

export type Goodbye = Extract<ToGateway, { type: 'bye' }>['reason']
/** Told and not answered by `applied`: above this the reader is too slow, and resumes by its watermarks. What it does not read is kept in our memory. */
const MAX_UNAPPLIED_BYTES = 4_000_000
const MAX_SOCKETS = 8
const MAX_UNPROVED = 4
const isOpen = (socket: WebSocket) => socket.readyState === WebSocket.OPEN
const byAge = (a: WebSocket, b: WebSocket) => attachmentOf(a).openedAt - attachmentOf(b).openedAt

/** The later of two protocol versions: a pair of machines in the middle of an upgrade is told what the newer one may be. */
export const laterProtocol = (a: string, b: string): string => (a.localeCompare(b, 'en', { numeric: true }) >= 0 ? a : b)

export class Audience {
  readonly #context: DurableObjectState
  readonly #unapplied = new WeakMap<WebSocket, number>()

  constructor(context: DurableObjectState) {
    this.#context = context
  }

  all(): WebSocket[] { return this.#context.getWebSockets().filter(isOpen) }
  proved(): WebSocket[] { return this.all().filter(isProved) }
  /** Those that said hello: nothing is told before. */
  listening(): WebSocket[] { return this.proved().filter((socket) => attachmentOf(socket).protocol !== undefined) }
  /** Protocols that are spoken here now. */
  protocols(): string[] { return this.listening().flatMap((socket) => attachmentOf(socket).protocol ?? []) }

  applied(socket: WebSocket): void { this.#unapplied.set(socket, 0) }
  isApplied(): boolean { return this.listening().every((socket) => (this.#unapplied.get(socket) ?? 0) === 0) }

  /** Only so many: the oldest goes. One that has proved nothing yet never puts out one that has. */
  makeRoom(): void {
    const [proved, unproved] = [this.proved().sort(byAge), this.all().filter((socket) => !isProved(socket)).sort(byAge)]
    for (const socket of [...proved.slice(0, Math.max(0, proved.length - MAX_SOCKETS)), ...unproved.slice(0, Math.max(0, unproved.length - MAX_UNPROVED))]) this.bye(socket, 'replaced')
  }

  /** @param told the watermark up to which the socket has been told with this frame */
  send(socket: WebSocket, messages: readonly ToGateway[], told?: string): void {
    if (!isOpen(socket)) return
    const { told: before = '' } = attachmentOf(socket)
    const frame = small(messages.map((message) => (message.type === 'current' ? { ...message, after: before } : message)))
    const counts = messages.some(({ type }) => type === 'changed' || type === 'found')
    const unapplied = counts ? (this.#unapplied.get(socket) ?? 0) + frame.length : 0
    if (unapplied > MAX_UNAPPLIED_BYTES) return this.bye(socket, 'too-slow')
    if (counts) this.#unapplied.set(socket, unapplied)
    socket.send(frame)
    if (told !== undefined) socket.serializeAttachment({ ...attachmentOf(socket), told })
  }

  bye(socket: WebSocket, reason: Goodbye): void {
    if (!isOpen(socket)) return
    socket.send(JSON.stringify([{ type: 'bye', reason }] satisfies ToGateway[]))
    socket.close(4000, reason)
  }
  /** Everybody goes, at once. */
  cut(why: Goodbye, reason: string): void {
    for (const socket of this.proved()) this.send(socket, [{ type: 'authorisation', state: 'denied', reason }])
    for (const socket of this.all()) this.bye(socket, why)
  }
}

/** A frame that a reader takes: increments are left out where they would make it larger, for a notice alone is enough. */
function small(messages: readonly ToGateway[]): string {
  const frame = JSON.stringify(messages)
  if (frame.length * 3 <= MAX_NOTIFY_FRAME_BYTES || new TextEncoder().encode(frame).length <= MAX_NOTIFY_FRAME_BYTES) return frame
  return JSON.stringify(messages.map((message) => (message.type === 'changed' ? { ...message, data: undefined } : message)))
}
