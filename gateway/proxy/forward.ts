// One request to a declared HTTPS service: decided by itself, passed to the upstream, and cut like any other session.
import type { ClientRequest, IncomingMessage, ServerResponse } from 'node:http'
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2'
import type { Log } from '../../node/logging.ts'
import type { Decision, Reason } from '../../protocol/decisions.ts'
import { requestHeaders, responseHeaders } from './headers.ts'
import type { Judge, Question } from './judge.ts'
import { renderRefusal } from './refusal.ts'
import type { Resolver } from './resolve.ts'
import type { Sessions } from './sessions.ts'
import type { Timers } from './timers.ts'
import type { Upstreams } from './upstream.ts'

export type AnyRequest = IncomingMessage | Http2ServerRequest
export type AnyResponse = ServerResponse | Http2ServerResponse
type Write = (chunk: Uint8Array) => boolean

export interface ForwardOptions {
  readonly judge: Judge; readonly sessions: Sessions; readonly resolver: Resolver; readonly upstreams: Upstreams; readonly timers: Timers; readonly log: Log; readonly connectLimitMs: number
}

const IDLE_LIMIT = 300_000

/** The stream or socket under an answer, broken: half an answer must not look whole. */
export const breakAnswer = (response: AnyResponse): void => {
  if ('stream' in response) response.stream.destroy(new Error('the answer was cut'))
  else response.socket?.destroy()
}

/** Answers a request and drops what is left of it. */
export function answer(response: AnyResponse, status: number, headers: Readonly<Record<string, string>>, body: string): void {
  if (response.headersSent || response.destroyed) return
  // Both kinds take the same arguments; the union of their overloads can't be called.
  if ('stream' in response) response.writeHead(status, headers).end(body)
  else response.writeHead(status, { ...headers, connection: 'close' }).end(body)
}

const tellHead = (response: AnyResponse, status: number, headers: Record<string, string | string[]>): void => {
  if ('stream' in response) response.writeHead(status, headers)
  else response.writeHead(status, headers)
}

function carryBody(from: AnyRequest | IncomingMessage, write: Write, end: () => void): void {
  from.on('data', (chunk: Uint8Array) => {
    if (!write(chunk)) from.pause()
  })
  from.on('end', end)
}

/** Sends one request to one address. Settles with how it ended: the answer has begun, or why there is none. */
function send(outgoing: ClientRequest, request: AnyRequest, limitMs: number, timers: Timers): Promise<{ ok: true; incoming: IncomingMessage } | { ok: false; detail: string }> {
  const { promise, resolve } = Promise.withResolvers<{ ok: true; incoming: IncomingMessage } | { ok: false; detail: string }>()
  const stop = timers.after(limitMs, () => outgoing.destroy(new Error(`no connection within ${limitMs} ms`)))
  outgoing.on('socket', (socket) => {
    if (socket.connecting) socket.once('connect', stop)
    else stop()
  })
  outgoing.setTimeout(IDLE_LIMIT, () => outgoing.destroy(new Error('the upstream has been silent for too long')))
  // Stays: errors may come after the answer has begun, and the answer's own 'close' tells then.
  outgoing.on('error', (error) => {
    stop()
    resolve({ ok: false, detail: error.message })
  })
  outgoing.once('response', (incoming) => resolve({ ok: true, incoming }))
  carryBody(request, (chunk) => outgoing.destroyed || outgoing.write(chunk), () => outgoing.end())
  outgoing.on('drain', () => request.resume())
  return promise
}

/** Decides on one request and serves it. Never rejects for anything that client or upstream do. */
export async function forward(request: AnyRequest, response: AnyResponse, question: Question, host: string, options: ForwardOptions): Promise<void> {
  const { judge, sessions, resolver, upstreams, timers, log, connectLimitMs } = options
  let gone = false
  request.on('error', () => breakAnswer(response))
  response.on('error', () => breakAnswer(response))
  response.once('close', () => {
    gone = true
  })
  const refuse = (decision: Decision, detail?: string) => {
    log.info({ event: 'refused', decision: decision.id, reason: decision.reason, uid: decision.uid, destination: decision.destination, detail }, 'A request was refused')
    const { status, headers, body } = renderRefusal(decision, request.headers.accept)
    answer(response, status, headers, body)
    request.resume()
  }
  const verdict = await judge.assess(question)
  const fail = (reason: Reason, detail?: string) => refuse(judge.record(question, { ...verdict, validUntil: null }, { reason }), detail)
  const [target] = verdict.service?.upstreams ?? []
  if (!verdict.allowed || verdict.service === null || target === undefined) return refuse(judge.record(question, verdict))
  if (sessions.full) return fail('overloaded')
  const { service } = verdict
  const resolution = await resolver(service, target.host)
  if (!resolution.ok) return fail(resolution.reason, resolution.detail)
  const final = judge.again(question, 'decide')
  if (!final.allowed || final.service !== service) return refuse(judge.record(question, final))
  // The first address only: a request whose body has begun to flow can't be told twice.
  const outgoing = upstreams.open(target, service.tls.ca, resolution.addresses[0] ?? '', {
    method: request.method, path: request.url, headers: requestHeaders(request.headers, { uid: final.uid ?? '', host, source: question.source.replace(/:\d+$/, '') }),
  })
  if (gone) return void outgoing.on('error', () => outgoing.destroy()).destroy()
  let ended = false
  let begun = false
  let denied: Decision | null = null
  const admitted = { ...question }
  const decision = judge.record(admitted, final)
  const close = sessions.open(admitted, decision, (cut) => {
    denied = cut
    outgoing.destroy(new Error('the session was cut'))
    if (begun) breakAnswer(response)
  })
  response.once('close', () => {
    close()
    if (!ended) outgoing.destroy(new Error('the client went away'))
  })
  const sent = await send(outgoing, request, connectLimitMs, timers)
  if (denied !== null) return refuse(denied)
  if (!sent.ok) {
    close()
    return fail('upstream-unreachable', sent.detail)
  }
  begun = true
  const { incoming } = sent
  incoming.on('error', () => breakAnswer(response))
  incoming.on('close', () => {
    if (!incoming.complete) breakAnswer(response)
  })
  const write: Write = 'stream' in response ? (chunk) => response.write(chunk) : (chunk) => response.write(chunk)
  tellHead(response, incoming.statusCode ?? 502, responseHeaders(incoming.headers))
  carryBody(incoming, (chunk) => response.destroyed || write(chunk), () => {
    ended = true
    response.end()
  })
  response.on('drain', () => incoming.resume())
}
