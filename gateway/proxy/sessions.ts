// The open sessions, by device: decided again when their device changed or their time is over, and cut before the next byte.
import type { Service } from '../../domain/access/service.ts'
import type { Decision, Reason } from '../../protocol/decisions.ts'
import type { Log } from '../../node/logging.ts'
import type { Metrics } from '../metrics/metrics.ts'
import type { ChangeCause, Changed } from '../world.ts'
import { Deadlines } from './deadlines.ts'
import type { Judge, Question } from './judge.ts'
import type { CarriedDatagrams } from './carry-datagrams.ts'
import type { Timers } from '../../node/timers.ts'

export interface Carried { readonly up: number; readonly down: number; readonly datagrams?: CarriedDatagrams }

/** What a session gives to be ended and accounted for. */
export interface Carriage {
  /** Ends it at once, without another byte, and tells the client why. */
  readonly cut: (decision: Decision) => void
  /** Bytes carried so far, up from the client and down to it; of UDP the datagrams too. */
  readonly carried: () => Carried
  /** Why it may not go on behind the service as that stands now; null or absent: it may. */
  readonly strays?: (service: Service | null) => Reason | null
}
interface Session {
  readonly uid: string
  readonly question: Question
  service: Service | null
  readonly admitted: Decision
  readonly carriage: Carriage
  validUntil: number | null
}

/** Whether two versions of a service lead to the same places. */
function leadsAlike(before: Service | null, after: Service | null): boolean {
  const places = (service: Service | null) => JSON.stringify([service?.upstreams, [...service?.addresses ?? []].sort()])
  return before === after || places(before) === places(after)
}

const none: CarriedDatagrams = { up: 0, down: 0, dropped: 0 }
const plus = (sum: Required<Carried>, { up, down, datagrams = none }: Carried): Required<Carried> => ({
  up: sum.up + up, down: sum.down + down,
  datagrams: { up: sum.datagrams.up + datagrams.up, down: sum.datagrams.down + datagrams.down, dropped: sum.datagrams.dropped + datagrams.dropped },
})

/** Far timers are set in steps: a clock that jumps, or one beyond Node's 24.8 days, must not be slept through. */
const LONGEST_SLEEP = 30_000

interface SessionsOptions { readonly judge: Judge; readonly metrics: Metrics; readonly log: Log; readonly timers: Timers; readonly now: () => number; readonly limit: number; readonly perDevice: number }

/** The table of one gateway. */
export function createSessions({ judge, metrics, log, timers, now, limit, perDevice }: SessionsOptions) {
  const byUid = new Map<string, Set<Session>>()
  /** Of the sessions that have ended. */
  let total: Required<Carried> = { up: 0, down: 0, datagrams: { up: 0, down: 0, dropped: 0 } }
  let deadlines = new Deadlines<Session>()
  let count = 0
  let wake: { readonly at: number; readonly stop: () => void } | null = null

  const isOpen = (session: Session) => byUid.get(session.uid)?.has(session) ?? false

  /** @param cutBy the decision that ends it; null: it has ended by itself */
  function remove(session: Session, cutBy: Decision | null): void {
    const those = byUid.get(session.uid)
    if (!those?.delete(session)) return
    const carried = session.carriage.carried()
    total = plus(total, carried)
    judge.ended(session.admitted, carried, cutBy)
    if (those.size === 0) byUid.delete(session.uid)
    count -= 1
    metrics.sessionsOpen(count)
    if (count === 0) onEmpty()
    // Ended sessions stay in the heap until they are due: on a busy gateway most of it would be theirs.
    if (deadlines.size > 1024 && deadlines.size > 4 * count) rebuild()
  }

  function rebuild(): void {
    deadlines = new Deadlines()
    for (const those of byUid.values()) for (const session of those) if (session.validUntil !== null) deadlines.add(session.validUntil, session)
  }

  function sleep(): void {
    const next = deadlines.next
    if (next === null || (wake !== null && wake.at <= next)) return
    wake?.stop()
    const delay = Math.min(Math.max(next - now(), 0), LONGEST_SLEEP)
    wake = { at: next, stop: timers.after(delay, () => {
      wake = null
      for (const { at, of } of deadlines.takeDue(now())) if (isOpen(of) && of.validUntil === at) recheck(of, {})
      sleep()
    }) }
  }

  function cut(session: Session, decision: Decision): void {
    remove(session, decision)
    session.carriage.cut(decision)
    log.info({ event: 'session_cut', decision: decision.id, session: session.admitted.id, uid: session.uid, reason: decision.reason, destination: decision.destination }, 'An open session was cut')
  }

  function recheck(session: Session, cause: ChangeCause): void {
    const verdict = judge.again(session.question, 'recheck')
    const strays = verdict.allowed ? session.carriage.strays?.(verdict.service) ?? (leadsAlike(session.service, verdict.service) ? null : 'address-refused') : null
    if (verdict.allowed && strays === null) {
      session.service = verdict.service
      if (verdict.validUntil === session.validUntil) return
      session.validUntil = verdict.validUntil
      if (verdict.validUntil !== null) deadlines.add(verdict.validUntil, session)
      sleep()
      return
    }
    const { question, admitted } = session
    // Allowed still, but declared to lead elsewhere: where this one leads nobody has declared any more.
    cut(session, strays !== null ? judge.stop(question, admitted, strays) : judge.record(question, verdict, { event: 'recheck', session: admitted.id }))
    if (cause.at !== undefined) metrics.cut(now() - cause.at)
  }

  metrics.readCarried(() => {
    let all = total
    for (const those of byUid.values()) for (const { carriage } of those) all = plus(all, carriage.carried())
    return all
  })
  let stopping = false
  let onEmpty = () => {}
  return {
    /** Why a device may not open a session now; null: there is room. Strangers together count as one. */
    barred(uid: string | null): Reason | null {
      if (stopping) return 'gateway-stopping'
      return count >= limit || (byUid.get(uid ?? '')?.size ?? 0) >= perDevice ? 'overloaded' : null
    },
    /** Takes no more sessions. */
    stop(): void {
      stopping = true
    },
    /** Resolves when no session is open, or `graceMs` has passed. */
    empty(graceMs: number): Promise<void> {
      if (count === 0 || graceMs <= 0) return Promise.resolve()
      const { promise, resolve } = Promise.withResolvers<void>()
      const stop = timers.after(graceMs, resolve)
      onEmpty = () => {
        stop()
        resolve()
      }
      return promise
    },
    /** Cuts every session and tells why. */
    cutAll(reason: Reason): void {
      for (const those of byUid.values()) for (const session of those) cut(session, judge.stop(session.question, session.admitted, reason))
    },
    get count() {
      return count
    },
    /** Takes a session in; must be called in the same tick as the decision that let it in. @returns to be called when it has ended, by itself or by a decision */
    open(question: Question, service: Service | null, admitted: Decision, carriage: Carriage): (cutBy?: Decision) => void {
      const session: Session = { uid: admitted.uid ?? '', question, service, admitted, carriage, validUntil: admitted.validUntil }
      const those = byUid.get(session.uid) ?? new Set<Session>()
      byUid.set(session.uid, those.add(session))
      count += 1
      metrics.sessionsOpen(count)
      if (session.validUntil !== null) deadlines.add(session.validUntil, session)
      sleep()
      return (cutBy) => remove(session, cutBy ?? null)
    },
    /** Decides again what a change concerns, and nothing else. */
    recheck(changed: Changed, cause: ChangeCause): void {
      const uids = changed === 'all' ? byUid.keys() : changed
      for (const uid of uids) for (const session of byUid.get(uid) ?? []) recheck(session, cause)
    },
    close(): void {
      wake?.stop()
      wake = null
    },
  }
}
export type Sessions = ReturnType<typeof createSessions>
