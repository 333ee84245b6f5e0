import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { afterEach, describe, expect, it } from 'vitest'
import { WebSocket, WebSocketServer, type RawData } from 'ws'
import { gatewayTlsName } from '../../../protocol/certificates.ts'
import { GATEWAY, UID, ask, cleanUp, later, listen, openHttp1, openHttp2, readUntil, startGate, until, type Gate } from './gate-under-test.ts'

afterEach(cleanUp)

const file = (port: number, more = '') => `services: [{name: web, protocol: https, match: [web.test], upstream: http://127.0.0.1:${port}${more}}]\npolicies: [{name: staff, services: [web], tags: {all: [compliant]}, action: allow}]`

async function websocketGate() {
  const server = createServer((_request, response) => void response.writeHead(404).end('no such page'))
  const sockets = new WebSocketServer({ server, path: '/echo' })
  const seen: Record<string, unknown>[] = []
  sockets.on('connection', (socket, request) => {
    seen.push(request.headers)
    socket.on('message', (data: RawData, binary: boolean) => socket.send(data as Buffer, { binary }))
  })
  later(() => {
    for (const socket of sockets.clients) socket.terminate()
    sockets.close()
    server.closeAllConnections()
    server.close()
  })
  const port = await listen(server)
  return { gate: await startGate(file(port)), sockets, seen, port }
}
const open = (gate: Gate, path = '/echo') => {
  const tls = { ca: gate.authority.certificatePem, servername: gatewayTlsName(GATEWAY), cert: gate.browser.cert, key: gate.browser.key }
  const socket = new WebSocket(`wss://127.0.0.1:${gate.proxy.port}${path}`, { headers: { 'host': 'web.test', 'sallyport-device-id': 'forged' }, ...tls })
  later(() => socket.terminate())
  return socket
}

describe('a websocket', () => {
  it('passes, message by message, with the device named by the gateway', async () => {
    const { gate, seen } = await websocketGate()
    const socket = open(gate)
    await once(socket, 'open')
    for (const text of ['one', 'x'.repeat(200_000)]) {
      const answered = once(socket, 'message')
      socket.send(text)
      expect(String((await answered)[0])).toBe(text)
    }
    expect(seen[0]).toMatchObject({ 'sallyport-device-id': UID, 'upgrade': 'websocket' })
    const closed = once(socket, 'close')
    socket.close(4000, 'done')
    expect((await closed)[0]).toBe(4000)
    await until(async () => (await gate.metrics.text()).includes('sallyport_open_sessions 0'))
  })
  it('is cut when the device loses its tag', async () => {
    const { gate, sockets } = await websocketGate()
    const socket = open(gate)
    await once(socket, 'open')
    const closed = once(socket, 'close')
    gate.putTags([])
    expect((await closed)[0]).toBe(1006)
    await until(() => sockets.clients.size === 0)
  })
  it('ends when the upstream breaks, and frees its place', async () => {
    const { gate, sockets } = await websocketGate()
    const socket = open(gate)
    await once(socket, 'open')
    const closed = once(socket, 'close')
    for (const each of sockets.clients) each.terminate()
    await closed
    await until(async () => (await gate.metrics.text()).includes('sallyport_open_sessions 0'))
  })
  it('is refused with the reason, and the upstream may refuse it too', async () => {
    const { gate } = await websocketGate()
    const refusedBy = async (path: string) => {
      const socket = open(gate, path)
      socket.on('error', () => socket.terminate())
      const [, response] = await once(socket, 'unexpected-response') as [unknown, NodeJS.ReadableStream & { statusCode: number }]
      return { status: response.statusCode, body: await readUntil(response, path === '/echo' ? '}' : '') }
    }
    expect(await refusedBy('/other')).toMatchObject({ status: 400 })
    gate.putTags([])
    expect(await refusedBy('/echo')).toMatchObject({ status: 403, body: expect.stringContaining('tag-missing') as string })
    await until(async () => (await gate.metrics.text()).includes('sallyport_open_sessions 0'))
  })
  it('and a request for any other protocol is answered as if it had not asked', async () => {
    const { gate } = await websocketGate()
    const socket = await openHttp1(gate, gate.browser)
    const read = readUntil(socket, 'no such page')
    socket.write('GET / HTTP/1.1\r\nHost: web.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n')
    expect(await read).toMatch(/^HTTP\/1.1 404 /)
  })
})

describe('a stream of events', () => {
  async function events() {
    const open: ServerResponse[] = []
    const server = createServer((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.flushHeaders()
      open.push(response)
    })
    later(() => {
      server.closeAllConnections()
      server.close()
    })
    return { gate: await startGate(file(await listen(server))), open }
  }
  it('begins before its first event, and each event is passed on at once, over both protocols', async () => {
    const { gate, open } = await events()
    const { status, stream } = await ask(openHttp2(gate, gate.browser), { ':method': 'GET', ':path': '/', ':authority': 'web.test', ':scheme': 'https' })
    expect(status).toBe(200)
    const socket = await openHttp1(gate, gate.browser)
    const head = readUntil(socket, '\r\n\r\n')
    socket.write('GET / HTTP/1.1\r\nHost: web.test\r\n\r\n')
    expect(await head).toMatch(/text\/event-stream/)
    for (const from of [stream, socket]) {
      for (const event of ['data: 1\n\n', 'data: 2\n\n']) {
        const read = readUntil(from, event)
        for (const response of open) response.write(event)
        await read
      }
    }
  })
  it('is cut, and the upstream learns that nobody listens', async () => {
    const { gate, open } = await events()
    const { stream } = await ask(openHttp2(gate, gate.browser), { ':method': 'GET', ':path': '/', ':authority': 'web.test', ':scheme': 'https' })
    const gone = once(open[0] as ServerResponse, 'close')
    gate.putTags([])
    await gone
    await until(() => stream.closed)
    expect(stream.rstCode).not.toBe(0)
  })
  it('lets the upstream go when the client has gone', async () => {
    const { gate, open } = await events()
    const { stream } = await ask(openHttp2(gate, gate.browser), { ':method': 'GET', ':path': '/', ':authority': 'web.test', ':scheme': 'https' })
    const gone = once(open[0] as ServerResponse, 'close')
    stream.close(8)
    await gone
    await until(async () => (await gate.metrics.text()).includes('sallyport_open_sessions 0'))
  })
})
