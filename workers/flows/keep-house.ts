// What the cron trigger does: trims the change log, and works off what a lost hint or alarm would leave undone.
import { dropEndedRevocations } from '../../schema/queries/revoked.ts'
import { lapsedGateways } from '../../schema/queries/interest.ts'
import { trimLog } from '../../schema/queries/trim-log.ts'
import { makeContext } from '../context.ts'
import { readConfig, type Env } from '../env.ts'
import { VOUCHING_LAPSED } from './end-membership.ts'
import { deauthoriseGateway } from './gateways.ts'
import { tidyPackages } from './tidy-packages.ts'
import { sweepSights } from './sights.ts'

const KEPT_MS = 7 * 86_400_000
/** Rows in one statement, and statements in one run: what is left is for the next. */
const ROWS = 5_000
const STATEMENTS = 20

/** @param now ms */
export async function keepHouse(env: Env, now: number): Promise<void> {
  const context = { ...makeContext(env, readConfig(env), new Request('https://cron/'), { waitUntil: () => undefined }), now: () => now }
  const { db } = context
  for (let statement = 0; statement < STATEMENTS; statement++) {
    const { meta } = await trimLog(db, now - KEPT_MS, ROWS)
    if (meta.changes < ROWS) break
  }
  await tidyPackages({ db }, now)
  await env.RE_EVALUATION.getByName('one').start()
  for (const { serial } of await lapsedGateways(db, now)) await deauthoriseGateway(context, serial, VOUCHING_LAPSED)
  await sweepSights(context)
  await dropEndedRevocations(db, now)
}
