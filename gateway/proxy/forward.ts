// One request to a declared HTTPS service: decided by itself, told to a well upstream, and cut like any other session.
import type { Service } from '../../domain/access/service.ts'
import type { Log } from '../../node/logging.ts'
import type { Decision, Reason } from '../../protocol/decisions.ts'
import { answer, breakAnswer, type AnyResponse } from './answer.ts'
import type { Assertions } from './assertions.ts'
import { exchange, type Exchange, type Outcome } from './exchange.ts'
import { requestHeaders, type HeaderValues } from './headers.ts'
import type { Judge, Question } from './judge.ts'
import { renderRefusal } from './refusal.ts'
import { announcesTooMuch, takeBody, type AnyRequest, type RequestBody } from './request-body.ts'
import type { Sessions } from './sessions.ts'
import type { Timers } from '../../node/timers.ts'
import type { SessionTrace, Traces } from '../traces/traces.ts'
import type { Target, Upstreams } from './upstreams.ts'

export interface ForwardOptions {
  readonly judge: Judge; readonly sessions: Sessions; readonly upstreams: Upstreams; readonly assertions: Assertions; readonly timers: Timers; readonly log: Log
  /** null: none are made. */
  readonly traces: Traces | null
}

/** What carries an upgraded connection on. `cut` ends it without another byte. */
export type TakeUpgrade = (outcome: Extract<Outcome, { kind: 'upgraded' }>, onEnd: () => void) => { readonly cut: () => void; readonly carried: () => { readonly up: number; readonly down: number } }

/** RFC 9110 §9.2.2: what may be told again when a connection broke before an answer. */
const repeatable = new Set(['GET', 'HEAD', 'OPTIONS'])
const MAX_ATTEMPTS = 4
const limitAnswers = { 'too-large': [413, 'The request is larger than this service takes.\n'], 'too-slow': [408, 'The request took longer than this service allows.\n'] } as const

interface Attempt { readonly method: string; readonly path: string; readonly headers: HeaderValues; readonly body: RequestBody; readonly upgrade: string | null; readonly trace: SessionTrace | undefined }

/** Tells the request to upstreams until one has answered or may have acted on it. */
async function tell(service: Service, told: Attempt, response: AnyResponse, upstreams: Upstreams, onExchange: (made: Exchange, target: Target) => void, gone: () => boolean): Promise<Outcome | { readonly kind: 'unresolved'; readonly reason: Reason; readonly detail: string }> {
  let last: Outcome | { readonly kind: 'unresolved'; readonly reason: Reason; readonly detail: string } = { kind: 'unsent', detail: 'there is no upstream' }
  let attempts = 0
  for (const target of upstreams.order(service)) {
    told.trace?.next('resolve')
    const found = await upstreams.resolve(service, target)
    if (!found.ok) {
      last = { kind: 'unresolved', reason: found.reason, detail: found.detail }
      continue
    }
    for (const address of found.addresses) {
      for (let repeated = false; ; repeated = true) {
        if (gone() || ++attempts > MAX_ATTEMPTS) return last
        told.trace?.next('dial')
        const made = exchange(upstreams.poolOf(service, target, address), { ...told, silenceMs: service.limits.silenceMs, onTold: () => told.trace?.next('carry') }, response)
        onExchange(made, target)
        last = await made.outcome
        if (last.kind === 'answered' || last.kind === 'upgraded') return last
        if (last.kind === 'unsent') break
        // A kept connection may have been closed by the upstream in the very moment in which it was used.
        if (repeated || told.body.stream !== null || told.upgrade !== null || !repeatable.has(told.method)) return last
      }
      upstreams.failed(service, target, last.detail)
      if (told.body.begun()) return last
    }
  }
  return last
}

/**
 * Decides on one request and serves it. Never rejects for anything that client or upstream do.
 * @param host as the client named it, port and all
 * @param takeUpgrade when the client asks for another protocol
 */
export async function forward(request: AnyRequest, response: AnyResponse, question: Question, host: string, options: ForwardOptions, upgrade: { readonly protocol: string; readonly take: TakeUpgrade } | null = null): Promise<void> {
  const { judge, sessions, upstreams, assertions, timers, log, traces } = options
  const trace = traces?.begin(question, request.headers['traceparent'] as string | undefined)
  let gone = false
  let denied: Decision | null = null
  let carried = () => ({ up: 0, down: 0 })
  let ended = () => {}
  request.on('error', () => breakAnswer(response))
  response.on('error', () => breakAnswer(response))
  response.once('close', () => {
    gone = true
    ended()
    trace?.ended(carried(), denied)
  })
  const refuse = (decision: Decision, detail?: string) => {
    // Strangers have a journal; a line of the log for each would be theirs to write.
    if (decision.uid !== null) log.info({ event: 'refused', decision: decision.id, reason: decision.reason, uid: decision.uid, destination: decision.destination, detail }, 'A request was refused')
    trace?.refused(decision)
    const { status, headers, body } = renderRefusal(decision, request.headers.accept)
    answer(response, status, headers, body)
    request.resume()
  }
  const verdict = await judge.assess(question)
  const fail = (reason: Reason, detail?: string, session: string | null = null) => refuse(judge.record(question, { ...verdict, validUntil: null }, { reason, session }), detail)
  if (!verdict.allowed || verdict.service === null) return refuse(judge.record(question, verdict))
  const barred = sessions.barred(verdict.uid)
  if (barred !== null) return fail(barred)
  const { service } = verdict
  if (announcesTooMuch(request, service.limits.requestBytes)) {
    answer(response, ...limitOf('too-large'))
    return void request.resume()
  }
  const { certificate } = question
  const vouched = certificate.status === 'proved' ? await assertions(certificate, service, verdict, judge.snapshot()) : null
  // The world may have moved while a name was resolved; from here to the table is one tick.
  const final = judge.again(question, 'decide')
  if (!final.allowed || final.service !== service) return refuse(judge.record(question, final))
  if (gone) return
  // From here on the service says how long silence may last.
  request.setTimeout(service.limits.silenceMs)
  const body = takeBody(request, { limitBytes: service.limits.requestBytes, limitMs: service.limits.requestMs, timers })
  const decision = judge.record(question, final)
  trace?.admitted(decision)
  let busy: Target | null = null
  let current: Pick<Exchange, 'stop' | 'carried'> = { stop: () => {}, carried: () => 0 }
  carried = () => ({ up: body.size(), down: current.carried() })
  const leave = sessions.open(question, service, decision, { carried, cut: (cut) => {
    denied = cut
    current.stop()
    body.stream?.destroy()
    if (response.headersSent) breakAnswer(response)
  } })
  ended = () => {
    leave()
    current.stop()
    if (busy !== null) busy.open--
    busy = null
  }
  const outcome = await tell(service, {
    method: request.method ?? 'GET', path: request.url ?? '/', body, upgrade: upgrade?.protocol ?? null, trace,
    headers: requestHeaders(request.headers, { host, source: question.source.replace(/:\d+$/, ''), vouched, decision: decision.id, traceparent: trace?.traceparent }),
  }, response, upstreams, (made, target) => {
    current = made
    if (busy !== null) busy.open--
    busy = target
    target.open++
  }, () => gone || denied !== null)
  if (outcome.kind === 'answered') return
  if (outcome.kind === 'upgraded' && denied === null && !gone && upgrade !== null) {
    const joined = upgrade.take(outcome, ended)
    current = { stop: joined.cut, carried: () => joined.carried().down }
    return
  }
  if (outcome.kind === 'upgraded') outcome.socket.destroy()
  ended()
  if (denied !== null) return refuse(denied)
  const failure = body.failure()
  if (failure !== null) {
    answer(response, ...limitOf(failure))
    return
  }
  if (gone) return
  if (outcome.kind === 'unresolved') return fail(outcome.reason, outcome.detail, decision.id)
  fail('upstream-unreachable', outcome.kind === 'upgraded' ? 'the client went away' : outcome.detail, decision.id)
}

function limitOf(failure: keyof typeof limitAnswers): [number, Record<string, string>, string] {
  const [status, sentence] = limitAnswers[failure]
  return [status, { 'content-type': 'text/plain; charset=utf-8', 'proxy-status': 'sallyport; error=http_request_error' }, sentence]
}
