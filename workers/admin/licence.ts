// The licence: a signed document that the organisation issues to itself.
import { eq, sql } from 'drizzle-orm'
import { licenceStateOf } from '../../domain/licensing/seat.ts'
import { issueLicence, readLicence } from '../../protocol/operations/admin.ts'
import { endpoints } from '../../schema/endpoint.ts'
import { licences } from '../../schema/rules.ts'
import type { Context } from '../context.ts'
import { signFor } from '../flows/authority.ts'
import { announceToAgents } from '../flows/announce.ts'
import { bumpState, states } from '../flows/states.ts'
import { ensureDefaults } from '../flows/first-use.ts'
import { handle, type Route } from '../http/mount.ts'

async function read(context: Context) {
  const [[row], [count]] = await context.db.batch([
    context.db.select().from(licences), context.db.select({ taken: sql<number>`count(*)` }).from(endpoints).where(eq(endpoints.registered, true)),
  ])
  if (row === undefined) throw new Error('the licence that was made can not be read back')
  return { seats: row.seats, features: JSON.parse(row.features) as string[], endsAt: row.endsAt, issuedAt: row.issuedAt, document: row.document, taken: count?.taken ?? 0 }
}

export const licenceRoutes: Route[] = [
  handle(readLicence, {
    async run(context) {
      await ensureDefaults(context)
      return await read(context)
    },
  }),
  handle(issueLicence, {
    async run(context, { body }) {
      await ensureDefaults(context)
      const now = context.now()
      const row = { seats: body.seats, features: JSON.stringify(body.features), endsAt: body.endsAt, issuedAt: now, document: await signFor(context, 'licence', '*', licenceStateOf(body, now)) }
      await context.db.batch([context.db.update(licences).set(row).where(eq(licences.id, 1)), bumpState(context, states.configuration, now)])
      announceToAgents(context)
      return await read(context)
    },
  }),
]
