// One tunnel, of TCP or UDP, from decision to end, whatever it came over. How answers are written is the carrier's, given by connect.ts.
import { refusalJson, renderRefusal, type Refusal } from './refusal.ts'
import type { Decision, Reason } from '../../protocol/decisions.ts'
import type { Service } from '../../domain/access/service.ts'
import type { Log } from '../../node/logging.ts'
import type { Cuts } from './cuts.ts'
import type { Judge, Question } from './judge.ts'
import { reach, type Way } from './reach.ts'
import { createHostCheck } from '../ssh/host-check.ts'
import type { Resolver } from './resolve.ts'
import type { Sessions } from './sessions.ts'
import type { Client } from './splice.ts'
import type { Timers } from '../../node/timers.ts'
import type { SessionTrace, Traces } from '../traces/traces.ts'

/** What answers one CONNECT. */
export interface Carrier {
  readonly client: Client
  readonly head: Uint8Array
  /** Once it is open there is no place for a reason: the client is told by which name it may ask for it. */
  readonly cutsSilently: boolean
  refuse(refusal: Refusal): void
  accept(headers: Readonly<Record<string, string>>): void
  /** Ends an accepted tunnel without another byte; `denial` says why, where the protocol has room for it. */
  cut(denial: string): void
}

export interface TunnelOptions {
  readonly judge: Judge; readonly sessions: Sessions; readonly resolver: Resolver; readonly timers: Timers; readonly now: () => number; readonly log: Log; readonly connectLimitMs: number; readonly cuts: Cuts
  /** null: none are made. */
  readonly traces: Traces | null
}

type TunnelQuestion = Question & { readonly protocol: 'tcp' | 'udp' }

/** Without a reason of its own each abort makes an error with its stack, for nobody. */
const WENT_AWAY = 'the client went away'

/** Decides, dials, decides once more, and carries. Never rejects for anything that client or upstream do. */
export async function runTunnel(carrier: Carrier, question: TunnelQuestion, options: TunnelOptions): Promise<void> {
  const { judge, sessions, resolver, timers, now, log, connectLimitMs, traces } = options
  const { client } = carrier
  const trace = traces?.begin(question)
  const gone = new AbortController()
  const leaves = () => gone.abort(WENT_AWAY)
  // Before anything is awaited: a client that breaks while it is decided on must not end the gateway.
  client.on('error', leaves)
  client.once('close', leaves)
  const refuse = (decision: Decision, detail?: string) => {
    // Strangers have a journal; a line of the log for each would be theirs to write.
    if (decision.uid !== null) log.info({ event: 'refused', decision: decision.id, reason: decision.reason, uid: decision.uid, destination: decision.destination, detail }, 'A tunnel was refused')
    trace?.refused(decision)
    if (!gone.signal.aborted) carrier.refuse(renderRefusal(decision, undefined))
  }
  const verdict = await judge.assess(question)
  const fail = (reason: Reason, detail?: string) => refuse(judge.record(question, { ...verdict, validUntil: null }, { reason }), detail)
  if (!verdict.allowed || verdict.service === null) return refuse(judge.record(question, verdict))
  const full = sessions.barred(verdict.uid)
  if (full !== null) return fail(full)
  const { service } = verdict
  const target = service.upstreams[0] ?? question
  trace?.next('resolve')
  const resolution = await resolver(service, target.host)
  if (!resolution.ok) return fail(resolution.reason, resolution.detail)
  trace?.next('dial')
  const way = await reach(question.protocol, { addresses: resolution.addresses, port: target.port, limitMs: connectLimitMs, timers, now, signal: gone.signal })
  if (!way.ok) return fail('upstream-unreachable', way.detail)
  // The world may have moved while it was dialled; from here to the table is one tick.
  const final = judge.again(question, 'decide')
  const barred = sessions.barred(final.uid)
  if (!final.allowed || barred !== null || gone.signal.aborted) {
    way.abandon()
    if (!final.allowed) refuse(judge.record(question, final))
    else if (gone.signal.aborted) {
      const givenUp = judge.record(question, { ...verdict, validUntil: null }, { reason: 'upstream-unreachable' })
      trace?.refused(givenUp)
    } else fail(barred ?? 'overloaded')
    return
  }
  const decision = judge.record(question, final)
  trace?.admitted(decision)
  trace?.next('carry')
  carry(carrier, question, { service: final.service ?? service, decision, way, trace }, options)
  // Whoever carries listens by now; what was needed to decide must not be held for as long as the tunnel lasts.
  client.off('error', leaves)
  client.off('close', leaves)
}

interface Admitted { readonly service: Service; readonly decision: Decision; readonly way: Way; readonly trace: SessionTrace | undefined }

/** Carries a tunnel that was let in. Thousands are open and idle: what its listeners hold is what each of them costs. */
function carry(carrier: Carrier, question: TunnelQuestion, { service, decision, way, trace }: Admitted, { judge, sessions, now, log, cuts }: TunnelOptions): void {
  const { client } = carrier
  // The agent is told how the service is best reached: bulk would hold up what shares its connection.
  carrier.accept({ ...(question.protocol === 'udp' ? { 'capsule-protocol': '?1' } : {}), ...(service.traffic === 'bulk' ? { 'sallyport-traffic': 'bulk' } : {}), ...(carrier.cutsSilently ? { 'sallyport-session': decision.id } : {}) })
  let end: (cutBy?: Decision) => void = () => {}
  const cut = (denied: Decision) => {
    joined.stop()
    trace?.ended(joined.carried(), denied)
    if (carrier.cutsSilently) cuts.remember(decision, denied)
    carrier.cut(refusalJson(denied))
  }
  const { judgeHostKey, strays } = createHostCheck(service, question.host, now)
  const joined = way.join(client, carrier.head, { idleMs: service.idleMs, judgeHostKey, onEnd: () => end(), onFailed: (reason, detail) => {
    const denied = judge.stop(question, decision, reason)
    if (reason === 'ssh-host-key') log.warn({ event: 'ssh_host_key', decision: denied.id, session: decision.id, uid: decision.uid, destination: decision.destination, detail }, 'A host is not the one that it should be')
    else log.info({ event: 'unreachable', decision: denied.id, session: decision.id, uid: decision.uid, destination: decision.destination, detail }, 'A destination is not reached any more')
    end(denied)
    cut(denied)
  } })
  const leave = sessions.open(question, service, decision, { carried: joined.carried, cut, strays })
  end = (cutBy) => {
    leave(cutBy)
    trace?.ended(joined.carried(), cutBy ?? null)
  }
  if (client.destroyed && way.isClosed()) end()
}
