// Tells the EMS which sections changed, each by its hash, and gives what the EMS asks for. One report at a time; a lost reply is repeated under the same sequence.
import { createHash } from 'node:crypto'
import canonicalize from 'canonicalize'
import type { Demands } from '../../domain/tagging/demand.ts'
import type { Log } from '../../node/logging.ts'
import type { DocumentVersions } from '../../protocol/documents.ts'
import { sections, type ReportedName, type Sections } from '../../protocol/facts.ts'
import { Fault, type FaultCode } from '../../protocol/faults.ts'
import type { Call, Reply } from '../../protocol/operation.ts'
import type { report } from '../../protocol/operations/endpoint.ts'
import { sentenceFor } from '../failure.ts'
import type { Timers } from '../../node/timers.ts'
import type { Troubles } from '../troubles.ts'
import { createConfirmations } from './confirmations.ts'
import { createRetry, type FaultAnswer } from './retry.ts'
import type { TelemetryState } from './telemetry-state.ts'

/** A report on its way; times are ms, `changedAt` null when nothing changed. */
export interface ReportSent { readonly event: 'report-sent'; readonly sequence: number; readonly sections: ReportedName[]; readonly changedAt: number | null; readonly sentAt: number }

export interface ReporterOptions {
  readonly send: (body: Call<typeof report>['body']) => Promise<Reply<typeof report>>
  readonly state: TelemetryState
  /** ms, EMS clock */
  readonly now: () => number
  readonly timers: Timers
  readonly troubles: Troubles
  readonly log: Log
  /** Section → within how many seconds rules want it known: what is unchanged is then confirmed. None unless said. */
  readonly demands?: () => Demands
  /** 0 ≤ x < 1, for the jitter of trying again. */
  readonly random?: () => number
  readonly onSent: (sent: ReportSent) => void
  /** Versions of the standing documents, with each reply. */
  readonly onVersions: (versions: DocumentVersions) => void
  /** Faults that telemetry itself has no answer to. */
  readonly onFault: (fault: Fault) => Promise<FaultAnswer>
  /** What is no fault is a defect of the agent. */
  readonly onDefect: (cause: unknown) => void
}

export interface Reporter {
  /**
   * Holds a section's value and reports it when it changed, which is the answer; null: not known any more.
   * @param lookedAt ms: what it was found by began then
   */
  hold(section: ReportedName, value: Sections[ReportedName] | null, changedAt?: number, lookedAt?: number): boolean
  /** When the EMS last learned how a section is (ms); null: not since this start. */
  knownAt(section: ReportedName): number | null
  /** Reports now, even if nothing changed: to be told what is wanted and which documents are newer. */
  flush(): void
  /** ms of the last report that the EMS took; null before the first. */
  lastTaken(): number | null
  close(): Promise<void>
}

interface Held { readonly value: unknown; readonly hash: string; readonly changedAt: number }

/** About what was sent, not about who sent it. */
const isRefusal = (code: FaultCode): boolean => code === 'invalid' || code === 'malformed' || code === 'too_large'
/** A sequence beyond this has no room to grow: no EMS that counts reports comes there. */
const MAX_SEQUENCE = Number.MAX_SAFE_INTEGER - 1_000_000

/** SHA-256 of the canonical JSON (RFC 8785) of a section, hex. */
export const sectionHash = (value: unknown): string => createHash('sha256').update(canonicalize(value) ?? '').digest('hex')

export function createReporter(options: ReporterOptions): Reporter {
  const { state, now, timers, troubles, log } = options
  const retry = createRetry(options.random ?? Math.random)
  const confirmations = createConfirmations(options.demands ?? (() => ({})))
  const held = new Map<ReportedName, Held>()
  /** Hashes that the EMS holds, as far as it told. */
  const theirs = new Map<ReportedName, string>()
  /** Hashes that the EMS would not take: not sent again until they change. */
  const refused = new Map<ReportedName, string>()
  /** Sections that this machine does not tell, and those of them of which the EMS has been told that. */
  const gone = new Set<ReportedName>()
  const toldGone = new Set<ReportedName>()
  let asked = false
  /** Nothing is sent before the first flush: what is found at start goes together. */
  let opened = false
  let due = false
  let forced = false
  let oneByOne = false
  let takenAt: number | null = null
  let closed = false
  let working: Promise<void> | null = null
  let wake: (() => void) | null = null

  /** True when the EMS took a report. */
  async function reportOnce(): Promise<boolean> {
    const unsent = [...held].filter(([name, { hash }]) => theirs.get(name) !== hash && refused.get(name) !== hash)
    if (unsent.length === 0) oneByOne = false
    // The first report sends only hashes: after a restart the EMS usually holds everything.
    const sent = !asked ? [] : oneByOne ? unsent.slice(0, 1) : unsent
    const unknown = asked ? [...gone].filter((name) => !toldGone.has(name)) : []
    const confirmed = asked ? confirmable() : {}
    if (sent.length + unknown.length === 0 && Object.keys(confirmed).length === 0 && asked && !forced) return false
    forced = false
    const told = new Map([...held].filter(([name, { hash }]) => refused.get(name) !== hash).map(([name, { hash }]) => [name, hash]))
    const names = sent.map(([name]) => name)
    const sequence = state.sequence() + (sent.length + unknown.length > 0 ? 1 : 0)
    const changedAt = sent.length > 0 ? Math.min(...sent.map(([, each]) => each.changedAt)) : null
    options.onSent({ event: 'report-sent', sequence, sections: names, changedAt, sentAt: now() })
    let reply
    try {
      reply = await options.send({
        sequence, ...(changedAt === null ? {} : { changedAt: Math.max(0, Math.round(changedAt)) }),
        sections: Object.fromEntries(sent.map(([name, { value }]) => [name, value])), hashes: Object.fromEntries(told),
        ...(unknown.length === 0 ? {} : { unknown }), ...(Object.keys(confirmed).length === 0 ? {} : { confirmed }),
      })
      requireSequence(reply.sequence)
    } catch (cause) {
      // Whether it was taken is not known: the next report asks, whatever the sections have become meanwhile.
      forced = true
      if (!(cause instanceof Fault) || !isRefusal(cause.code) || sent.length === 0) throw cause
      refuse(sent, cause)
      return false
    }
    asked = true
    takenAt = now()
    for (const [name, hash] of told) theirs.set(name, hash)
    for (const [name, at] of Object.entries(confirmed) as [ReportedName, number][]) confirmations.told(name, at)
    for (const [name] of sent) confirmations.told(name)
    for (const name of reply.wanted) theirs.delete(name)
    for (const name of unknown) toldGone.add(name)
    if (reply.sequence !== state.sequence()) await state.keep({ sequence: reply.sequence })
    options.onVersions(reply.documents)
    if (reply.wanted.some((name) => names.includes(name))) throw new Fault('busy', 'The EMS asks again for what it was just sent.')
    due ||= unsent.length > sent.length || [...gone].some((name) => !toldGone.has(name)) || reply.wanted.some((name) => held.has(name)) || Object.keys(confirmable()).length > 0
    return true
  }
  /** Of what rules want fresh, what the EMS holds as it is here. */
  const confirmable = () => confirmations.due([...held].filter(([name, { hash }]) => theirs.get(name) === hash).map(([name]) => name))

  function requireSequence(sequence: number): void {
    if (sequence < 0 || sequence > MAX_SEQUENCE) throw new Fault('internal', 'The EMS answered with a sequence that can not be.')
  }

  /** One section that is not taken must not keep the others back. */
  function refuse(sent: readonly [ReportedName, Held][], fault: Fault): void {
    due = true
    if (sent.length > 1) {
      oneByOne = true
      return
    }
    for (const [name, { hash }] of sent) {
      refused.set(name, hash)
      log.error({ event: 'section-refused', section: name, fault: fault.code, errors: fault.extras.errors }, 'The EMS does not take this section as it is; it will be sent again when it changes.')
    }
    sayRefused()
  }
  function sayRefused(): void {
    const names = [...refused.keys()]
    if (names.length === 0) return troubles.clear('section')
    troubles.raise('section', `The EMS does not take what this machine reports of ${names.join(', ')}; it keeps what it had. It is sent again when it changes.`)
  }

  async function answerFault(cause: unknown): Promise<void> {
    if (!(cause instanceof Fault)) throw cause
    due = true
    const theirSequence = cause.code === 'stale_sequence' ? cause.extras.sequence : undefined
    const answer = closed ? 'stop' : theirSequence === undefined || theirSequence === state.sequence() ? await options.onFault(cause) : await resume(theirSequence)
    if (answer === 'stop') closed = true
    const waitMs = answer === 'stop' ? 0 : retry.waitMs(cause, answer)
    if (closed || waitMs === 0) return
    troubles.raise('ems', sentenceFor(cause))
    log.warn({ event: 'report-failed', fault: cause.code, reason: cause.message, waitMs }, 'A report was not taken; it will be repeated.')
    await new Promise<void>((resolve) => {
      const cancel = timers.after(waitMs, resolve)
      wake = () => {
        cancel()
        resolve()
      }
    })
    wake = null
  }

  /** Another report than ours was taken last (ours, whose reply was lost; or of a state that was restored): go on from there. */
  async function resume(sequence: number): Promise<FaultAnswer> {
    if (sequence < 0 || sequence > MAX_SEQUENCE) return 'later'
    await state.keep({ sequence })
    return 'again'
  }

  async function work(): Promise<void> {
    // What changes in the same turn of the event loop goes in one report.
    await new Promise((resolve) => setImmediate(resolve))
    while (due && !closed) {
      due = false
      try {
        if (await reportOnce()) {
          retry.taken()
          troubles.clear('ems')
        }
      } catch (cause) {
        await answerFault(cause)
      }
    }
  }

  function begin(): void {
    due = true
    if (closed || working !== null) return
    working = work().catch(options.onDefect).finally(() => {
      working = null
      if (due && !closed) begin()
    })
  }

  /** What the EMS holds of it must not stand for a machine that no longer tells. */
  function forget(section: ReportedName): boolean {
    theirs.delete(section)
    if (!gone.has(section)) {
      gone.add(section)
      if (opened) begin()
    }
    return held.delete(section)
  }

  return {
    hold(section, value, changedAt = now(), lookedAt = now()) {
      if (closed) return false
      if (value === null) return forget(section)
      const parsed = sections[section].safeParse(value)
      if (!parsed.success) {
        log.error({ event: 'section-malformed', section, reason: parsed.error.issues[0]?.message, at: parsed.error.issues[0]?.path }, 'What a probe found is not in the form of its section; it stays unknown.')
        return forget(section)
      }
      const hash = sectionHash(parsed.data)
      gone.delete(section)
      toldGone.delete(section)
      const isOld = confirmations.seen(section, lookedAt)
      if (held.get(section)?.hash === hash) {
        if (isOld && opened && theirs.get(section) === hash) begin()
        return false
      }
      held.set(section, { value: parsed.data, hash, changedAt })
      if (refused.delete(section)) sayRefused()
      if (opened) begin()
      return true
    },
    flush() {
      opened = true
      forced = true
      wake?.()
      begin()
    },
    lastTaken: () => takenAt,
    knownAt: confirmations.knownAt,
    async close() {
      closed = true
      wake?.()
      await working
    },
  }
}
