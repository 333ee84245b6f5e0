// Endpoint policies, in order: which endpoint gets which profile.
import { asc, eq, inArray, sql } from 'drizzle-orm'
import { Fault } from '../../protocol/faults.ts'
import { createPolicy, deletePolicy, listPolicies, replacePolicy } from '../../protocol/operations/admin.ts'
import type { EndpointPolicy } from '../../protocol/profile.ts'
import { endpointPolicies, profiles } from '../../schema/rules.ts'
import type { Context } from '../context.ts'
import { announceToAgents } from '../flows/announce.ts'
import { bumpState, states } from '../flows/states.ts'
import { ensureDefaults } from '../flows/first-use.ts'
import { handle, type Route } from '../http/mount.ts'
import { pageOf } from './paging.ts'

type Row = typeof endpointPolicies.$inferSelect
const shown = ({ id, name, enabled, position, groups, profileId, offFabricProfileId }: Row): EndpointPolicy =>
  ({ id, name, enabled, position, groups: JSON.parse(groups) as string[], profileId, ...(offFabricProfileId === null ? {} : { offFabricProfileId }) })
/** Sorts as the list does: position, then id. */
const cursorOf = ({ position, id }: Row) => `${String(position).padStart(8, '0')}/${id}`
const order = sql`printf('%08d', ${endpointPolicies.position}) || '/' || ${endpointPolicies.id}`

async function save(context: Context, id: string, input: Omit<EndpointPolicy, 'id'>): Promise<EndpointPolicy> {
  const { profileId, offFabricProfileId } = input
  const named = [profileId, ...(offFabricProfileId === undefined ? [] : [offFabricProfileId])]
  const refused = (pointer: string) => new Fault('invalid', 'There is no such profile.', { errors: [{ pointer, detail: 'names no profile' }] })
  const known = await context.db.select({ id: profiles.id }).from(profiles).where(inArray(profiles.id, named))
  for (const [pointer, id] of [['/profileId', profileId], ['/offFabricProfileId', offFabricProfileId ?? profileId]] as const) if (!known.some((profile) => profile.id === id)) throw refused(pointer)
  const now = context.now()
  const row: Row = { id, name: input.name, enabled: input.enabled, position: input.position, groups: JSON.stringify(input.groups), profileId, updatedAt: now, offFabricProfileId: offFabricProfileId ?? null }
  const [saved] = await context.db.batch([
    // Guarded: the profile may be removed meanwhile, and a policy of none would give its endpoints nothing.
    context.db.insert(endpointPolicies).select(sql`SELECT ${id}, ${row.name}, ${row.enabled ? 1 : 0}, ${row.position}, ${row.groups}, ${row.profileId}, ${now}, ${row.offFabricProfileId}
      WHERE NOT EXISTS (SELECT 1 FROM json_each(${JSON.stringify(named)}) j WHERE j.value NOT IN (SELECT id FROM profiles))`)
      .onConflictDoUpdate({ target: endpointPolicies.id, set: row }),
    bumpState(context, states.configuration, now),
  ])
  if (saved.meta.changes === 0) throw refused('/profileId')
  announceToAgents(context)
  return shown(row)
}

async function find({ db }: Context, id: string): Promise<void> {
  const [row] = await db.select({ id: endpointPolicies.id }).from(endpointPolicies).where(eq(endpointPolicies.id, id))
  if (row === undefined) throw new Fault('not_found', 'There is no such endpoint policy.')
}

export const policyRoutes: Route[] = [
  handle(listPolicies, {
    async run(context, { query: { after, limit } }) {
      await ensureDefaults(context)
      const rows = await context.db.select().from(endpointPolicies).where(after === undefined ? undefined : sql`${order} > ${after}`).orderBy(asc(endpointPolicies.position), asc(endpointPolicies.id)).limit(limit + 1)
      return pageOf(rows, limit, cursorOf, shown)
    },
  }),
  handle(createPolicy, { run: (context, { body }) => save(context, crypto.randomUUID(), body) }),
  handle(replacePolicy, {
    async run(context, { params, body }) {
      await find(context, params.id)
      return await save(context, params.id, body)
    },
  }),
  handle(deletePolicy, {
    async run(context, { params }) {
      await find(context, params.id)
      await context.db.batch([context.db.delete(endpointPolicies).where(eq(endpointPolicies.id, params.id)), bumpState(context, states.configuration, context.now())])
      announceToAgents(context)
      return { ok: true as const }
    },
  }),
]
