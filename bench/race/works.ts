// The works of the race: each does so many units through one proxy and resolves when they are done. What the proxy spent on them is read by gateway.ts.
import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import { percentile } from '../figures.ts'
import { within } from '../within.ts'
import type { Client, Way } from './clients.ts'
import { HTTP_HOST } from './gate.ts'
import { BODY, ORDER_BYTES, orders } from './source.ts'

const LONG_MS = 120_000
const GIB = 2 ** 30

function order(kind: number, bytes: number): Buffer {
  const told = Buffer.alloc(ORDER_BYTES)
  told[0] = kind
  told.writeBigUInt64BE(BigInt(bytes), 1)
  return told
}

async function echoOnce(tunnel: Duplex): Promise<void> {
  tunnel.write(Buffer.from([orders.echo, 1]))
  await within('an echo', once(tunnel, 'data'))
}

/** Runs `count` turns, so many at a time. */
async function inFlight(count: number, atOnce: number, turn: () => Promise<void>): Promise<void> {
  let left = count
  await Promise.all(Array.from({ length: atOnce }, async () => {
    while (left-- > 0) await turn()
  }))
}

async function down(tunnel: Duplex, bytes: number): Promise<void> {
  let left = bytes
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  tunnel.on('data', (chunk: Uint8Array) => {
    left -= chunk.length
    if (left === 0) resolve()
  })
  tunnel.once('close', () => reject(new Error(`a download ended ${left} bytes early`)))
  tunnel.write(order(orders.down, bytes))
  await within('a download', promise, LONG_MS)
}

const CHUNK = Buffer.alloc(65_536, 'x')
async function up(tunnel: Duplex, bytes: number): Promise<void> {
  const done = once(tunnel, 'data')
  tunnel.write(order(orders.up, bytes))
  for (let left = bytes; left > 0; left -= CHUNK.length) if (!tunnel.write(left >= CHUNK.length ? CHUNK : CHUNK.subarray(0, left))) await within('room to write', once(tunnel, 'drain'), LONG_MS)
  await within('the end of an upload', done, LONG_MS)
}

async function streams(client: Client, way: Way, count: number, bytes: number, carry: typeof down): Promise<void> {
  // Many streams of one agent share its HTTP/2 connection; by other ways each has its own.
  const session = way === 'http2' && count > 1 ? await client.session() : null
  const opened = await Promise.all(Array.from({ length: count }, () => (session === null ? client.tunnel(way) : client.stream(session))))
  await Promise.all(opened.map((tunnel) => carry(tunnel, bytes)))
  for (const tunnel of opened) tunnel.destroy()
  session?.destroy()
}

const REQUEST = `GET /hello HTTP/1.1\r\nHost: ${HTTP_HOST}\r\nAccept: */*\r\n\r\n`
async function request(socket: TLSSocket): Promise<void> {
  let text = ''
  const { promise, resolve } = Promise.withResolvers<void>()
  const read = (chunk: Buffer) => {
    text += chunk.toString('latin1')
    if (text.endsWith(BODY)) resolve()
  }
  socket.on('data', read)
  socket.write(REQUEST)
  await within('an answer', promise)
  socket.off('data', read)
  if (!text.startsWith('HTTP/1.1 200')) throw new Error(`a request was refused: ${text.split('\r\n')[0] ?? ''}`)
}

export interface Work {
  /** With protocol and direction. */
  readonly name: string
  readonly unit: string
  /** How ours is asked; a peer's tunnel needs no asking. */
  readonly way: Way
  readonly over: 'tcp' | 'https'
  /** Units of work done, and what was measured by the client instead of by CPU. */
  run(client: Client, way: Way): Promise<{ readonly units: number; readonly latencies?: readonly number[] }>
  /** Peers do the work of this name in the same round, where theirs is another one. */
  readonly against?: string
  /** The most that ours may be of the best peer's. */
  readonly goal: number
  /** Rounds before the first that counts; 1 unless said. The just-in-time compiler is done with a path after some ten thousand turns. */
  readonly warmUps?: number
  /** The most that ours may be in `unit`. */
  readonly valueGoal?: number
}

const HANDSHAKES = 600
const handshakes = (resumed: boolean): Work['run'] => async (client, way) => {
  await inFlight(HANDSHAKES, 16, async () => {
    const tunnel = await client.tunnel(way, resumed)
    await echoOnce(tunnel)
    tunnel.destroy()
  })
  return { units: HANDSHAKES }
}
const carried = (count: number, bytes: number, carry: typeof down): Work['run'] => async (client, way) => {
  await streams(client, way, count, bytes, carry)
  return { units: count * bytes / GIB }
}
const ONE = 192 << 20
const MANY = 8 << 20
const byBytes = (direction: 'down' | 'up', count: number, goals: { http1: number; http2: number }): Work[] => (['http1', 'framed', 'http2'] as const).map((way) => ({
  name: `${count === 1 ? 'one-stream' : `${count}-streams`}-${direction}-${way === 'framed' ? 'http1-framed' : way}`, unit: 'CPU-s/GiB', way, over: 'tcp', goal: goals[way === 'framed' ? 'http1' : way], warmUps: 3,
  run: carried(count, count === 1 ? ONE : MANY, direction === 'down' ? down : up),
}))

const ROUND_TRIPS = 1_000
const latency = (way: Way): Work['run'] => async (client, by) => {
  const tunnel = await client.tunnel(by === 'tls' ? 'tls' : way)
  await echoOnce(tunnel)
  const latencies: number[] = []
  for (let n = 0; n < ROUND_TRIPS; n++) {
    const before = performance.now()
    tunnel.write('x')
    await within('an echo', once(tunnel, 'data'))
    latencies.push(performance.now() - before)
  }
  tunnel.destroy()
  return { units: ROUND_TRIPS, latencies }
}

export const works: readonly Work[] = [
  { name: 'new-connection-full-http1', unit: 'CPU µs', way: 'http1', over: 'tcp', goal: 0.95, warmUps: 4, run: handshakes(false) },
  { name: 'new-connection-resumed-http1', unit: 'CPU µs', way: 'http1', over: 'tcp', goal: 0.85, warmUps: 4, run: handshakes(true) },
  {
    name: 'new-tunnel-on-open-connection-http2', unit: 'CPU µs', way: 'http2', over: 'tcp', against: 'new-connection-full-http1', goal: 0.1, valueGoal: 150, warmUps: 4,
    async run(client) {
      const session = await client.session()
      await inFlight(3_000, 16, async () => {
        const tunnel = await client.stream(session)
        await echoOnce(tunnel)
        // As an agent ends it: a reset would count against the client (the gateway bounds how often it takes one).
        const closed = once(tunnel, 'close')
        tunnel.end()
        tunnel.resume()
        await within('the end of a tunnel', closed)
      })
      session.destroy()
      return { units: 3_000 }
    },
  },
  ...byBytes('down', 1, { http1: 1, http2: 1 }), ...byBytes('up', 1, { http1: 1.4, http2: 1.8 }),
  ...byBytes('down', 32, { http1: 1.05, http2: 1.05 }), ...byBytes('up', 32, { http1: 1.6, http2: 3 }),
  {
    name: 'small-requests-https', unit: 'CPU µs', way: 'tls', over: 'https', goal: 3, warmUps: 4,
    async run(client) {
      const sockets = await Promise.all(Array.from({ length: 64 }, () => client.connection(false)))
      await Promise.all(sockets.map(async (socket) => {
        for (let n = 0; n < 60; n++) await request(socket)
        socket.destroy()
      }))
      return { units: 64 * 60 }
    },
  },
  { name: 'round-trip-http1', unit: 'ms', way: 'http1', over: 'tcp', goal: 1.1, run: latency('http1') },
  { name: 'round-trip-http2', unit: 'ms', way: 'http2', over: 'tcp', goal: 1.1, run: latency('http2') },
]

/** The goal of a work's p99, where it is measured by latency. */
export const P99_GOAL = 1.5
export const p50 = (samples: readonly number[]): number => percentile(samples, 0.5)
export const p99 = (samples: readonly number[]): number => percentile(samples, 0.99)

/** Opens tunnels that then say nothing. */
export async function idleTunnels(client: Client, way: Way, count: number): Promise<() => void> {
  const open: { destroy(): unknown }[] = []
  if (way === 'http2') {
    const perSession = 100
    for (let n = 0; n < count / perSession; n++) {
      const session = await client.session()
      open.push(session)
      await inFlight(perSession, 16, async () => void (await client.stream(session)))
    }
  } else await inFlight(count, 16, async () => void open.push(await client.tunnel(way)))
  return () => {
    for (const each of open) each.destroy()
  }
}
