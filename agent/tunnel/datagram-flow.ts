// Datagrams of one local program to one destination: through the gateway that protects it, or directly. What can't go on at once is dropped, as UDP would.
import { createSocket } from 'node:dgram'
import { lookup } from 'node:dns/promises'
import ipaddr from 'ipaddr.js'
import { createCapsuleReader, datagramCapsule } from '../../protocol/capsules.ts'
import type { Opener } from './opener.ts'
import { abandon, type Far } from './splice.ts'
import type { Target } from './target.ts'

/** What carries datagrams once it is open. */
export interface FlowWay { send(payload: Uint8Array): void; close(): void }
interface FlowEnds { readonly onPayload: (payload: Uint8Array) => void; readonly onEnd: () => void }

/** Bytes that may wait before datagrams are dropped. */
const MAX_QUEUED = 131_072

function overStream(far: Far, { onPayload, onEnd }: FlowEnds): FlowWay {
  const reader = createCapsuleReader(onPayload)
  far.on('data', (chunk: Uint8Array) => {
    if (!reader.take(chunk)) abandon(far)
  })
  far.on('error', onEnd)
  far.on('end', () => far.end())
  far.on('close', onEnd)
  if (far.destroyed) onEnd()
  return {
    send(payload) {
      if (!far.destroyed && !far.writableEnded && far.writableLength <= MAX_QUEUED) far.write(datagramCapsule(payload))
    },
    close() {
      if (!far.destroyed) far.end(() => setImmediate(() => far.destroy()))
    },
  }
}

/** Opens the way through the gateway. @returns null: there is none, and the user was told why */
export async function openProtected(open: Opener, target: Target, signal: AbortSignal, ends: FlowEnds): Promise<FlowWay | null> {
  const outcome = await open(target, signal, 'udp')
  return outcome.kind === 'open' ? overStream(outcome.far, ends) : null
}

/** Sends as the program itself would have done, from a port of its own: only the destination is heard. @returns null: there is no way */
export async function openDirectly({ host, port }: Target, signal: AbortSignal, { onPayload, onEnd }: FlowEnds): Promise<FlowWay | null> {
  const address = ipaddr.isValid(host) ? host : await lookup(host).then((found) => found.address, () => null)
  if (address === null || signal.aborted) return null
  const { promise, resolve } = Promise.withResolvers<FlowWay | null>()
  const socket = createSocket({ type: address.includes(':') ? 'udp6' : 'udp4' })
  let isOpen = true
  const close = () => {
    if (!isOpen) return
    isOpen = false
    socket.close()
    onEnd()
    resolve(null)
  }
  // Nobody there, or no way: the next datagram tries again.
  socket.on('error', close)
  socket.on('message', onPayload)
  // One that is too long for the way, or has no room, is lost; a socket that reaches nobody is of no more use.
  const sent = (error: NodeJS.ErrnoException | null) => {
    if (error !== null && error.code !== 'EMSGSIZE' && error.code !== 'ENOBUFS') close()
  }
  const send = (payload: Uint8Array) => {
    if (isOpen && socket.getSendQueueSize() <= MAX_QUEUED) socket.send(payload, sent)
  }
  socket.once('connect', () => resolve({ send, close }))
  socket.connect(port, address)
  return promise
}
