// Asks the EMS by `status` where no websocket can be had: what changed is read, and the staleness clock restarts at what the EMS proves alone. It opens no socket and decides no mode.
import { endpointByUid } from '../../domain/access/snapshot.ts'
import { jitteredBackoff } from '../../node/backoff.ts'
import type { ControlClient } from '../../node/control-client.ts'
import type { Log } from '../../node/logging.ts'
import type { Timers } from '../../node/timers.ts'
import { Fault, type FaultCode } from '../../protocol/faults.ts'
import { status, subscribe } from '../../protocol/operations/fabric.ts'
import { pause } from './pause.ts'
import { authorityLost, type Pulls } from './pulls.ts'
import { followedTables, type Replica } from './replica.ts'

export interface PollSettings {
  /** How long there must have been no websocket before the EMS is asked instead. */
  readonly afterMs: number
  /** It is asked again after half of this to the whole, never later. */
  readonly everyMs: number
}
export const defaultPoll: PollSettings = { afterMs: 10_000, everyMs: 5_000 }
/** An EMS that does not answer is asked less and less, down to this. */
const SELDOM_MS = 15_000

interface Options {
  readonly client: ControlClient
  readonly replica: Replica
  readonly pulls: Pulls
  readonly timers: Timers
  /** ms. */
  readonly now: () => number
  readonly log: Log
  readonly everyMs: number
  /** The EMS has read the head of its log, and every table that is not held as of `revision` is wanted. `askedAt`, `at`: ms before that reading, on our clock and on that of the EMS. */
  readonly onProof: (proof: { readonly revision: string; readonly askedAt: number; readonly at: number }) => void
  /** Whether the EMS answers. Called when that changes. */
  readonly onAnswers: (answers: boolean) => void
  readonly onRefused: (code: FaultCode) => void
}

export interface Polling {
  /** Asks from now on, at once the first time; does nothing when it does already. */
  begin(): void
  /** Asks no more; an answer under way is not heard. */
  end(): void
  /**
   * Asks out of turn, for an endpoint that is not known; where what is new does not bring it, says that this gateway cares for it and asks again.
   * Throws a `Fault` when the EMS can't be asked. @returns whether it is known now
   */
  lookUp(uid: string): Promise<boolean>
  /** Whether the last question was answered. */
  answers(): boolean
  /** Resolves when nothing is under way, after `end`. */
  settled(): Promise<void>
}

export function createPolling({ client, replica, pulls, timers, now, log, everyMs, onProof, onAnswers, onRefused }: Options): Polling {
  let stopping: AbortController | null = null
  let running: Promise<void> = Promise.resolve()
  let asking: Promise<void> | null = null
  let queued: Promise<void> | null = null
  let answers = false
  const heard = (does: boolean) => {
    if (answers === does) return
    answers = does
    onAnswers(does)
  }

  async function ask(signal: AbortSignal): Promise<void> {
    const { held } = replica.state()
    const askedAt = now()
    const { data } = await client.call(status, { body: Object.fromEntries(followedTables.map((table) => [table, { version: { updated_after: held[table] } }])) })
    if (signal.aborted) return
    heard(true)
    for (const table of followedTables) {
      // What was forgotten while the question was under way is not what it was about.
      if (data[table]?.is_updated !== false || replica.state().held[table] === '') pulls.want(table, {})
    }
    // An answer that was held up on the way is no younger than its question.
    if (data.current !== undefined) onProof({ ...data.current, askedAt })
  }

  /** One question after the other. Whoever wants one that was asked later than now shares the next with all who do. */
  function askNow(): Promise<void> {
    const { signal } = stopping ?? {}
    if (signal === undefined) return Promise.resolve()
    const next = () => {
      queued = null
      asking = ask(signal).finally(() => { asking = null })
      return asking
    }
    if (asking === null) return next()
    queued ??= asking.then(next, next)
    return queued
  }

  async function run(signal: AbortSignal): Promise<void> {
    let failures = 0
    while (!signal.aborted) {
      try {
        await askNow()
        failures = 0
      } catch (cause) {
        if (!(cause instanceof Fault)) throw cause
        if (signal.aborted) return
        if (failures++ === 0) log.warn({ event: 'poll-failed', code: cause.code, reason: cause.message }, 'The EMS could not be asked what is new; it will be tried again.')
        heard(false)
        if (authorityLost.has(cause.code)) onRefused(cause.code)
      }
      // Between half of the interval and the whole: a thousand gateways behind one proxy do not ask in step.
      await pause(timers, jitteredBackoff(Math.max(0, failures - 1), { firstMs: everyMs, limitMs: failures === 0 ? everyMs : Math.max(everyMs, SELDOM_MS) }), signal)
    }
  }

  return {
    begin() {
      if (stopping !== null) return
      const { signal } = stopping = new AbortController()
      log.warn({ event: 'polling', everyMs }, 'No websocket to the EMS can be had; it is asked for what is new instead, and the websocket is tried again and again.')
      running = running.then(() => run(signal)).catch((cause: Error) => log.error({ event: 'polling-broken', reason: cause.message, stack: cause.stack }, 'Asking the EMS failed inside the gateway; what is known grows stale.'))
    },
    end() {
      stopping?.abort()
      stopping = null
      heard(false)
    },
    async lookUp(uid) {
      const isKnown = () => endpointByUid(replica.snapshot(), uid) !== undefined
      const read = async () => {
        await askNow()
        await pulls.settled()
      }
      await read()
      if (isKnown()) return true
      const { data } = await client.call(subscribe, { body: { update: [{ uids: { [uid]: { subscribe: true } }, is_snapshot: false }] } })
      if (data.subscribed[uid]?.is_registered === true) await read()
      return isKnown()
    },
    answers: () => answers,
    settled: () => running,
  }
}
