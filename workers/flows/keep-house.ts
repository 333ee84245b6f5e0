// What the cron trigger does: trims the change log, and wakes what a lost hint would leave asleep.
import { drizzle } from 'drizzle-orm/d1'
import { trimLog } from '../../schema/queries/trim-log.ts'
import type { Env } from '../env.ts'

const KEPT_MS = 7 * 86_400_000
/** Rows in one statement, and statements in one run: what is left is for the next. */
const ROWS = 5_000
const STATEMENTS = 20

/** @param now ms */
export async function keepHouse(env: Env, now: number): Promise<void> {
  const db = drizzle(env.DB)
  for (let statement = 0; statement < STATEMENTS; statement++) {
    const { meta } = await trimLog(db, now - KEPT_MS, ROWS)
    if (meta.changes < ROWS) break
  }
  await env.RE_EVALUATION.getByName('one').start()
}
