// FcmNotify: follows the change log for one gateway and keeps what that gateway knows. The log is the truth; this is a follower with a journal.
import { DurableObject } from 'cloudflare:workers'
import type { Env } from '../workers/env.ts'
import { readLogRow, type LogRow, type Poke, type StoredLogRow } from './log-entry.ts'
import { stepFrom, type Cursor } from './follow.ts'

/** Rows of the log read in one go when a poke does not reach back to the cursor. */
const GAP_ROWS = 1_000

export class FcmNotify extends DurableObject<Env> {
  constructor(context: DurableObjectState, env: Env) {
    super(context, env)
    context.storage.sql.exec('CREATE TABLE IF NOT EXISTS journal (revision INTEGER PRIMARY KEY, mark TEXT NOT NULL, at INTEGER NOT NULL, uid TEXT, tables TEXT NOT NULL, entry TEXT)')
  }

  /** Where this follower stands: the greatest revision it has written down. It costs no row of its own. */
  cursor(): Cursor | null {
    const [row] = this.ctx.storage.sql.exec<{ revision: number; mark: string }>('SELECT revision, mark FROM journal ORDER BY revision DESC LIMIT 1').toArray()
    return row ?? null
  }

  /** Takes a slice of the log. Resolves when everything up to its head is written down; a doubled or late poke changes nothing. */
  async poke(_serial: string, { tail }: Poke): Promise<{ revision: number }> {
    const step = stepFrom(this.cursor(), tail)
    if (step.kind === 'apply') this.write(step.rows)
    else await this.catchUp(step.kind === 'restored')
    return { revision: this.cursor()?.revision ?? 0 }
  }

  private write(rows: readonly LogRow[]): void {
    for (const { revision, mark, at, uid, tables, entry } of rows) {
      this.ctx.storage.sql.exec('INSERT INTO journal (revision, mark, at, uid, tables, entry) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING', revision, mark, at, uid, tables.join(','), entry === null ? null : JSON.stringify(entry))
    }
  }

  /** Reads the log from the cursor; with another history under it, forgets what it had and begins at the beginning. */
  private async catchUp(restored: boolean): Promise<void> {
    if (restored) this.ctx.storage.sql.exec('DELETE FROM journal')
    for (;;) {
      const cursor = this.cursor()
      const { results } = await this.env.DB.prepare('SELECT revision, mark, at, uid, tables, entry FROM change_log WHERE revision >= ? ORDER BY revision LIMIT ?').bind(cursor?.revision ?? 0, GAP_ROWS).all<StoredLogRow>()
      const [first] = results
      if (cursor !== null && (first?.revision !== cursor.revision || first.mark !== cursor.mark)) return await this.catchUp(true)
      this.write((cursor === null ? results : results.slice(1)).map(readLogRow))
      if (results.length < GAP_ROWS) return
    }
  }
}
