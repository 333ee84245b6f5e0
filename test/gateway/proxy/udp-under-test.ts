// UDP through the gate: an echo, a name server, and clients that speak capsules over HTTP/2 and HTTP/1.1.
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import { once } from 'node:events'
import type { ClientHttp2Session, ClientHttp2Stream } from 'node:http2'
import type { Duplex } from 'node:stream'
import { createCapsuleReader, datagramCapsule, udpPath } from '../../../protocol/capsules.ts'
import { ask, later, until, type Answer } from './gate-under-test.ts'

/** A UDP socket on loopback that is closed with the test. */
export async function bindUdp(onMessage: (payload: Buffer, from: RemoteInfo, socket: Socket) => void, host = '127.0.0.1'): Promise<{ port: number; socket: Socket; close: () => void }> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  let open = true
  const close = () => {
    if (open) socket.close()
    open = false
  }
  socket.on('error', close)
  socket.on('message', (payload: Buffer, from) => onMessage(payload, from, socket))
  socket.bind(0, host)
  await once(socket, 'listening')
  later(close)
  return { port: socket.address().port, socket, close }
}
export const startUdpEcho = (host?: string) => bindUdp((payload, { port, address }, socket) => socket.send(payload, port, address), host)

/** A name server (RFC 1035) that knows one address of each name that is asked for. */
export const startNameServer = (address: readonly number[]) => bindUdp((query, from, socket) => {
  let end = 12
  while ((query[end] ?? 0) > 0) end += 1 + (query[end] ?? 0)
  const question = query.subarray(12, end + 5)
  const head = Buffer.from([...query.subarray(0, 2), 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0])
  socket.send(Buffer.concat([head, question, Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, address.length, ...address])]), from.port, from.address)
})

/** Waits until the gate has said that it takes extended CONNECT. */
export const readyForUdp = (session: ClientHttp2Session) => until(() => session.remoteSettings?.enableConnectProtocol === true)

/** Asks for UDP over HTTP/2. */
export async function connectUdp(session: ClientHttp2Session, host: string, port: number): Promise<Answer> {
  await readyForUdp(session)
  return ask(session, { ':method': 'CONNECT', ':protocol': 'connect-udp', ':scheme': 'https', ':authority': 'gateway.test', ':path': udpPath(host, port), 'capsule-protocol': '?1' }, true)
}

/** What comes and goes over a stream of capsules, datagram by datagram. */
export function datagramsOf(stream: Duplex | ClientHttp2Stream) {
  const received: Buffer[] = []
  const reader = createCapsuleReader((payload) => received.push(Buffer.from(payload)))
  stream.on('data', (chunk: Uint8Array) => {
    if (!reader.take(chunk)) throw new Error('the gate sent what is no capsule')
  })
  return {
    received,
    send: (payload: Uint8Array) => void stream.write(datagramCapsule(payload)),
    /** Sends one and waits until it is back. */
    async echoes(payload: Uint8Array): Promise<void> {
      const before = received.length
      stream.write(datagramCapsule(payload))
      await until(() => received.length > before)
      const back = received.at(-1)
      if (back === undefined || Buffer.compare(back, payload) !== 0) throw new Error(`sent ${payload.length} bytes, got ${back?.length} others`)
    },
  }
}
