// What stands between a gateway and its EMS: it passes everything on, until it is told to lose, double, delay or swap what comes down the websocket, to fall silent, to be away, or to take upgrades away, as some proxies do, with an answer or without.
import { createServer, request as httpsRequest } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { WebSocket, WebSocketServer, type RawData } from 'ws'

export type Weather = 'fair' | 'lost' | 'doubled' | 'delayed' | 'swapped' | 'silent' | 'away' | 'no-websocket' | 'upgrades-hang'

export interface Front {
  readonly port: number
  set(weather: Weather): void
  /** Where the EMS listens now. */
  lead(port: number): void
  close(): Promise<void>
}

const LONGEST_DELAY_MS = 400

/** @param onRequest told of each request that is no upgrade, by its path */
export async function startFront(tls: { certificatePem: string; privateKeyPem: string; caPem: string }, random: () => number, onRequest: (path: string) => void = () => {}): Promise<Front> {
  let weather: Weather = 'fair'
  let upstream = 0
  const sockets = new Set<Socket>()
  const waiting: (() => void)[] = []
  const hanging: Socket[] = []
  const agentless = { ca: tls.caPem, agent: false as const }
  const server = createServer({ cert: tls.certificatePem, key: tls.privateKeyPem }, (request, response) => {
    // The network holds what was sent into it, and delivers it when it can.
    if (weather === 'silent') waiting.push(() => serve(request, response))
    else serve(request, response)
  })
  const serve = (request: IncomingMessage, response: ServerResponse) => {
    onRequest(request.url ?? '')
    const asked = httpsRequest({ ...agentless, host: '127.0.0.1', servername: 'localhost', port: upstream, method: request.method, path: request.url, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(response)
    })
    asked.on('error', () => response.destroy())
    request.pipe(asked)
  }
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    socket.once('close', () => sockets.delete(socket))
    if (weather === 'away') socket.destroy()
  })
  // Half-open connections must not be ended by this server's own patience.
  server.requestTimeout = 0
  const accepting = new WebSocketServer({ noServer: true })
  const open = new Set<WebSocket>()

  function pass(from: WebSocket, to: WebSocket): (data: RawData, binary: boolean) => void {
    let kept: string | null = null
    const send = (text: string) => { if (to.readyState === WebSocket.OPEN) to.send(text) }
    return (data, binary) => {
      const text = (data as Buffer).toString('utf8')
      if (binary || weather === 'silent') return
      // Only what tells of changes: a socket that can't even open is another fault.
      const notice = text.includes('"type":"changed"') || text.includes('"type":"current"')
      if (!notice) return send(text)
      if (kept !== null) {
        const [first, second] = [text, kept]
        kept = null
        send(first)
        send(second)
      } else if (weather === 'lost') return
      else if (weather === 'doubled') [text, text].forEach(send)
      else if (weather === 'delayed') setTimeout(() => send(text), random() * LONGEST_DELAY_MS)
      else if (weather === 'swapped') kept = text
      else send(text)
      if (from.readyState !== WebSocket.OPEN) to.close()
    }
  }

  /** Passed on without what makes it an upgrade: the EMS refuses it itself. */
  const withoutUpgrade = (request: IncomingMessage, socket: Socket) => {
    const headers = Object.fromEntries(Object.entries(request.headers).filter(([name]) => name !== 'connection' && name !== 'upgrade' && !name.startsWith('sec-websocket-')))
    const asked = httpsRequest({ ...agentless, host: '127.0.0.1', servername: 'localhost', port: upstream, method: request.method, path: request.url, headers }, (answer) => {
      socket.write(`HTTP/1.1 ${answer.statusCode ?? 502} Refused\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n`)
      answer.pipe(socket)
    })
    asked.on('error', () => socket.destroy())
    asked.end()
  }
  const upgrade = (request: IncomingMessage, socket: Socket, head: Buffer) => {
    if (weather === 'no-websocket') return withoutUpgrade(request, socket)
    if (weather === 'upgrades-hang') return void hanging.push(socket)
    const { connection: _c, upgrade: _u, 'sec-websocket-key': _k, 'sec-websocket-version': _v, 'sec-websocket-extensions': _e, 'sec-websocket-protocol': protocol, ...headers } = request.headers
    const up = new WebSocket(`wss://localhost:${upstream}${request.url ?? ''}`, protocol, { headers: headers as Record<string, string>, ca: tls.caPem, perMessageDeflate: false })
    up.on('error', () => socket.destroy())
    up.on('unexpected-response', (_, response) => {
      socket.write(`HTTP/1.1 ${response.statusCode ?? 502} Refused\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n`)
      response.pipe(socket)
    })
    const early: [RawData, boolean][] = []
    const hold = (data: RawData, binary: boolean) => { early.push([data, binary]) }
    up.on('message', hold)
    up.on('open', () => accepting.handleUpgrade(request, socket, head, (down) => {
      open.add(down)
      const downward = pass(up, down)
      up.off('message', hold)
      for (const [data, binary] of early) downward(data, binary)
      up.on('message', downward)
      down.on('message', (data: RawData) => { if (weather !== 'silent' && up.readyState === WebSocket.OPEN) up.send((data as Buffer).toString('utf8')) })
      down.on('error', () => down.terminate())
      down.on('close', () => {
        open.delete(down)
        up.close()
      })
      up.on('close', () => { if (weather !== 'silent') down.close() })
    }))
  }
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    if (weather === 'silent') waiting.push(() => upgrade(request, socket, head))
    else upgrade(request, socket, head)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    lead(port) { upstream = port },
    set(next) {
      weather = next
      for (const socket of hanging.splice(0)) socket.destroy()
      if (next !== 'silent') for (const go of waiting.splice(0)) go()
      if (next === 'away') for (const socket of sockets) socket.destroy()
      if (next === 'no-websocket' || next === 'upgrades-hang') for (const socket of open) socket.terminate()
    },
    async close() {
      for (const socket of open) socket.terminate()
      const closed = new Promise((resolve) => server.close(resolve))
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}
