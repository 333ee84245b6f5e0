// Invitations: made, listed, withdrawn. The code is shown once and stored as a hash.
import { and, desc, eq, lt, sql } from 'drizzle-orm'
import { newSecret, secretHash } from '../../identity/keys.ts'
import { Fault } from '../../protocol/faults.ts'
import { INVITATION_PREFIX, writeInvitation } from '../../protocol/invitation.ts'
import { createInvitation, listInvitations, withdrawInvitation } from '../../protocol/operations/admin.ts'
import { invitations } from '../../schema/invitation.ts'
import { authorityRows } from '../flows/authority.ts'
import { handle, type Route } from '../http/mount.ts'
import { pageOf } from './paging.ts'

const used = sql<number>`(SELECT count(*) FROM invitation_spends s WHERE s.invitation_id = ${invitations.id})`
type Row = typeof invitations.$inferSelect
const shown = ({ id, name, uses, group, expiresAt, createdAt }: Row, spent: number) => ({ id, name, uses, used: spent, group, expiresAt, createdAt })

export const invitationRoutes: Route[] = [
  handle(createInvitation, {
    async run(context, { body }) {
      const [[active], code, now] = [await authorityRows(context), newSecret(), context.now()]
      const row: Row = { id: crypto.randomUUID(), codeHash: await secretHash(code), name: body.name, group: body.group, uses: body.uses, expiresAt: now + body.expiresInSeconds * 1000, createdAt: now, withdrawnAt: null }
      await context.db.insert(invitations).values(row)
      return { ...shown(row, 0), text: writeInvitation(INVITATION_PREFIX, { ems: context.origin, pin: active.pin, code }) }
    },
  }),
  handle(listInvitations, {
    async run({ db }, { query: { after, limit } }) {
      const before = after === undefined ? undefined : lt(invitations.createdAt, Number(after))
      const rows = await db.select({ row: invitations, used }).from(invitations).where(before).orderBy(desc(invitations.createdAt)).limit(limit + 1)
      return pageOf(rows, limit, ({ row }) => String(row.createdAt), ({ row, used: spent }) => shown(row, spent))
    },
  }),
  handle(withdrawInvitation, {
    async run({ db, now }, { params }) {
      const done = await db.update(invitations).set({ withdrawnAt: now() }).where(and(eq(invitations.id, params.id)))
      if (done.meta.changes === 0) throw new Fault('not_found', 'There is no such invitation.')
      return { ok: true as const }
    },
  }),
]
