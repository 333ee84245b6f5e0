// Agents that came on the fabric or left it are told that another profile may be theirs. Hints: whoever misses one learns it by its next report.
import { sql } from 'drizzle-orm'
import { endpoints } from '../../schema/endpoint.ts'
import type { ComputedEndpoint } from '../../schema/queries/guarded-many.ts'
import type { Context } from '../context.ts'
import { versionsFor } from './documents.ts'
import { selectStates } from './states.ts'

const SPREAD_MS_EACH = 10

/** Only where a policy has another profile for that: else nobody's profile is newer, and nobody is told. */
export function tellProfiles(context: Context, computed: readonly ComputedEndpoint[]): void {
  const uids = computed.flatMap(({ uid, fabric }) => (fabric?.moved === true ? [uid] : []))
  if (uids.length === 0) return
  const { db, env } = context
  context.waitUntil((async () => {
    const [states, rows] = await db.batch([selectStates(context), db.select({ uid: endpoints.uid, profileMovedAt: endpoints.profileMovedAt }).from(endpoints)
      .where(sql`${endpoints.uid} IN (SELECT value FROM json_each(${JSON.stringify(uids)})) AND ${endpoints.profileMovedAt} IS NOT NULL`)])
    await Promise.all(rows.map(({ uid, profileMovedAt }) => env.ENDPOINT_CHANNEL.getByName(uid.slice(0, 1)).push(uid, { type: 'newer', versions: versionsFor(states, { profileMovedAt }), spreadMs: rows.length * SPREAD_MS_EACH })))
  })())
}
