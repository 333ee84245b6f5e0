// Invitations: made, listed, withdrawn. The code is shown once and stored as a hash.
import { desc, eq, sql } from 'drizzle-orm'
import { newSecret, secretHash } from '../../identity/keys.ts'
import { Fault } from '../../protocol/faults.ts'
import { INVITATION_PREFIX, writeInvitation } from '../../protocol/invitation.ts'
import { createInvitation, listInvitations, withdrawInvitation } from '../../protocol/operations/admin.ts'
import { invitations } from '../../schema/invitation.ts'
import type { Context } from '../context.ts'
import { authorityRows } from '../flows/authority.ts'
import { handle, type Route } from '../http/mount.ts'
import { pageOf } from './paging.ts'

const used = sql<number>`(SELECT count(*) FROM invitation_spends s WHERE s.invitation_id = ${invitations.id})`
/** Sorts as the list does: two made in the same millisecond by id. */
const order = sql<string>`printf('%016d', ${invitations.createdAt}) || '/' || ${invitations.id}`
type Row = typeof invitations.$inferSelect
const shown = ({ id, name, uses, group, expiresAt, createdAt, ownership }: Row, spent: number) => ({ id, name, uses, used: spent, group, expiresAt, createdAt, ownership })

/** The origin that an invitation names. Whoever is invited verifies TLS, so it must be https. */
export function requireTls({ origin }: Context): string {
  if (!origin.startsWith('https:')) throw new Fault('invalid', 'This EMS is reached without TLS: set PUBLIC_ORIGIN to the https address by which agents and gateways reach it.')
  return origin
}

export const invitationRoutes: Route[] = [
  handle(createInvitation, {
    async run(context, { body }) {
      const ems = requireTls(context)
      const [[active], code, now] = [await authorityRows(context), newSecret(), context.now()]
      const row: Row = { id: crypto.randomUUID(), codeHash: await secretHash(code), name: body.name, group: body.group, uses: body.uses, expiresAt: now + body.expiresInSeconds * 1000, createdAt: now, withdrawnAt: null, ownership: body.ownership }
      await context.db.insert(invitations).values(row)
      return { ...shown(row, 0), text: writeInvitation(INVITATION_PREFIX, { ems, pin: active.pin, code }) }
    },
  }),
  handle(listInvitations, {
    async run({ db }, { query: { after, limit } }) {
      const rows = await db.select({ row: invitations, used }).from(invitations).where(after === undefined ? undefined : sql`${order} < ${after}`).orderBy(desc(order)).limit(limit + 1)
      return pageOf(rows, limit, ({ row: { createdAt, id } }) => `${String(createdAt).padStart(16, '0')}/${id}`, ({ row, used: spent }) => shown(row, spent))
    },
  }),
  handle(withdrawInvitation, {
    async run({ db, now }, { params }) {
      const done = await db.update(invitations).set({ withdrawnAt: now() }).where(eq(invitations.id, params.id))
      if (done.meta.changes === 0) throw new Fault('not_found', 'There is no such invitation.')
      return { ok: true as const }
    },
  }),
]
