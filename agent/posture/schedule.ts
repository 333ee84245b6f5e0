// Runs each probe by its cadence, one run of a probe at a time. Fast changes come by events; this is for what has none.
import type { SectionName, Sections } from '../../protocol/facts.ts'
import type { Log } from '../../node/logging.ts'
import type { Cadence, Probe } from './probe.ts'

export interface ScheduleOptions {
  readonly probes: readonly Probe[]
  /** Seconds between looks; read before each wait, so that a new profile counts at the next. */
  readonly everySeconds: (cadence: Cadence) => number
  readonly onFound: (section: SectionName, value: Sections[SectionName] | null) => void
  /** What is neither an answer nor a failed probe: a defect of the agent. */
  readonly onDefect: (cause: unknown) => void
  readonly log: Log
}

export interface Schedule {
  /** Runs some probes, or all, now. Resolves when those that are not slow have answered. */
  look(section?: SectionName): Promise<void>
  close(): Promise<void>
}

export function scheduleProbes({ probes, everySeconds, onFound, onDefect, log }: ScheduleOptions): Schedule {
  const timers = new Map<Probe, NodeJS.Timeout>()
  const running = new Map<Probe, Promise<void>>()
  let closed = false

  async function collect(probe: Probe): Promise<void> {
    let value: Sections[SectionName] | null = null
    try {
      value = await probe.collect()
    } catch (cause) {
      // One probe that trips over an odd machine must not silence the others: its section becomes unknown, and that is visible.
      log.error({ event: 'probe-failed', section: probe.section, reason: String(cause) }, 'A probe failed; its section is not known now.')
    }
    if (closed) return
    onFound(probe.section, value)
    clearTimeout(timers.get(probe))
    const timer = setTimeout(() => void run(probe).catch(onDefect), everySeconds(probe.cadence) * 1000)
    timer.unref()
    timers.set(probe, timer)
  }

  function run(probe: Probe): Promise<void> {
    const already = running.get(probe)
    if (already !== undefined) return already
    const collecting = collect(probe).finally(() => running.delete(probe))
    running.set(probe, collecting)
    return collecting
  }

  return {
    async look(section) {
      if (closed) return
      const started = probes.filter((probe) => section === undefined || probe.section === section).map((probe) => ({ probe, done: run(probe) }))
      await Promise.all(started.filter(({ probe }) => probe.slow !== true).map(({ done }) => done))
    },
    async close() {
      closed = true
      for (const timer of timers.values()) clearTimeout(timer)
      await Promise.all(running.values())
    },
  }
}
