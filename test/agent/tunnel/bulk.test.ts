// Streams that carry much, through a real gate: which get a connection of their own, how each direction ends, and how they are cut.
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import type { TunnelOptions } from '../../../agent/tunnel/start.ts'
import { bulkBytes } from '../../../agent/tunnel/traffic.ts'
import { systemTimers } from '../../../node/timers.ts'
import { GATEWAY, cleanUp, heldClock, later, startEcho, startGate } from '../../gateway/proxy/gate-under-test.ts'
import { startTunnelTo } from './tunnel-and-gates.ts'
import { closeAll, eventually } from './tunnel-under-test.ts'
import { startWire } from './wire.ts'

afterEach(async () => {
  await closeAll()
  await cleanUp()
})

const policies = (port: number, more = '') => `
services: [{name: ledger, protocol: tcp, match: [127.0.0.1], ports: [${port}], addresses: [127.0.0.1]${more}}]
policies: [{name: staff, services: [ledger], tags: {all: [compliant]}, action: allow}]
`
const bulk = ', traffic: bulk'

/** A service whose sockets the test holds. */
async function held() {
  const sockets: Socket[] = []
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => socket.destroy())
    later(() => socket.destroy())
    sockets.push(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  later(() => server.close())
  return { port: (server.address() as { port: number }).port, sockets }
}
/** A tunnel to a gate over a wire on which its connections are seen. The first is the one for HTTP/2. */
async function scene(yaml: string, port: number, { limits, ...more }: Partial<TunnelOptions> & { limits?: Parameters<typeof startGate>[1] } = {}) {
  const gate = await startGate(yaml, limits)
  const wire = await startWire(() => gate.proxy.port)
  later(wire.close)
  const tunnel = await startTunnelTo([{ gate, serial: GATEWAY, port: wire.port }], '127.0.0.1', [port], more)
  const target = `127.0.0.1:${port}`
  return {
    gate, tunnel, target, wire,
    own: () => wire.open().slice(1),
    open: () => tunnel.open(target),
    /** Opens one stream by which the agent learns that the service carries much, and waits until two connections are ready. */
    async learn() {
      const first = await tunnel.open(target)
      expect(wire.open()).toHaveLength(1)
      await eventually(() => wire.open().length === 3 && tunnel.events.filter((event) => event === 'bulk_connection_ready').length === 2)
      return first
    },
  }
}
const speaks = async (client: { socket: Socket; body(): string }, word: string) => {
  client.socket.write(word)
  await eventually(() => client.body().endsWith(word))
}
describe('a service of bulk', () => {
  it('gets a connection of its own that was ready, resumed, while two others are made ready', async () => {
    const echo = await startEcho()
    later(echo.close)
    const at = await scene(policies(echo.port, bulk), echo.port)
    const shared = await at.learn()
    const own = await at.open()
    await speaks(own, 'of its own')
    await speaks(shared, 'shared')
    await eventually(() => at.own().length === 3 && at.tunnel.events.filter((event) => event === 'bulk_connection_ready').length === 3)
    // The first two were opened at once; whatever came later resumes.
    expect(await at.gate.metrics.text()).toMatch(/sallyport_tls_handshakes_total\{kind="resumed"\} 1\n/)
    own.socket.end()
    await own.closed
    await eventually(() => at.own().length === 2)
    expect(at.tunnel.denials).toEqual([])
  })

  it('carries many streams at once, each on its own, and the rest over HTTP/2 where there would be too many', async () => {
    const echo = await startEcho()
    later(echo.close)
    const at = await scene(policies(echo.port, bulk), echo.port)
    await at.learn()
    const clients = await Promise.all(Array.from({ length: 40 }, () => at.open()))
    await Promise.all(clients.map((client, index) => speaks(client, `client ${index}`)))
    expect(at.own().length).toBeLessThanOrEqual(32)
    expect(at.own().length).toBeGreaterThanOrEqual(30)
  })

  it('goes over HTTP/2 where the gate takes no further connection of this device', async () => {
    const echo = await startEcho()
    later(echo.close)
    const at = await scene(policies(echo.port, bulk), echo.port, { limits: { limits: { perDevice: 1 } } })
    await at.open()
    await eventually(() => at.tunnel.events.includes('bulk_connection_failed'))
    await speaks(await at.open(), 'all the same')
  })

  it('goes on by a fresh connection where the gate has ended those that were ready', async () => {
    const echo = await startEcho()
    later(echo.close)
    const at = await scene(policies(echo.port, bulk), echo.port)
    await at.learn()
    for (const socket of at.own()) socket.destroy()
    await speaks(await at.open(), 'none the wiser')
  })

  it('is refused with the reason, over its own connection too', async () => {
    const echo = await startEcho()
    later(echo.close)
    const at = await scene(policies(echo.port, bulk), echo.port)
    const shared = await at.learn()
    shared.socket.destroy()
    await eventually(() => echo.sockets.size === 0)
    at.gate.putTags([])
    expect(await at.tunnel.ask(at.target)).toMatch(/^HTTP\/1\.1 403 .*code 065, tag-missing, decision D/s)
    expect(at.tunnel.denials).toMatchObject([{ reason: 'tag-missing', code: '065', tags: ['compliant'] }])
  })

  it('loses and alters not a byte, both ways at once, and says at the end that it was all', async () => {
    const ledger = await held()
    const at = await scene(policies(ledger.port, bulk), ledger.port)
    await at.learn()
    const own = await at.open()
    await eventually(() => ledger.sockets.length === 2)
    const far = ledger.sockets[1]
    if (far === undefined) throw new Error('no socket')
    own.socket.removeAllListeners('data')
    const send = async (socket: Socket) => {
      const hash = createHash('sha256')
      for (let n = 0; n < 400; n += 1) {
        const piece = randomBytes(1 + (n * 7919) % 131_072)
        hash.update(piece)
        if (!socket.write(piece)) await once(socket, 'drain')
      }
      socket.end()
      return hash.digest('hex')
    }
    const receive = async (socket: Socket) => {
      const hash = createHash('sha256')
      for await (const piece of socket) hash.update(piece as Uint8Array)
      return hash.digest('hex')
    }
    const [up, down, gotUp, gotDown] = await Promise.all([send(own.socket), send(far), receive(far), receive(own.socket)])
    expect([gotUp, gotDown]).toEqual([up, down])
    expect(at.tunnel.denials).toEqual([])
  })

  it('ends each direction by itself: first the program, then the service; first the service, then the program', async () => {
    const ledger = await held()
    const at = await scene(policies(ledger.port, bulk), ledger.port)
    await at.learn()
    for (const first of ['program', 'service'] as const) {
      const before = ledger.sockets.length
      const client = await at.open()
      await eventually(() => ledger.sockets.length > before)
      const far = ledger.sockets[before]
      if (far === undefined) throw new Error('no socket')
      let got = ''
      far.on('data', (chunk) => {
        got += String(chunk)
      })
      const farEnded = once(far, 'end')
      if (first === 'program') {
        client.socket.end('question')
        await farEnded
        far.end('answer')
        await client.ended
      } else {
        far.end('answer')
        await client.ended
        client.socket.end('question')
        await farEnded
      }
      expect([got, client.body(), await client.closed]).toEqual(['question', 'answer', 'clean'])
    }
    expect(at.tunnel.denials).toEqual([])
  })

  it('that is quiet is cut with the reason and the decision on its own connection', async () => {
    const ledger = await held()
    const at = await scene(policies(ledger.port, bulk), ledger.port)
    const shared = await at.learn()
    shared.socket.destroy()
    const own = await at.open()
    await eventually(() => ledger.sockets.length === 2)
    ledger.sockets[1]?.write('half an ans')
    await eventually(() => own.body() === 'half an ans')
    // Nobody could be asked: HTTP/2 is gone.
    at.wire.open()[0]?.destroy()
    at.gate.putTags([])
    expect(await own.closed).toBe('reset')
    await eventually(() => at.tunnel.denials.length === 1)
    expect(await at.gate.audit.find(at.tunnel.denials[0]?.decision ?? '')).toMatchObject({ event: 'recheck', reason: 'tag-missing' })
  })

  it('is cut before the next byte, by a reset, and the reason is told with the decision that cut it', async () => {
    const ledger = await held()
    const at = await scene(policies(ledger.port, bulk), ledger.port)
    const shared = await at.learn()
    shared.socket.destroy()
    const own = await at.open()
    await eventually(() => ledger.sockets.length === 2)
    const [, far] = ledger.sockets
    far?.write('half an ans')
    await eventually(() => own.body() === 'half an ans')
    own.socket.pause()
    // Under way, in the gate's own buffers and in the kernel's, when the tag goes.
    for (let n = 0; n < 64; n += 1) far?.write(Buffer.alloc(1 << 20, 'x'))
    at.gate.putTags([])
    far?.write('after the cut')
    own.socket.resume()
    expect(await own.closed).toBe('reset')
    expect(own.body()).not.toContain('after the cut')
    await eventually(() => at.tunnel.denials.length === 1)
    const [denial] = at.tunnel.denials
    expect(denial).toMatchObject({ reason: 'tag-missing', code: '065', tags: ['compliant'], destination: `127.0.0.1:${ledger.port}` })
    expect(await at.gate.audit.find(denial?.decision ?? '')).toMatchObject({ event: 'recheck', reason: 'tag-missing' })
  })

  it('is reset for the program when the gate vanishes, and for the service when the program does', async () => {
    const ledger = await held()
    const at = await scene(policies(ledger.port, bulk), ledger.port)
    await at.learn()
    const [one, other] = [await at.open(), await at.open()]
    await eventually(() => ledger.sockets.length === 3)
    const broken = new Promise((resolve) => {
      ledger.sockets[1]?.resume().once('close', resolve)
    })
    one.socket.resetAndDestroy()
    expect(await broken).toBe(true)
    await at.gate.proxy.close()
    expect(await other.closed).toBe('reset')
  })
})

describe('a destination that nobody calls bulk', () => {
  it('is taken for it once it has carried much, until a stream of it carries little', async () => {
    const echo = await startEcho()
    later(echo.close)
    const at = await scene(policies(echo.port), echo.port)
    const large = await at.open()
    large.socket.write(Buffer.alloc(bulkBytes / 2 - 1))
    await eventually(() => large.received().length >= bulkBytes / 2 - 1)
    expect(at.own()).toHaveLength(0)
    large.socket.write('xx')
    await eventually(() => at.own().length === 2)
    large.socket.end()
    await large.closed
    const small = await at.open()
    await speaks(small, 'little')
    await eventually(() => at.own().length === 3)
    small.socket.end()
    await small.closed
    await eventually(() => at.own().length === 2)
    await speaks(await at.open(), 'over HTTP/2')
    expect(at.own()).toHaveLength(2)
  })
})

describe('connections that are kept ready', () => {
  it('are asked for something small now and then, and end when no such stream has come for two minutes', async () => {
    const echo = await startEcho()
    later(echo.close)
    // Of all timers, the looks at these connections alone are the test's.
    const clock = heldClock(Date.now())
    const timers = { after: (delayMs: number, action: () => void) => (delayMs === 40_000 ? clock : { timers: systemTimers }).timers.after(delayMs, action) }
    const at = await scene(policies(echo.port, bulk), echo.port, { timers })
    await at.learn()
    for (let look = 1; look <= 3; look += 1) {
      const before = at.own().map(({ bytesRead }) => bytesRead)
      clock.advance(40_000)
      // The answers have been read too: one that is still being asked is not asked again at the next look.
      await eventually(() => at.tunnel.events.filter((event) => event === 'bulk_connection_serves').length === 2 * look)
      expect(at.own().map(({ bytesRead }, index) => bytesRead > (before[index] ?? 0))).toEqual([true, true])
    }
    clock.advance(40_000)
    await eventually(() => at.own().length === 0)
  })
})
