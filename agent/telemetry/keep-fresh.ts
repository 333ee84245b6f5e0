// Has sections looked at again in time for the rules that want them fresh, whatever the profile's cadence. What is found is reported like any other look's.
import { LOOK_AFTER, LOOK_SPREAD, type Demands } from '../../domain/tagging/demand.ts'
import type { ReportedName } from '../../protocol/facts.ts'
import type { Timers } from '../../node/timers.ts'

export interface KeepFreshOptions {
  readonly demands: () => Demands
  /** When the EMS last learned how a section is (ms, EMS clock); null: not since this start. */
  readonly knownAt: (section: ReportedName) => number | null
  readonly look: (section: ReportedName) => Promise<void>
  /** ms, EMS clock */
  readonly now: () => number
  readonly timers: Timers
  readonly onDefect: (cause: unknown) => void
  /** 0 ≤ x < 1: a fleet that got the same rules at once must not look at once for ever. */
  readonly random?: () => number
}

/** A look that brought nothing (it is slow, it failed, the EMS is away) is not made again sooner than this part of the time demanded. */
const AGAIN_AFTER = 0.25
/** Sections that nobody knows the age of are looked at within this part. */
const FIRST_WITHIN = 0.05
/** The clock may be set meanwhile, and a timer has an end. */
const LONGEST_MS = 6 * 3_600_000

/** Begins with the present demands; `rearm` when they may have changed. */
export function keepFresh({ demands, knownAt, look, now, timers, onDefect, random = Math.random }: KeepFreshOptions): { rearm(): void; close(): void } {
  const cancel = new Map<ReportedName, () => void>()

  function wakeAfter(section: ReportedName, delayMs: number): void {
    cancel.set(section, timers.after(Math.min(LONGEST_MS, Math.max(0, delayMs)), () => { wake(section) }))
  }
  function wake(section: ReportedName): void {
    const seconds = demands()[section]
    if (seconds === undefined) return
    const known = knownAt(section)
    const leftMs = known === null ? 0 : known + seconds * 1000 * (LOOK_AFTER + LOOK_SPREAD * random()) - now()
    // A clock that was set back must not make it wait for longer than it would have.
    if (leftMs > 0 && known !== null && known <= now() + seconds * 1000) return wakeAfter(section, leftMs)
    look(section).catch(onDefect)
    wakeAfter(section, seconds * 1000 * AGAIN_AFTER)
  }
  function stop(): void {
    for (const each of cancel.values()) each()
    cancel.clear()
  }
  function rearm(): void {
    stop()
    for (const [section, seconds] of Object.entries(demands()) as [ReportedName, number][]) wakeAfter(section, seconds * 1000 * FIRST_WITHIN * random())
  }
  rearm()
  return { rearm, close: stop }
}
