// When a gateway is told of what its follower heard: the first change at once, a burst once a second. What waits meanwhile is kept small.
import type { Cursor } from './follow.ts'
import type { Heard } from './follower.ts'
import type { LogRow } from './log-entry.ts'

export const TELL_EVERY_MS = 1_000
/** Endpoints that change within a second: more are a burst, whatever the gateway keeps up with. */
const CALM_ENDPOINTS = 10
/** Rows that wait; above this only the tables they changed are remembered, and the gateway pulls. */
const MAX_ROWS = 1_000

export type Told = Extract<Heard, { kind: 'told' }>
/** What has not been told yet, as one step. `isWhole` is false when rows were dropped: then no increment may be made of the rest. */
export interface Waiting extends Omit<Told, 'kind'> { readonly isWhole: boolean }

export class PendingNotices {
  #waiting: Waiting | null = null
  #toldAt = 0
  #secondBegan = 0
  readonly #changed = new Set<string>()

  get waiting(): boolean { return this.#waiting !== null }

  add({ before, cursor, rows, sysinfo }: Told, now: number): void {
    if (now - this.#secondBegan >= TELL_EVERY_MS) {
      this.#secondBegan = now
      this.#changed.clear()
    }
    for (const { uid } of rows) if (uid !== null && this.#changed.size <= CALM_ENDPOINTS) this.#changed.add(uid)
    const held = this.#waiting
    this.#waiting = held === null ? { before, cursor, rows, sysinfo, isWhole: true } : joined(held, { cursor, rows, sysinfo })
  }

  /**
   * How long to wait yet (ms); 0: tell now.
   * @param isApplied every listener has applied what it was told before
   */
  waitFor(now: number, isApplied: boolean): number {
    const isCalm = isApplied && this.#changed.size <= CALM_ENDPOINTS
    return isCalm ? 0 : Math.max(0, this.#toldAt + TELL_EVERY_MS - now)
  }

  /** Takes what waits, to be told now. */
  take(now: number): Waiting | null {
    const held = this.#waiting
    this.#waiting = null
    if (held !== null && held.rows.length > 0) this.#toldAt = now
    return held
  }
}

function joined(held: Waiting, { cursor, rows, sysinfo }: { cursor: Cursor; rows: readonly LogRow[]; sysinfo: Waiting['sysinfo'] }): Waiting {
  const all = [...held.rows, ...rows]
  if (held.isWhole && all.length <= MAX_ROWS) return { before: held.before, cursor, rows: all, sysinfo: { ...held.sysinfo, ...sysinfo }, isWhole: true }
  const last = new Map(all.flatMap((row) => row.tables.map((table) => [table, row] as const)))
  return { before: held.before, cursor, rows: [...last].map(([table, { revision, mark, at }]) => ({ revision, mark, at, uid: null, tables: [table], entry: null, sights: null })), sysinfo: {}, isWhole: false }
}
