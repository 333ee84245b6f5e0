// The CAs: listed, rolled over, their keys wrapped anew.
import { eq } from 'drizzle-orm'
import { unwrap, wrap, wrappedUnder } from '../../identity/wrapping.ts'
import { Fault } from '../../protocol/faults.ts'
import { listAuthorities, rewrapKeys, rollAuthority } from '../../protocol/operations/admin.ts'
import { authorities } from '../../schema/authority.ts'
import { authorityRows, forgetAuthorities, makeAuthority } from '../flows/authority.ts'
import { announceToAgents } from '../flows/announce.ts'
import { bumpState, states } from '../flows/states.ts'
import { tellAuthorities } from '../flows/tell-authorities.ts'
import { handle, type Route } from '../http/mount.ts'

const shown = (row: typeof authorities.$inferSelect, active: boolean) =>
  ({ id: row.id, active, pin: row.pin, certificate: row.certificatePem, notAfter: row.notAfter, wrappingKeyId: wrappedUnder(row.wrappedKey) })

export const authorityRoutes: Route[] = [
  handle(listAuthorities, { run: async (context) => ({ items: (await authorityRows(context)).map((row, index) => shown(row, index === 0)) }) }),
  handle(rollAuthority, {
    async run(context) {
      const [active] = await authorityRows(context)
      await makeAuthority(context, active.slot + 1, [bumpState(context, states.authorities, context.now())])
      announceToAgents(context)
      context.waitUntil(tellAuthorities(context))
      const [next] = await authorityRows(context)
      return shown(next, true)
    },
  }),
  handle(rewrapKeys, {
    async run(context) {
      const { wrappingKeys } = context.config
      let rewrapped = 0
      for (const row of await authorityRows(context)) {
        if (wrappedUnder(row.wrappedKey) === wrappingKeys.current) continue
        const [key, signer] = [await unwrap(wrappingKeys, row.wrappedKey, `ca/${row.id}`), await unwrap(wrappingKeys, row.wrappedSignerKey, `signer/${row.id}`)]
        if (key === null || signer === null) throw new Fault('ca_locked', `The key that CA ${row.id} is wrapped under is not among WRAPPING_KEYS.`)
        await context.db.update(authorities).set({ wrappedKey: await wrap(wrappingKeys, key, `ca/${row.id}`), wrappedSignerKey: await wrap(wrappingKeys, signer, `signer/${row.id}`) }).where(eq(authorities.slot, row.slot))
        rewrapped++
      }
      forgetAuthorities()
      return { rewrapped }
    },
  }),
]
