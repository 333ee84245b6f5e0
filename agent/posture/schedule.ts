// Runs each probe by its cadence, one run of a probe at a time. Fast changes come by events; this is for what has none.
import type { ReportedName, Sections } from '../../protocol/facts.ts'
import type { Log } from '../../node/logging.ts'
import type { Timers } from '../../node/timers.ts'
import type { Cadence, Probe } from './probe.ts'

export interface ScheduleOptions {
  readonly probes: readonly Probe[]
  /** Seconds between looks. */
  readonly everySeconds: (cadence: Cadence) => number
  /** @param tookMs how long ago the look began */
  readonly onFound: (section: ReportedName, value: Sections[ReportedName] | null, tookMs: number) => void
  /** What is neither an answer nor a failed probe: a defect of the agent. */
  readonly onDefect: (cause: unknown) => void
  readonly timers: Timers
  /** ms, never set back */
  readonly clock: () => number
  readonly log: Log
}

export interface Schedule {
  /** Runs some probes, or all but those slow ones that have just looked, now. Resolves when those that are not slow have given an answer that they began to look for after this was asked. */
  look(section?: ReportedName): Promise<void>
  /** The cadences have changed: what is due by the new ones is looked at now. */
  rearm(): void
  close(): Promise<void>
}

/** Everybody may be asked to look at once (an edit of the rules): what is slow is not done again so soon after. */
const SLOW_REST_MS = 60_000
/** A look that takes longer hangs: at a home over a dead network, a tool that waits for ever. Whoever starts the agent waits for those that are not slow. */
const LOOK_LIMIT_MS = { slow: 600_000, other: 60_000 }

interface Run {
  /** When its last look ended, by `clock`; before the first, when it was made. */
  lookedAt: number
  looked: boolean
  running: Promise<void> | null
  next: Promise<void> | null
  /** Its last look was given up and has not come back. It holds a thread, perhaps for ever, so that there is never a second one. */
  lost: boolean
  cancelTimer: () => void
}

export function scheduleProbes({ probes, everySeconds, onFound, onDefect, timers, clock, log }: ScheduleOptions): Schedule {
  const runs = new Map<Probe, Run>(probes.map((probe) => [probe, { lookedAt: clock(), looked: false, running: null, next: null, lost: false, cancelTimer: () => {} }]))
  let closed = false

  async function lookOnce(probe: Probe): Promise<Sections[ReportedName] | null> {
    try {
      return await probe.collect()
    } catch (cause) {
      // One probe that trips over an odd machine must not silence the others: its section becomes unknown, and that is visible.
      log.error({ event: 'probe-failed', section: probe.section, reason: String(cause) }, 'A probe failed; its section is not known now.')
      return null
    }
  }

  async function lookWithin(probe: Probe, run: Run): Promise<Sections[ReportedName] | null> {
    const looking = lookOnce(probe)
    const { promise: late, resolve } = Promise.withResolvers<'late'>()
    const ends = clock() + LOOK_LIMIT_MS[probe.slow === true ? 'slow' : 'other']
    let cancel = () => {}
    // By both clocks: a machine that slept has not looked meanwhile.
    const limit = (): void => {
      const leftMs = ends - clock()
      if (leftMs <= 0) resolve('late')
      else cancel = timers.after(leftMs, limit)
    }
    limit()
    const first = await Promise.race([looking, late]).finally(() => cancel())
    if (first !== 'late') return first
    log.error({ event: 'probe-hangs', section: probe.section }, 'A probe does not come back; its section is not known until it does.')
    run.lost = true
    looking.then(() => {
      run.lost = false
      return start(probe, run)
    }).catch(onDefect)
    return null
  }

  async function collect(probe: Probe, run: Run): Promise<void> {
    run.cancelTimer()
    const begun = clock()
    const value = await lookWithin(probe, run)
    if (closed) return
    run.lookedAt = clock()
    run.looked = true
    arm(probe, run)
    onFound(probe.section, value, run.lookedAt - begun)
  }

  function arm(probe: Probe, run: Run): void {
    run.cancelTimer()
    run.cancelTimer = timers.after(Math.max(0, run.lookedAt + everySeconds(probe.cadence) * 1000 - clock()), () => { start(probe, run).catch(onDefect) })
  }

  /** A look under way may have read what has changed since: whoever asks meanwhile gets the next one, and all of them the same. */
  function start(probe: Probe, run: Run): Promise<void> {
    if (closed || run.lost) return Promise.resolve()
    if (run.running === null) {
      run.running = collect(probe, run).finally(() => { run.running = null })
      return run.running
    }
    return run.next ??= run.running.catch(() => undefined).then(() => { // whoever asked for that one hears of it
      run.next = null
      return start(probe, run)
    })
  }

  return {
    async look(section) {
      const rests = ([probe, run]: [Probe, Run]) => probe.slow === true && run.looked && clock() - run.lookedAt < SLOW_REST_MS
      const started = [...runs].filter((each) => (section === undefined ? !rests(each) : each[0].section === section)).map(([probe, run]) => ({ probe, done: start(probe, run) }))
      for (const { probe, done } of started) if (probe.slow === true) done.catch(onDefect)
      await Promise.all(started.filter(({ probe }) => probe.slow !== true).map(({ done }) => done))
    },
    rearm() {
      for (const [probe, run] of runs) if (run.running === null && !closed) arm(probe, run)
    },
    async close() {
      closed = true
      for (const { cancelTimer } of runs.values()) cancelTimer()
      await Promise.all([...runs.values()].flatMap(({ running }) => running ?? []))
    },
  }
}
