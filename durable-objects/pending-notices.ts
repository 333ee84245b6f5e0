// When a gateway is told of what its follower heard: a small change at once, a burst once a second. What waits meanwhile is kept small.
import type { Cursor } from './follow.ts'
import type { Heard } from './follower.ts'
import type { LogRow } from './log-entry.ts'

/** From a notice to the next, where one of them is of a burst: a second, and a tenth for the way, on which frames come closer together. */
export const TELL_EVERY_MS = 1_100
const SECOND_MS = 1_000
/** Endpoints (or whatever else a row of the log speaks of) that change within a second: more are a burst, whatever the gateway keeps up with. */
export const CALM_ENDPOINTS = 10
/** Rows that wait; above this only the tables they changed are remembered, and the gateway pulls. */
const MAX_ROWS = 1_000

export type Told = Extract<Heard, { kind: 'told' }>
/** What has not been told yet, as one step. `isWhole` is false when rows were dropped: then no increment may be made of the rest. */
export interface Waiting extends Omit<Told, 'kind'> { readonly isWhole: boolean }

/** ms, and one delay: `after` answers with what takes it back. */
export interface Clock {
  now(): number
  after(delayMs: number, action: () => void): () => void
}
export const objectClock: Clock = {
  now: Date.now,
  after(delayMs, action) {
    const timer = setTimeout(action, delayMs)
    return () => { clearTimeout(timer) }
  },
}

interface Options {
  /** Tells all listeners, now. */
  readonly tell: (waiting: Waiting) => void
  /** Whether every listener has applied what it was told before. */
  readonly isApplied: () => boolean
  readonly clock: Clock
}

/**
 * The rule, on this object's clock, for each gateway; a notice is one frame, in which each table stands once at most.
 *
 * 1. A change is of a burst when, with it, more than {@link CALM_ENDPOINTS} endpoints have changed within the second that ends with it. What waits with
 *    such a change is told with it: then the notice is the burst's.
 * 2. A notice of a burst comes {@link TELL_EVERY_MS} or more after the notice before it, of whichever kind, and none of whichever kind follows sooner than
 *    that. So in any second in which a burst is told of, that is the only notice.
 * 3. Any other change is told at once when every listener has applied what it was told before; else when they have, or {@link TELL_EVERY_MS} after the
 *    notice before.
 *
 * Where nothing was told for so long, the first notice of a burst goes at once too. What a gateway asks for (the answer to its hello, a page) and what
 * mends a socket that was told less than the others are no notices, nor is word that nothing changed. An object that was ended begins anew with the rule.
 */
export class PendingNotices {
  readonly #options: Options
  #waiting: Waiting | null = null
  #isBurst = false
  #toldAt = -Infinity
  #burstToldAt = -Infinity
  /** What changed last, and when (ms), the oldest first: one more than are calm says all that the rule asks. */
  readonly #changed = new Map<string, number>()
  #cancel: (() => void) | null = null

  constructor(options: Options) {
    this.#options = options
  }

  get waiting(): boolean { return this.#waiting !== null }

  /** Takes what is to be told, and tells it when it is time. */
  add({ before, cursor, rows, sysinfo }: Told): void {
    const now = this.#options.clock.now()
    for (const { uid, revision } of rows) {
      const key = uid ?? String(revision)
      this.#changed.delete(key)
      this.#changed.set(key, now)
      if (this.#changed.size > CALM_ENDPOINTS + 1) this.#changed.delete(this.#changed.keys().next().value ?? '')
    }
    const held = this.#waiting
    this.#waiting = held === null ? { before, cursor, rows, sysinfo, isWhole: true } : joined(held, { cursor, rows, sysinfo })
    if (this.#isBusy(now)) this.#isBurst = true
    this.tellInTime()
  }

  /** Tells now if it is time, else as soon as it is. Called as well when a listener has applied what it was told. */
  tellInTime(): void {
    if (this.#waiting === null) return
    const waitMs = this.#waitMs(this.#options.clock.now())
    if (waitMs > 0) {
      this.#cancel?.()
      // A timer may go off early by a hair: it asks again, and tells nothing by itself.
      this.#cancel = this.#options.clock.after(waitMs, () => {
        this.#cancel = null
        this.tellInTime()
      })
      return
    }
    const waiting = this.#take()
    if (waiting !== null) this.#options.tell(waiting)
  }

  /** Nothing that waits can be told any more: listeners load anew, or are gone. */
  drop(): void { this.#take() }

  /** More endpoints than are calm have changed within the second that ends now. */
  #isBusy(now: number): boolean {
    const [oldest = -Infinity] = this.#changed.values()
    return this.#changed.size > CALM_ENDPOINTS && now - oldest < SECOND_MS
  }
  #waitMs(now: number): number {
    const left = (since: number) => {
      const passed = now - since
      // A clock that was set back must not hold up for an hour what the rule holds up for a second.
      return passed >= TELL_EVERY_MS || passed < 0 ? 0 : TELL_EVERY_MS - passed
    }
    return this.#isBurst || !this.#options.isApplied() ? left(this.#toldAt) : left(this.#burstToldAt)
  }
  #take(): Waiting | null {
    this.#cancel?.()
    this.#cancel = null
    const [held, now] = [this.#waiting, this.#options.clock.now()]
    if (held !== null && held.rows.length > 0) {
      this.#toldAt = now
      if (this.#isBurst) this.#burstToldAt = now
    }
    this.#waiting = null
    this.#isBurst = false
    return held
  }
}

function joined(held: Waiting, { cursor, rows, sysinfo }: { cursor: Cursor; rows: readonly LogRow[]; sysinfo: Waiting['sysinfo'] }): Waiting {
  const all = [...held.rows, ...rows]
  if (held.isWhole && all.length <= MAX_ROWS) return { before: held.before, cursor, rows: all, sysinfo: { ...held.sysinfo, ...sysinfo }, isWhole: true }
  const last = new Map(all.flatMap((row) => row.tables.map((table) => [table, row] as const)))
  return { before: held.before, cursor, rows: [...last].map(([table, { revision, mark, at }]) => ({ revision, mark, at, uid: null, tables: [table], entry: null, sights: null })), sysinfo: {}, isWhole: false }
}
