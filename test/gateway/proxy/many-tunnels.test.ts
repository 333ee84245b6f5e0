// Hundreds of tunnels at once share the memory that they are read into, and others break off amid them: each byte must be its own tunnel's, in both directions.
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { afterEach, expect, it } from 'vitest'
import { cleanUp, connectTo, later, listen, openHttp1, openHttp2, readUntil, startGate, type Gate } from './gate-under-test.ts'

afterEach(cleanUp)

const TUNNELS = 240
const BYTES = 150_000
/** Around what a small, a large buffer and a TLS record hold. */
const SIZES = [1, 100, 2_047, 2_048, 2_049, 16_383, 16_384, 16_385, 65_535, 65_536, 70_000]
type Direction = 1 | 2

/** Bytes of one direction of one tunnel, which stand nowhere else. */
function bytesOf(tunnel: number, direction: Direction, from: number, length: number): Buffer {
  const bytes = Buffer.alloc(length)
  for (let at = 0; at < length; at++) bytes[at] = Math.imul((from + at) ^ Math.imul(2 * tunnel + direction, 0x9e3779b1), 0x85ebca6b) >>> 13
  return bytes
}

async function pour(stream: Duplex, tunnel: number, direction: Direction): Promise<void> {
  for (let sent = 0, turn = tunnel; sent < BYTES && stream.writable; turn++) {
    const piece = bytesOf(tunnel, direction, sent, Math.min(BYTES - sent, SIZES[turn % SIZES.length] ?? 1))
    sent += piece.length
    if (!stream.write(piece)) await new Promise<void>((resolve) => stream.once('drain', resolve).once('close', resolve))
    else if (turn % 3 === 0) await new Promise((resolve) => { setImmediate(resolve) })
  }
}

/** Reads until all has come, some more slowly than it comes. @throws Error at a byte that is not its own */
async function drink(stream: Duplex, tunnel: number, direction: Direction): Promise<void> {
  let read = 0
  for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    if (!chunk.equals(bytesOf(tunnel, direction, read, chunk.length))) throw new Error(`bytes of another in tunnel ${tunnel} behind ${read}`)
    read += chunk.length
    for (let turn = tunnel % 4; turn > 0; turn--) await new Promise((resolve) => { setImmediate(resolve) })
    if (read >= BYTES) break
  }
  if (read !== BYTES) throw new Error(`tunnel ${tunnel} ended behind ${read}`)
}

/** Sends and takes for the tunnel that its first four bytes name; from `TUNNELS` on it breaks off with the first that it is sent. */
async function startPeers(mistakes: unknown[]): Promise<number> {
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    socket.once('readable', () => {
      const name = socket.read(4) as Buffer | null
      if (name === null) return socket.destroy()
      const tunnel = name.readUInt32BE()
      const poured = pour(socket, tunnel, 1)
      if (tunnel < TUNNELS) Promise.all([poured, drink(socket, tunnel, 2)]).then(() => socket.end(), (mistake: unknown) => mistakes.push(mistake))
      else socket.once('data', () => socket.resetAndDestroy())
    })
  })
  later(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return await listen(server)
}

async function openTunnel(gate: Gate, session: ReturnType<typeof openHttp2>, to: string, tunnel: number): Promise<Duplex> {
  if (tunnel % 3 === 0) return (await connectTo(session, to)).stream
  const socket = await openHttp1(gate, gate.agent)
  socket.write(`CONNECT ${to} HTTP/1.1\r\nHost: ${to}\r\n\r\n`)
  await readUntil(socket, '\r\n\r\n')
  return socket
}

it(`through ${TUNNELS} tunnels at once, and half as many that break off amid them, comes each byte to its own alone`, async () => {
  const mistakes: unknown[] = []
  const port = await startPeers(mistakes)
  const gate = await startGate(`services: [{name: peers, protocol: tcp, match: [127.0.0.1], ports: [${port}], addresses: [127.0.0.1]}]\npolicies: [{name: staff, services: [peers], tags: {all: [compliant]}, action: allow}]`, { limits: { perDevice: 1_000 } })
  const sessions = [openHttp2(gate, gate.agent), openHttp2(gate, gate.agent)] as const
  await Promise.all(Array.from({ length: TUNNELS * 1.5 }, async (_, tunnel) => {
    const stream = await openTunnel(gate, sessions[tunnel & 1 ? 1 : 0], `127.0.0.1:${port}`, tunnel)
    stream.on('error', () => stream.destroy())
    const name = Buffer.alloc(4)
    name.writeUInt32BE(tunnel)
    stream.write(name)
    if (tunnel < TUNNELS) await Promise.all([pour(stream, tunnel, 2), drink(stream, tunnel, 1)])
    else {
      // Some break by themselves, some by their upstream.
      await once(stream, 'data')
      if (tunnel % 2 === 0) stream.resume().write('go')
      else stream.destroy()
      if (!stream.closed) await new Promise<void>((resolve) => stream.once('close', resolve))
    }
  }))
  expect(mistakes).toEqual([])
})
