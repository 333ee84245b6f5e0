// Who of a shard is online, as the records say, and for how long nothing was heard. The socket's ping is the only sign of life; a close is none of death.
import { CHANNEL_PING_SECONDS } from '../protocol/channel.ts'

/** How often a shard looks. */
export const SWEEP_EVERY_MS = 300_000
/** Three pings missed. */
export const SILENT_FOR_MS = 3 * CHANNEL_PING_SECONDS * 1000

/**
 * Whether an agent counts as offline.
 * @param heardAt ms, the latest sign of life of its sockets; null when it has none
 * @param closedAt ms, when a sweep or a close last saw it without a socket; null: never
 */
export function isSilent(heardAt: number | null, closedAt: number | null, now: number): boolean {
  const last = Math.max(heardAt ?? 0, closedAt ?? 0)
  return last > 0 && now - last > SILENT_FOR_MS
}

export interface Present {
  readonly uid: string
  /** ms when it was last seen without a socket; null while it has one. */
  readonly closedAt: number | null
  /** Whether the records say so already. */
  readonly written: boolean
}

/** The agents that are online, or were until the sweep says otherwise. */
export class Presence {
  readonly #sql: SqlStorage

  constructor(sql: SqlStorage) {
    this.#sql = sql
    sql.exec('CREATE TABLE IF NOT EXISTS online (uid TEXT PRIMARY KEY, closed_at INTEGER, written INTEGER NOT NULL) WITHOUT ROWID')
  }
  has(uid: string): boolean { return this.#sql.exec('SELECT 1 FROM online WHERE uid = ?', uid).toArray().length > 0 }
  add(uid: string): void { this.#sql.exec('INSERT INTO online (uid, closed_at, written) VALUES (?, NULL, 0) ON CONFLICT DO NOTHING', uid) }
  written(uid: string): void { this.#sql.exec('UPDATE online SET written = 1 WHERE uid = ?', uid) }
  remove(uid: string): void { this.#sql.exec('DELETE FROM online WHERE uid = ?', uid) }
  closed(uid: string, at: number | null): void { this.#sql.exec('UPDATE online SET closed_at = ? WHERE uid = ? AND closed_at IS NOT ?', at, uid, at) }
  all(): Present[] {
    return this.#sql.exec<{ uid: string; closed_at: number | null; written: number }>('SELECT uid, closed_at, written FROM online').toArray().map((row) => ({ uid: row.uid, closedAt: row.closed_at, written: row.written === 1 }))
  }
}
