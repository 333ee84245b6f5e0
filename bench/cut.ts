// How long a session lives on after the snapshot that forbids it: 10,000 open tunnels, a gate in a process of its own, the client's clock at the other end.
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAuthority } from '../identity/authority.ts'
import { gatewayTlsName } from '../protocol/certificates.ts'
import { alone, percentile, table, type Figure, type Progress } from './figures.ts'
import { issue } from './issue.ts'
import type { FromGate, GateSetting, ToGate } from './cut-gate.ts'
import { within } from './within.ts'

const BENCH = 'cut'
const SERIAL = 'SPGW0123456789AB'
/** One HTTP/2 connection a device, as an agent holds. */
const DEVICES = 200

/** A service that holds what connects to it, and tells when so many connections have been closed since it was asked. */
async function startService(): Promise<{ port: number; closed(count: number): Promise<number[]>; close(): void }> {
  const sockets = new Set<Socket>()
  let waiting: { readonly count: number; readonly ends: number[]; readonly done: (ends: number[]) => void } | null = null
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    socket.once('close', () => {
      sockets.delete(socket)
      if (waiting === null) return
      waiting.ends.push(now())
      if (waiting.ends.length === waiting.count) waiting.done(waiting.ends)
    })
    socket.resume()
  })
  server.listen({ port: 0, host: '127.0.0.1', backlog: 4_096 })
  await once(server, 'listening')
  return { port: (server.address() as AddressInfo).port, closed(count) {
    const { promise, resolve } = Promise.withResolvers<number[]>()
    waiting = { count, ends: [], done: resolve }
    return promise
  }, close() {
    for (const socket of sockets) socket.destroy()
    server.close()
  } }
}

const now = (): number => Number(process.hrtime.bigint()) / 1e6
const say = (gate: ChildProcess, message: ToGate) => gate.send(message)
async function heard<E extends FromGate['event']>(gate: ChildProcess, event: E): Promise<Extract<FromGate, { event: E }>> {
  for (;;) {
    const [message] = await within(`"${event}" of the gate`, once(gate, 'message')) as [FromGate]
    if (message.event === event) return message as Extract<FromGate, { event: E }>
  }
}

async function openTunnel(session: ClientHttp2Session, port: number): Promise<ClientHttp2Stream> {
  const stream = session.request({ ':method': 'CONNECT', ':authority': `127.0.0.1:${port}` }, { endStream: false })
  stream.on('error', () => stream.destroy())
  const [head] = await within('a tunnel', once(stream, 'response')) as [{ ':status': number }]
  if (head[':status'] !== 200) throw new Error(`a tunnel was refused with ${head[':status']}`)
  stream.resume()
  return stream
}

/** Cuts one device after the other, then opens everything again and cuts all at once. */
export async function benchCut({ tunnels = 10_000, progress }: { tunnels?: number; progress: Progress }): Promise<Figure[]> {
  const directory = await mkdtemp(join(tmpdir(), 'cut-'))
  const service = await startService()
  const authority = await createAuthority({ name: 'Benchmark CA', now: Date.now() })
  const devices = await Promise.all(Array.from({ length: DEVICES }, async (_, n) => {
    const uid = n.toString(16).padStart(32, '0')
    return { uid, ...await issue(authority, uid, 'agent') }
  }))
  const own = await issue(authority, SERIAL, 'gateway')
  const gate = fork(new URL('cut-gate.ts', import.meta.url), { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  const connections: ClientHttp2Session[] = []
  try {
    const setting: GateSetting = { directory, serial: SERIAL, authority: authority.certificatePem, own: { certPem: own.cert, keyPem: own.key }, port: service.port, devices: devices.map(({ uid, serial, notAfter }) => ({ uid, serial, notAfter })) }
    say(gate, { do: 'start', setting })
    const { port } = await heard(gate, 'listening')
    for (const { cert, key } of devices) {
      const session = connect(`https://127.0.0.1:${port}`, { ca: authority.certificatePem, servername: gatewayTlsName(SERIAL), cert, key })
      session.on('error', () => session.destroy())
      connections.push(session)
    }
    const each = Math.ceil(tunnels / DEVICES)
    const open = async () => {
      const streams: ClientHttp2Stream[][] = []
      for (const session of connections) streams.push(await Promise.all(Array.from({ length: each }, () => openTunnel(session, service.port))))
      return streams
    }
    /** Takes the tag from devices and waits for the end of their tunnels. */
    const cut = async (streams: readonly ClientHttp2Stream[], uids: readonly string[], into: { readonly told: number[]; readonly closed: number[] }) => {
      const told = streams.map(async (stream) => {
        const { promise, resolve } = Promise.withResolvers<number>()
        stream.once('trailers', () => resolve(now()))
        stream.once('close', () => resolve(now()))
        const at = await within('the end of a tunnel', promise)
        stream.close()
        return at
      })
      const closed = within('the end of the connections behind tunnels', service.closed(streams.length))
      say(gate, { do: 'take', uids })
      const { at } = await heard(gate, 'applied')
      into.told.push(...(await Promise.all(told)).map((end) => end - at))
      into.closed.push(...(await closed).map((end) => end - at))
    }
    progress(`${BENCH}: opening ${each * DEVICES} tunnels`)
    const first = await open()
    const [single, all] = [{ told: [] as number[], closed: [] as number[] }, { told: [] as number[], closed: [] as number[] }]
    for (const [n, streams] of first.entries()) {
      await cut(streams, [devices[n]?.uid ?? ''], single)
      say(gate, { do: 'give', uids: [devices[n]?.uid ?? ''] })
      await heard(gate, 'applied')
      const session = connections[n]
      // All 10,000 are open whenever one device is cut.
      if (session !== undefined) first[n] = await Promise.all(streams.map(() => openTunnel(session, service.port)))
    }
    progress(`${BENCH}: all at once`)
    await cut(first.flat(), devices.map(({ uid }) => uid), all)
    const figures = (what: string, { told, closed }: typeof single) => ([['client-told', told], ['upstream-closed', closed]] as const).flatMap(([end, samples]) =>
      [0.5, 0.99].map((share) => alone(BENCH, `applied-to-${end}-${what}-http2-p${share * 100}`, 'ms', percentile(samples, share))))
    return [alone(BENCH, 'open-tunnels-http2', 'tunnels', first.flat().length), ...figures('one-device', single), ...figures('all-devices', all)]
  } finally {
    for (const session of connections) session.destroy()
    service.close()
    gate.kill()
    await rm(directory, { recursive: true, force: true })
  }
}

if (import.meta.main) {
  const figures = await benchCut({ progress: (sentence) => process.stderr.write(`${sentence}\n`) })
  process.stdout.write(process.argv.includes('--json') ? figures.map((figure) => `${JSON.stringify(figure)}\n`).join('') : table(figures))
}
