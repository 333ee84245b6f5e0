import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { cleanUp, connectTo, later, openHttp1, openHttp2, readUntil, refused, startEcho, startGate, until, type Gate } from './gate-under-test.ts'

afterEach(cleanUp)

const file = (services: string) => `services: [${services}]\npolicies: [{name: staff, services: [s], tags: {all: [compliant]}, action: allow}]`
const service = (port: number | string, more = '') => file(`{name: s, protocol: tcp, match: [127.0.0.1, "::1", deep.test], ports: [${port}], addresses: [127.0.0.1, "::1"]${more}}`)

async function upgraded(gate: Gate, query: string, token = 'tcp-forwarding/1.0') {
  const socket = await openHttp1(gate, gate.agent)
  const head = readUntil(socket, '\r\n\r\n')
  socket.write(`GET /tcp?${query} HTTP/1.1\r\nHost: gateway.test\r\nConnection: Upgrade\r\nUpgrade: ${token}\r\n\r\n`)
  return { socket, head: await head }
}

describe('a tunnel asked for by an upgrade', () => {
  it('is opened with 101 and carries bytes both ways', async () => {
    const echo = await startEcho()
    later(echo.close)
    const gate = await startGate(service(echo.port))
    for (const query of [`address=127.0.0.1&port=${echo.port}&tls=0`, `address=127.0.0.1&port=${echo.port}&tls=1`, `address=127.0.0.1&port=${echo.port}`]) {
      const { socket, head } = await upgraded(gate, query)
      expect(head).toMatch(/^HTTP\/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: tcp-forwarding\/1.0\r\nsallyport-session: D[0-9A-Z-]+\r\n\r\n$/)
      const read = readUntil(socket, 'hello')
      socket.write('hello')
      await read
      const bye = readUntil(socket, 'bye')
      socket.end()
      await bye
    }
  })
  it('carries what came right behind the request', async () => {
    const echo = await startEcho()
    later(echo.close)
    const gate = await startGate(service(echo.port))
    const socket = await openHttp1(gate, gate.agent)
    const read = readUntil(socket, 'early')
    socket.write(`GET /tcp?address=127.0.0.1&port=${echo.port}&tls=1 HTTP/1.1\r\nHost: gateway.test\r\nConnection: Upgrade\r\nUpgrade: tcp-forwarding/1.0\r\n\r\nearly`)
    expect(await read).toMatch(/^HTTP\/1.1 101 /)
  })
  it('is refused with the reason, cut like any other, and opens nothing when it is not well formed', async () => {
    const echo = await startEcho()
    later(echo.close)
    const gate = await startGate(service(echo.port))
    const { socket } = await upgraded(gate, `address=127.0.0.1&port=${echo.port}&tls=1`)
    gate.putTags([])
    await until(() => socket.closed && echo.sockets.size === 0)
    expect((await upgraded(gate, `address=127.0.0.1&port=${echo.port}&tls=1`)).head).toMatch(/^HTTP\/1.1 403 /)
    gate.putTags(['11111111-1111-4111-8111-111111111111'])
    for (const query of [`address=127.0.0.1&port=${echo.port}&tls=2`, `address=127.0.0.1&port=x`, `address=127.0.0.1`, `port=${echo.port}`, `address=127.0.0.1&address=127.0.0.2&port=${echo.port}`, `address=127.0.0.1:${echo.port}`, `address=127.0.0.1%0d%0ax&port=${echo.port}`]) {
      expect((await upgraded(gate, query)).head, query).toMatch(/^HTTP\/1.1 403 /)
    }
    expect(echo.sockets.size).toBe(0)
    // A browser's certificate opens no tunnel by this way either.
    const browser = await openHttp1(gate, gate.browser)
    const read = readUntil(browser, '}')
    browser.write(`GET /tcp?address=127.0.0.1&port=${echo.port}&tls=1 HTTP/1.1\r\nHost: gateway.test\r\nConnection: Upgrade\r\nUpgrade: tcp-forwarding/1.0\r\n\r\n`)
    expect(await read).toContain('certificate-wrong-purpose')
  })
})

describe('a destination', () => {
  it('may be an IPv6 address, by every form of asking', async () => {
    const server = createServer((socket) => {
      socket.on('error', () => socket.destroy())
      socket.pipe(socket)
    })
    server.listen(0, '::1')
    await once(server, 'listening')
    later(() => server.close())
    const { port } = server.address() as { port: number }
    const gate = await startGate(service(port))
    const { status, stream } = await connectTo(openHttp2(gate, gate.agent), `[::1]:${port}`)
    expect(status).toBe(200)
    const socket = await openHttp1(gate, gate.agent)
    const head = readUntil(socket, '\r\n\r\n')
    socket.write(`CONNECT [::1]:${port} HTTP/1.1\r\nHost: [::1]:${port}\r\n\r\n`)
    expect(await head).toMatch(/^HTTP\/1.1 200 /)
    const other = await upgraded(gate, `address=::1&port=${port}&tls=1`)
    expect(other.head).toMatch(/^HTTP\/1.1 101 /)
    for (const each of [stream, socket, other.socket]) {
      const read = readUntil(each, 'six')
      each.write('six')
      await read
    }
  })
  it('is within the ports that are declared', async () => {
    const echo = await startEcho()
    later(echo.close)
    const gate = await startGate(service(`"${echo.port - 1}-${echo.port}"`))
    const session = openHttp2(gate, gate.agent)
    expect((await connectTo(session, `127.0.0.1:${echo.port}`)).status).toBe(200)
    expect(await refused(session, `127.0.0.1:${echo.port + 1}`)).toMatchObject({ reason: 'service-unknown' })
  })
  it('of bulk is told to the agent in the answer, over both protocols', async () => {
    const echo = await startEcho()
    later(echo.close)
    const gate = await startGate(service(echo.port, ', traffic: bulk'))
    expect((await connectTo(openHttp2(gate, gate.agent), `127.0.0.1:${echo.port}`)).headers['sallyport-traffic']).toBe('bulk')
    const socket = await openHttp1(gate, gate.agent)
    const head = readUntil(socket, '\r\n\r\n')
    socket.write(`CONNECT 127.0.0.1:${echo.port} HTTP/1.1\r\nHost: x\r\n\r\n`)
    expect(await head).toMatch(/\r\nsallyport-traffic: bulk\r\n/)
    gate.putPolicies(service(echo.port))
    expect((await connectTo(openHttp2(gate, gate.agent), `127.0.0.1:${echo.port}`)).headers['sallyport-traffic']).toBeUndefined()
  })
})

describe('a direction ends by itself', () => {
  /** A service whose every socket the test holds. */
  async function held() {
    const taken = Promise.withResolvers<Socket>()
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => socket.destroy())
      later(() => socket.destroy())
      taken.resolve(socket)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    later(() => server.close())
    return { port: (server.address() as { port: number }).port, socket: taken.promise }
  }
  const ways = {
    'over HTTP/2': async (gate: Gate, port: number) => (await connectTo(openHttp2(gate, gate.agent), `127.0.0.1:${port}`)).stream,
    'over HTTP/1.1': async (gate: Gate, port: number) => {
      const socket = await openHttp1(gate, gate.agent)
      socket.allowHalfOpen = true
      const head = readUntil(socket, '\r\n\r\n')
      socket.write(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: x\r\n\r\n`)
      await head
      return socket
    },
    'by an upgrade': async (gate: Gate, port: number) => {
      const { socket } = await upgraded(gate, `address=127.0.0.1&port=${port}&tls=1`)
      socket.allowHalfOpen = true
      return socket
    },
  }
  for (const [name, open] of Object.entries(ways)) {
    it(`${name}, the client's first`, async () => {
      const ledger = await held()
      const gate = await startGate(service(ledger.port))
      const stream = await open(gate, ledger.port)
      const far = await ledger.socket
      const ended = once(far.resume(), 'end')
      stream.end('last')
      await ended
      const read = readUntil(stream, 'afterwards')
      far.write('afterwards')
      await read
      const over = once(stream, 'end')
      far.end()
      await over
      await until(async () => (await gate.metrics.text()).includes('sallyport_open_sessions 0'))
    })
    it(`${name}, the service's first`, async () => {
      const ledger = await held()
      const gate = await startGate(service(ledger.port))
      const stream = await open(gate, ledger.port)
      const far = await ledger.socket
      const ended = once(stream.resume(), 'end')
      far.end('last')
      await ended
      const read = readUntil(far, 'afterwards')
      stream.write('afterwards')
      await read
      stream.end()
      await until(async () => (await gate.metrics.text()).includes('sallyport_open_sessions 0'))
    })
  }
})
