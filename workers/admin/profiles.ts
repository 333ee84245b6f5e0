// Profiles: what agents are configured with, by way of an endpoint policy.
import { and, asc, eq, gt, or, sql } from 'drizzle-orm'
import { Fault } from '../../protocol/faults.ts'
import { createProfile, deleteProfile, listProfiles, replaceProfile } from '../../protocol/operations/admin.ts'
import { profileSettings, type Profile } from '../../protocol/profile.ts'
import { endpointPolicies, profiles } from '../../schema/rules.ts'
import type { Context } from '../context.ts'
import { announceToAgents } from '../flows/announce.ts'
import { bumpState, states } from '../flows/states.ts'
import { ensureDefaults } from '../flows/first-use.ts'
import { handle, type Route } from '../http/mount.ts'
import { pageOf } from './paging.ts'

const shown = (row: typeof profiles.$inferSelect): Profile => ({ id: row.id, name: row.name, settings: profileSettings.parse(JSON.parse(row.settings)), updatedAt: row.updatedAt })

async function save(context: Context, id: string, input: { name: string; settings: Profile['settings'] }): Promise<Profile> {
  const now = context.now()
  const row = { id, name: input.name, settings: JSON.stringify(input.settings), updatedAt: now }
  await context.db.batch([context.db.insert(profiles).values(row).onConflictDoUpdate({ target: profiles.id, set: row }), bumpState(context, states.configuration, now)])
  announceToAgents(context)
  return shown(row)
}

async function find({ db }: Context, id: string): Promise<void> {
  const [row] = await db.select({ id: profiles.id }).from(profiles).where(eq(profiles.id, id))
  if (row === undefined) throw new Fault('not_found', 'There is no such profile.')
}

export const profileRoutes: Route[] = [
  handle(listProfiles, {
    async run(context, { query: { after, limit } }) {
      await ensureDefaults(context)
      const rows = await context.db.select().from(profiles).where(after === undefined ? undefined : gt(profiles.id, after)).orderBy(asc(profiles.id)).limit(limit + 1)
      return pageOf(rows, limit, ({ id }) => id, shown)
    },
  }),
  handle(createProfile, { run: (context, { body }) => save(context, crypto.randomUUID(), body) }),
  handle(replaceProfile, {
    async run(context, { params, body }) {
      await find(context, params.id)
      return await save(context, params.id, body)
    },
  }),
  handle(deleteProfile, {
    async run(context, { params }) {
      await find(context, params.id)
      // Guarded: a policy that names it may be made meanwhile.
      const unnamed = sql`NOT EXISTS (SELECT 1 FROM endpoint_policies WHERE ${params.id} IN (profile_id, off_fabric_profile_id))`
      const [done, [named]] = await context.db.batch([
        context.db.delete(profiles).where(and(eq(profiles.id, params.id), unnamed)),
        context.db.select({ name: endpointPolicies.name }).from(endpointPolicies).where(or(eq(endpointPolicies.profileId, params.id), eq(endpointPolicies.offFabricProfileId, params.id))).limit(1),
      ])
      if (done.meta.changes === 0 && named !== undefined) throw new Fault('conflict', `The endpoint policy "${named.name}" names this profile.`)
      return { ok: true as const }
    },
  }),
]
