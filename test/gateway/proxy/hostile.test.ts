import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect as connectHttp2 } from 'node:http2'
import { connect, createServer, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { afterEach, describe, expect, it } from 'vitest'
import type { ProxyOptions } from '../../../gateway/proxy/start.ts'
import { gatewayTlsName } from '../../../protocol/certificates.ts'
import { GATEWAY, OTHER, cleanUp, connectTo, issue, later, listen, openHttp1, openHttp2, readUntil, record, refused, startEcho, startGate, until, type Gate } from './gate-under-test.ts'
import { openFrames, sendRaw } from './http2-frames.ts'

afterEach(cleanUp)

const file = (port: number, more = '') => `${more}\nservices: [{name: ledger, protocol: tcp, match: [127.0.0.1], ports: [${port}], addresses: [127.0.0.1]}, {name: web, protocol: https, match: [web.test], upstream: http://127.0.0.1:${port}}]\npolicies: [{name: staff, services: [ledger, web], tags: {all: [compliant]}, action: allow}]`

/** A gate before an echo, and an honest device that keeps using it. */
async function besieged(limits: ProxyOptions['limits'] = {}, more = '') {
  const echo = await startEcho()
  later(echo.close)
  const gate = await startGate(file(echo.port, more), { limits })
  const { stream } = await connectTo(openHttp2(gate, gate.agent), `127.0.0.1:${echo.port}`)
  return { gate, echo, async honest() {
    const read = readUntil(stream, 'still')
    stream.write('still')
    await read
    const fresh = await connectTo(openHttp2(gate, gate.agent), `127.0.0.1:${echo.port}`)
    expect(fresh.status).toBe(200)
    fresh.stream.close()
  } }
}
function bare(gate: Gate): Socket {
  const socket = connect(gate.proxy.port, '127.0.0.1')
  socket.on('error', () => socket.destroy()).resume()
  later(() => socket.destroy())
  return socket
}
const nobody = (gate: Gate, ALPNProtocols: string[]) => {
  const socket = connectTls({ host: '127.0.0.1', port: gate.proxy.port, ca: gate.authority.certificatePem, servername: gatewayTlsName(GATEWAY), ALPNProtocols })
  socket.on('error', () => socket.destroy()).resume()
  later(() => socket.destroy())
  return socket
}
const gauge = async (gate: Gate, name: string): Promise<number> => Number(new RegExp(`^${name} (\\d+)`, 'm').exec(await gate.metrics.text())?.[1] ?? -1)

describe('strangers', () => {
  it('who connect and say nothing are ended, and hold no more than their share; honest devices go on', async () => {
    const { gate, honest } = await besieged({ strangers: 50 })
    const sockets = Array.from({ length: 400 }, () => bare(gate))
    await until(() => sockets.filter((socket) => socket.closed).length >= 350)
    expect(await gauge(gate, 'sallyport_unproved_connections')).toBeLessThanOrEqual(50)
    await honest()
  })
  it('who connect and say nothing are ended in time', async () => {
    const { gate, honest } = await besieged({ handshakeMs: 2_000 })
    const sockets = Array.from({ length: 20 }, () => bare(gate))
    // Half a greeting, then nothing.
    for (const socket of sockets.slice(10)) socket.write(Buffer.from([22, 3, 1, 2, 0, 1, 0, 1]))
    await until(() => sockets.every((socket) => socket.closed))
    await honest()
  })
  it('who finish handshakes without a certificate hold no more than their share, over both protocols, and are ended in time', async () => {
    const { gate, honest } = await besieged({ strangers: 40, strangerMs: 300 })
    const sockets = Array.from({ length: 200 }, (_, n) => nobody(gate, [n % 2 === 0 ? 'h2' : 'http/1.1']))
    await until(() => sockets.filter((socket) => socket.closed).length >= 160)
    expect(await gauge(gate, 'sallyport_unproved_connections')).toBeLessThanOrEqual(40)
    await honest()
    await until(() => sockets.every((socket) => socket.closed))
    await until(async () => await gauge(gate, 'sallyport_unproved_connections') === 0)
  })
  it('who trickle bytes of HTTP/2 are ended all the same', async () => {
    const { gate, honest } = await besieged({ strangerMs: 300 })
    const session = connectHttp2(`https://127.0.0.1:${gate.proxy.port}`, { ca: gate.authority.certificatePem, servername: gatewayTlsName(GATEWAY) })
    session.on('error', () => session.destroy())
    const pinging = setInterval(() => {
      if (!session.destroyed) session.ping(() => {})
    }, 20)
    later(() => clearInterval(pinging))
    await until(() => session.destroyed)
    await honest()
  })
  it('stay, where something is open to them', async () => {
    const { gate } = await besieged({ strangerMs: 50 }, 'noCertificate: {mode: anonymous}')
    const socket = nobody(gate, ['http/1.1'])
    await once(socket, 'secureConnect')
    // Longer than strangers have elsewhere, by the gate's own account of a second one that is gone.
    const { gate: shut } = await besieged({ strangerMs: 50 })
    const other = nobody(shut, ['http/1.1'])
    await until(() => other.closed)
    expect(socket.closed).toBe(false)
  })
  it('cannot fill the log, nor write away what is kept of devices', async () => {
    const { gate, echo } = await besieged()
    const session = openHttp2(gate, null)
    for (let round = 0; round < 20; round++) {
      const { status, stream } = await connectTo(session, `127.0.0.1:${echo.port}`)
      expect(status).toBe(403)
      stream.close()
    }
    await gate.audit.close()
    expect(readFileSync(`${gate.directory}/strangers.jsonl`, 'utf8').trim().split('\n').filter((line) => line.includes('"no-certificate"'))).toHaveLength(20)
    expect(readFileSync(`${gate.directory}/decisions.jsonl`, 'utf8')).not.toContain('no-certificate')
  })
})

describe('a device', () => {
  it('gets so many connections and no more', async () => {
    const { gate } = await besieged({ perDevice: 5 })
    const sessions = Array.from({ length: 12 }, () => openHttp2(gate, gate.agent))
    await until(() => sessions.filter((session) => session.destroyed || session.closed).length >= 8)
    expect(sessions.filter((session) => !session.destroyed && !session.closed).length).toBeLessThanOrEqual(4)
  })
  it('gets so many sessions and no more, and others still get theirs', async () => {
    const { gate, echo } = await besieged({ sessionsPerDevice: 3 })
    const session = openHttp2(gate, gate.agent)
    const to = `127.0.0.1:${echo.port}`
    const streams = [await connectTo(session, to), await connectTo(session, to)]
    expect(streams.map(({ status }) => status)).toEqual([200, 200])
    expect(await refused(session, to)).toMatchObject({ reason: 'overloaded', status: 503 })
    const other = await issue(gate.authority, OTHER, 'agent')
    gate.change({ endpoints: new Map([[OTHER, record(OTHER, [other])]]) })
    expect((await connectTo(openHttp2(gate, other), to)).status).toBe(200)
    streams[0]?.stream.close()
    await until(async () => (await connectTo(session, to)).status === 200)
  })
  it('that trickles the head of a request is ended in time', async () => {
    const { gate, honest } = await besieged({ headersMs: 300 })
    const sockets = await Promise.all(Array.from({ length: 10 }, () => openHttp1(gate, gate.browser)))
    const trickling = setInterval(() => {
      for (const socket of sockets) if (!socket.destroyed) socket.write('x')
    }, 20)
    later(() => clearInterval(trickling))
    for (const socket of sockets) socket.resume().write('GET / HTTP/1.1\r\nHost: web.test\r\nx-slow: ')
    await until(() => sockets.every((socket) => socket.closed))
    await honest()
  })
  it('that sends giant headers is refused over both protocols', async () => {
    const { gate, honest } = await besieged()
    for (const head of [`GET /${'x'.repeat(200_000)} HTTP/1.1\r\n`, `GET / HTTP/1.1\r\nHost: web.test\r\n${'a: b\r\n'.repeat(50_000)}`, `GET / HTTP/1.1\r\nHost: web.test\r\n${'x'.repeat(200_000)}`]) {
      const socket = await openHttp1(gate, gate.browser)
      socket.resume().write(head)
      await until(() => socket.closed)
    }
    const basic = [[':method', 'GET'], [':scheme', 'https'], [':authority', 'web.test'], [':path', '/']] as const
    expect(await sendRaw(await openFrames(gate, gate.browser), { fields: [...basic, ...Array.from({ length: 150 }, (_, n) => [`h${n}`, 'x'.repeat(100)] as const)] })).not.toBe('ok')
    await honest()
  })
  it('that resets at any moment leaves nothing behind', async () => {
    const { gate, echo, honest } = await besieged()
    for (let round = 0; round < 20; round++) {
      const socket = bare(gate)
      await once(socket, 'connect')
      if (round % 2 === 0) socket.write(Buffer.from([22, 3, 1, 0, 5]))
      socket.resetAndDestroy()
      const tls = await openHttp1(gate, gate.agent)
      tls.write(['', 'CONNECT 127', `CONNECT 127.0.0.1:${echo.port} HTTP/1.1\r\nHost: x\r\n\r\n`, 'POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 100\r\n\r\nx'][round % 4] ?? '')
      tls.destroy()
      const session = openHttp2(gate, gate.agent)
      const stream = session.request({ ':method': 'CONNECT', ':authority': `127.0.0.1:${echo.port}` }, { endStream: false })
      stream.on('error', () => stream.destroy())
      if (round % 2 === 0) await once(session, 'connect')
      session.destroy()
    }
    await honest()
    await until(async () => await gauge(gate, 'sallyport_open_sessions') === 1)
    await until(() => echo.sockets.size === 1)
  })
  it('that opens and resets streams as fast as it can does not stop the others', async () => {
    const { gate, echo, honest } = await besieged()
    const session = openHttp2(gate, gate.agent)
    await once(session, 'connect')
    for (let round = 0; round < 2_000 && !session.destroyed; round++) {
      const stream = session.request({ ':method': 'CONNECT', ':authority': `127.0.0.1:${echo.port}` }, { endStream: false })
      stream.on('error', () => stream.destroy())
      stream.close(8)
    }
    await honest()
    session.destroy()
    await until(() => echo.sockets.size <= 1)
  })
})

describe('a side that does not read', () => {
  /** A service that pours, and counts what it got rid of. */
  async function pouring() {
    const state = { written: 0, sockets: new Set<Socket>() }
    const server = createServer((socket) => {
      state.sockets.add(socket)
      socket.on('error', () => socket.destroy())
      const chunk = Buffer.alloc(65_536)
      const pour = () => {
        for (let more = true; more && !socket.destroyed;) {
          more = socket.write(chunk)
          state.written += chunk.length
        }
      }
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\ncontent-type: x/y\r\n\r\n')
        pour()
        socket.on('drain', pour)
      })
    })
    later(() => {
      for (const socket of state.sockets) socket.destroy()
      server.close()
    })
    return { state, port: await listen(server) }
  }
  /** Waits until a count no longer grows. */
  async function settled(count: () => number): Promise<number> {
    let [last, same] = [-1, 0]
    await until(() => {
      same = count() === last ? same + 1 : 0
      last = count()
      return same > 40
    })
    return last
  }
  const ways: Record<string, (gate: Gate, port: number) => Promise<unknown>> = {
    'a tunnel over HTTP/2': async (gate, port) => {
      const { stream } = await connectTo(openHttp2(gate, gate.agent), `127.0.0.1:${port}`)
      stream.pause()
      stream.write('go')
    },
    'a tunnel over HTTP/1.1': async (gate, port) => {
      const socket = await openHttp1(gate, gate.agent)
      const head = readUntil(socket, '\r\n\r\n')
      socket.write(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: x\r\n\r\n`)
      await head
      socket.pause()
      socket.write('go')
    },
    'an answer over HTTP/2': async (gate) => {
      const stream = openHttp2(gate, gate.browser).request({ ':method': 'GET', ':path': '/', ':authority': 'web.test', ':scheme': 'https' })
      await once(stream, 'response')
      stream.pause()
    },
    'an answer over HTTP/1.1': async (gate) => {
      const socket = await openHttp1(gate, gate.browser)
      socket.pause()
      socket.write('GET / HTTP/1.1\r\nHost: web.test\r\n\r\n')
    },
  }
  for (const [name, open] of Object.entries(ways)) {
    it(`holds up the other: ${name}`, async () => {
      const { state, port } = await pouring()
      const gate = await startGate(file(port))
      await open(gate, port)
      await until(() => state.written > 0)
      // Sockets of the kernel, windows of HTTP/2 and a little of ours: no more, however long it lasts.
      expect(await settled(() => state.written)).toBeLessThan(40 << 20)
    })
  }
  it('holds up an upload', async () => {
    const server = createServer((socket) => {
      socket.on('error', () => socket.destroy())
      socket.pause()
      later(() => socket.destroy())
    })
    later(() => server.close())
    const gate = await startGate(file(await listen(server)))
    for (const headers of [{ ':method': 'POST', ':path': '/', ':authority': 'web.test', ':scheme': 'https' }, { ':method': 'CONNECT', ':authority': `127.0.0.1:${(server.address() as { port: number }).port}` }]) {
      const stream = openHttp2(gate, headers[':method'] === 'POST' ? gate.browser : gate.agent).request(headers, { endStream: false })
      stream.on('error', () => stream.destroy())
      if (headers[':method'] === 'CONNECT') await once(stream, 'response')
      let written = 0
      const chunk = Buffer.alloc(65_536)
      const pour = () => {
        for (let more = true; more && !stream.destroyed; written += chunk.length) more = stream.write(chunk)
      }
      stream.on('drain', pour)
      pour()
      expect(await settled(() => written)).toBeLessThan(40 << 20)
    }
  })
})
