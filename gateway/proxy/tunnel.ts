// One CONNECT from decision to end, whatever it came over. How answers are written is the carrier's, given by connect.ts.
import { refusalJson, renderRefusal, type Refusal } from './refusal.ts'
import type { Decision, Reason } from '../../protocol/decisions.ts'
import type { Log } from '../../node/logging.ts'
import { dial } from './dial.ts'
import type { Judge, Question } from './judge.ts'
import type { Resolver } from './resolve.ts'
import type { Sessions } from './sessions.ts'
import { breakUpstream, splice, type Client } from './splice.ts'
import type { Timers } from '../../node/timers.ts'

/** What answers one CONNECT. */
export interface Carrier {
  readonly client: Client
  readonly head: Uint8Array
  refuse(refusal: Refusal): void
  accept(headers: Readonly<Record<string, string>>): void
  /** Ends an accepted tunnel without another byte; `denial` says why, where the protocol has room for it. */
  cut(denial: string): void
}

export interface TunnelOptions {
  readonly judge: Judge; readonly sessions: Sessions; readonly resolver: Resolver; readonly timers: Timers; readonly log: Log; readonly connectLimitMs: number
}

/** Decides, dials, decides once more, and carries. Never rejects for anything that client or upstream do. */
export async function runTunnel(carrier: Carrier, question: Question, { judge, sessions, resolver, timers, log, connectLimitMs }: TunnelOptions): Promise<void> {
  const { client } = carrier
  const gone = new AbortController()
  // Before anything is awaited: a client that breaks while it is decided on must not end the gateway.
  client.on('error', () => gone.abort())
  client.once('close', () => gone.abort())
  const refuse = (decision: Decision, detail?: string) => {
    // Strangers have a journal; a line of the log for each would be theirs to write.
    if (decision.uid !== null) log.info({ event: 'refused', decision: decision.id, reason: decision.reason, uid: decision.uid, destination: decision.destination, detail }, 'A tunnel was refused')
    if (!gone.signal.aborted) carrier.refuse(renderRefusal(decision, undefined))
  }
  const verdict = await judge.assess(question)
  const fail = (reason: Reason, detail?: string) => refuse(judge.record(question, { ...verdict, validUntil: null }, { reason }), detail)
  if (!verdict.allowed || verdict.service === null) return refuse(judge.record(question, verdict))
  const full = sessions.barred(verdict.uid)
  if (full !== null) return fail(full)
  const { service } = verdict
  const target = service.upstreams[0] ?? question
  const resolution = await resolver(service, target.host)
  if (!resolution.ok) return fail(resolution.reason, resolution.detail)
  const dialled = await dial({ addresses: resolution.addresses, port: target.port, limitMs: connectLimitMs, timers, signal: gone.signal })
  if (!dialled.ok) return fail('upstream-unreachable', dialled.detail)
  const upstream = dialled.socket
  // The world may have moved while it was dialled; from here to the table is one tick.
  const final = judge.again(question, 'decide')
  const barred = sessions.barred(final.uid)
  if (!final.allowed || barred !== null || gone.signal.aborted) {
    breakUpstream(upstream)
    if (!final.allowed) refuse(judge.record(question, final))
    else if (gone.signal.aborted) judge.record(question, { ...verdict, validUntil: null }, { reason: 'upstream-unreachable' })
    else fail(barred ?? 'overloaded')
    return
  }
  const decision = judge.record(question, final)
  // The agent is told how the service is best reached: bulk would hold up what shares its connection.
  carrier.accept(final.service?.traffic === 'bulk' ? { 'sallyport-traffic': 'bulk' } : {})
  let end = () => {}
  const joined = splice(client, upstream, carrier.head, () => end())
  end = sessions.open(question, final.service, decision, { carried: joined.carried, cut: (denied) => {
    joined.stop()
    carrier.cut(refusalJson(denied))
  } })
  if (client.destroyed && upstream.destroyed) end()
}
