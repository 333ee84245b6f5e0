// The HTTP proxy's dialect: CONNECT and absolute-form. Origin-form is refused whatever it asks for but the PAC file, so that a web page
// which rebinds its name to 127.0.0.1 gets nothing: browsers send the other forms only to a proxy that they were given.
import { createServer, request, type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { byteDuplex } from './byte-duplex.ts'
import { denialText } from './denial.ts'
import type { Opener, Outcome } from './opener.ts'
import type { Pac } from './pac.ts'
import { abandon, cut, splice } from './splice.ts'
import { canonicalHost, parseAuthority, type Target } from './target.ts'
import type { Timers } from '../../node/timers.ts'

const maxHeaderBytes = 32_768
const headersLimitMs = 15_000
const keepAliveMs = 60_000

/** Hop-by-hop fields (RFC 9110 §7.6.1) and those that only a proxy is told. Framing is set anew below. */
const hopByHop = new Set(['connection', 'proxy-connection', 'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'expect', 'host', 'proxy-authorization', 'proxy-authenticate'])

interface Answer { status: number; title: string; text: string; decision?: string | null }

const answerFor = (outcome: Exclude<Outcome, { kind: 'open' }>): Answer => (outcome.kind === 'refused'
  ? { status: 403, title: 'Forbidden', text: denialText(outcome.denial), decision: outcome.denial.decision }
  : { status: 502, title: 'Bad Gateway', text: `${outcome.message}\n` })

const answerHeaders = ({ text, decision }: Answer): Record<string, string> => ({
  'content-type': 'text/plain; charset=utf-8', 'x-content-type-options': 'nosniff', 'cache-control': 'no-store',
  'content-length': String(Buffer.byteLength(text)), connection: 'close', ...(decision ? { 'sallyport-decision': decision } : {}),
})

function answerRaw(socket: Socket, answer: Answer): void {
  if (!socket.writable) {
    socket.destroy()
    return
  }
  const lines = Object.entries(answerHeaders(answer)).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.end(`HTTP/1.1 ${answer.status} ${answer.title}\r\n${lines.join('')}\r\n${answer.text}`, () => socket.destroySoon())
  socket.resume()
}

const refuseForm: Answer = { status: 400, title: 'Bad Request', text: 'This is a proxy: it takes CONNECT and absolute-form requests (http://host/path) only.\n' }

/** End-to-end headers, without those that `Connection` names. */
function endToEnd(message: IncomingMessage): OutgoingHttpHeaders {
  const named = new Set((message.headers.connection ?? '').toLowerCase().split(',').map((name) => name.trim()))
  return Object.fromEntries(Object.entries(message.headersDistinct).filter(([name]) => !hopByHop.has(name) && !named.has(name)))
}

function absoluteTarget(text: string): { url: URL; target: Target } | null {
  if (!/^http:\/\//i.test(text) || !URL.canParse(text)) return null
  const url = new URL(text)
  const host = canonicalHost(url.hostname)
  return host === null || url.username !== '' || url.password !== '' ? null : { url, target: { host, port: Number(url.port || 80) } }
}

function givePac(response: ServerResponse, script: string): void {
  response.writeHead(200, { ...answerHeaders({ status: 200, title: 'OK', text: script }), 'content-type': 'application/x-ns-proxy-autoconfig', 'cross-origin-resource-policy': 'same-origin' }).end(script)
}

function abortWith(socket: Duplex | ServerResponse): AbortSignal {
  const controller = new AbortController()
  socket.once('close', () => controller.abort())
  return controller.signal
}

/** Passes one absolute-form request on; the answer's body is carried as it comes. */
async function forward(incoming: IncomingMessage, response: ServerResponse, open: Opener): Promise<void> {
  const parsed = absoluteTarget(incoming.url ?? '')
  if (!parsed) {
    response.writeHead(refuseForm.status, answerHeaders(refuseForm)).end(refuseForm.text)
    return
  }
  const { url, target } = parsed
  const outcome = await open(target, abortWith(response))
  if (response.destroyed) {
    if (outcome.kind === 'open') abandon(outcome.far)
    return
  }
  if (outcome.kind !== 'open') {
    const answer = answerFor(outcome)
    response.writeHead(answer.status, answerHeaders(answer)).end(answer.text)
    return
  }
  const { far } = outcome
  // A body without framing would be read upstream as a further request: what came chunked goes on chunked.
  const framing = incoming.headers['transfer-encoding'] === undefined ? {} : { 'transfer-encoding': 'chunked' }
  const upstream = request({
    createConnection: () => byteDuplex(far), method: incoming.method, path: `${url.pathname}${url.search}`, setHost: false,
    // The target decides, never the Host that was sent beside it (RFC 9112 §3.2.2).
    headers: { ...endToEnd(incoming), ...framing, host: url.host, connection: 'close' },
  })
  const fail = (why: string): void => {
    upstream.destroy()
    if (response.headersSent || response.destroyed) return cut(incoming.socket)
    const answer = answerFor({ kind: 'unreachable', why: 'failed', message: `${url.host} did not answer: ${why}.` })
    response.writeHead(answer.status, answerHeaders(answer)).end(answer.text)
  }
  upstream.on('response', (answer) => {
    try {
      // Without the origin's own reason phrase: Node reads control characters there and throws when they are to be written.
      response.writeHead(answer.statusCode ?? 502, endToEnd(answer))
    } catch (error) {
      // A status or a header that Node reads and does not write. Thrown from here, it would end the agent.
      return fail(`it says what is no HTTP (${error instanceof Error ? error.message : String(error)})`)
    }
    answer.on('error', () => cut(incoming.socket))
    answer.on('aborted', () => cut(incoming.socket))
    answer.pipe(response)
  })
  // Nobody asked to switch protocols: `Upgrade` goes no further than this proxy.
  upstream.on('upgrade', () => fail('it switched to another protocol'))
  upstream.on('error', (error) => fail(error.message))
  response.once('close', () => {
    upstream.destroy()
    far.destroy()
  })
  incoming.on('error', () => upstream.destroy())
  incoming.pipe(upstream)
}

async function tunnel(incoming: IncomingMessage, socket: Socket, head: Uint8Array, open: Opener): Promise<void> {
  const target = parseAuthority(incoming.url ?? '')
  if (!target) return answerRaw(socket, { ...refuseForm, text: 'CONNECT needs host:port.\n' })
  const outcome = await open(target, abortWith(socket))
  if (outcome.kind !== 'open') return answerRaw(socket, answerFor(outcome))
  socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
  splice(socket, outcome.far, head)
}

/**
 * Makes the HTTP side of the proxy.
 * @returns a function that serves one admitted, paused socket
 */
export function createHttpProxy({ open, pac, timers }: { open: Opener; pac?: Pac | undefined; timers: Timers }): (socket: Socket) => void {
  const deadlines = new WeakMap<Duplex, () => void>()
  // Node checks its own header time-outs only for servers that listen themselves; this one is handed its sockets.
  const expectHeaders = (socket: Duplex, limitMs: number) => {
    deadlines.get(socket)?.()
    deadlines.set(socket, timers.after(limitMs, () => socket.destroy()))
  }
  const server = createServer({ maxHeaderSize: maxHeaderBytes, keepAliveTimeout: keepAliveMs })
  server.on('request', (incoming, response) => {
    deadlines.get(incoming.socket)?.()
    response.once('finish', () => expectHeaders(incoming.socket, keepAliveMs + headersLimitMs))
    const script = pac?.answer(incoming) ?? null
    if (script !== null) givePac(response, script)
    else forward(incoming, response, open).catch(() => cut(incoming.socket))
  })
  server.on('connect', (incoming: IncomingMessage, stream: Duplex, head: Uint8Array) => {
    deadlines.get(stream)?.()
    const { socket } = incoming
    socket.on('error', () => socket.destroy())
    tunnel(incoming, socket, head, open).catch(() => cut(socket))
  })
  server.on('clientError', (_error, stream) => {
    if (stream.writable) stream.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n', () => stream.destroy())
    else stream.destroy()
  })
  return (socket) => {
    expectHeaders(socket, headersLimitMs)
    socket.once('close', () => deadlines.get(socket)?.())
    server.emit('connection', socket)
    socket.resume()
  }
}
