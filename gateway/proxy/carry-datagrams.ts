// Joins the client's stream of capsules and a connected UDP socket. What can't go on at once is dropped and counted, as UDP would; nothing is queued for long.
import type { Socket } from 'node:dgram'
import { createCapsuleReader, datagramCapsule } from '../../protocol/capsules.ts'
import type { Timers } from '../../node/timers.ts'
import { breakClient, type Client } from './splice.ts'

export interface CarriedDatagrams { readonly up: number; readonly down: number; readonly dropped: number }

interface CarryOptions {
  /** Without a datagram for so long, the session ends. */
  readonly idleMs: number
  readonly timers: Timers
  readonly now: () => number
  /** Both sides are closed. */
  readonly onEnd: () => void
  /** The socket is of no more use: nobody is there, or there is no way. The caller ends the session. */
  readonly onUnreachable: (detail: string) => void
}

/** Bytes that may wait for the client's window, or for the network, before datagrams are dropped. */
const MAX_QUEUED = 131_072
/** How long a client may take to see that its session has ended. */
const FAREWELL_MS = 1_000
/** What says that nobody is reached. Anything else concerns one datagram: too long for the way, no room in the kernel. */
const unreachable = new Set(['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ENETDOWN', 'EHOSTDOWN', 'EBADF'])

/**
 * Carries datagrams both ways until the client ends or breaks, its capsules are none, or nothing comes for a time.
 * @param socket connected; its 'error' listener is set here and stays
 * @param head bytes of the client that came with its request
 * @returns `stop`: at once, after it not a datagram more is carried, and the client's side is the caller's to end
 */
export function carryDatagrams(client: Client, socket: Socket, head: Uint8Array, { idleMs, timers, now, onEnd, onUnreachable }: CarryOptions) {
  const bytes = { up: 0, down: 0 }
  const datagrams = { up: 0, down: 0, dropped: 0 }
  let isOpen = true
  let lastAt = now()
  let stopTimer = () => {}

  function close(): void {
    if (!isOpen) return
    isOpen = false
    stopTimer()
    socket.close()
  }
  /** Both ways at once: a client that keeps its half open would keep the session. */
  function endClient(): void {
    close()
    if (client.destroyed) return
    const stop = timers.after(FAREWELL_MS, () => client.destroy())
    client.once('close', stop)
    client.end(() => setImmediate(() => client.destroy()))
  }
  function fail(error: NodeJS.ErrnoException): void {
    if (!isOpen) return
    close()
    onUnreachable(error.message)
  }
  function watch(afterMs: number): void {
    stopTimer = timers.after(afterMs, () => {
      // Instants are compared instead of a timer for each datagram; a clock that was set back waits once more.
      const left = Math.min(idleMs, lastAt + idleMs - now())
      if (left <= 0) endClient()
      else watch(left)
    })
  }

  const reader = createCapsuleReader((payload) => {
    lastAt = now()
    if (socket.getSendQueueSize() > MAX_QUEUED) {
      datagrams.dropped += 1
      return
    }
    socket.send(payload, (error: NodeJS.ErrnoException | null, sent: number) => {
      if (error === null) {
        datagrams.up += 1
        bytes.up += sent
      } else if (unreachable.has(error.code ?? '')) fail(error)
      else datagrams.dropped += 1
    })
  })
  const take = (chunk: Uint8Array) => {
    if (!isOpen || reader.take(chunk)) return
    close()
    breakClient(client)
  }

  socket.on('error', fail)
  socket.on('message', (payload: Uint8Array) => {
    if (!isOpen || client.destroyed || client.writableEnded) return
    lastAt = now()
    if (client.writableLength > MAX_QUEUED) {
      datagrams.dropped += 1
      return
    }
    client.write(datagramCapsule(payload))
    datagrams.down += 1
    bytes.down += payload.length
  })
  client.on('data', take)
  client.on('end', () => {
    if (!isOpen) return
    if (reader.between) return endClient()
    // RFC 9297 §3.3: a capsule that is cut short makes the whole malformed.
    close()
    breakClient(client)
  })
  client.on('error', close)
  client.on('aborted', close)
  client.on('close', () => {
    close()
    onEnd()
  })
  watch(idleMs)
  if (head.length > 0) take(head)
  if (client.destroyed) close()
  return { stop: close, carried: () => ({ ...bytes, datagrams }) }
}
