// Sends each authorised gateway the list of CAs, signed for its serial. A hint: a gateway that is away learns it when it comes back, before it believes anything.
import { authorisedGateways } from '../../schema/queries/interest.ts'
import { logEvent, type Context } from '../context.ts'
import { authoritiesDocument } from './documents.ts'

/** Told at once to whoever is connected; one that can't be reached holds up nobody. */
export async function tellAuthorities(context: Context): Promise<void> {
  const told = await Promise.allSettled((await authorisedGateways(context.db)).map(async ({ serial }) => {
    await context.env.FCM_NOTIFY.getByName(serial).sendAuthorities(await authoritiesDocument(context, serial))
  }))
  for (const each of told) if (each.status === 'rejected') logEvent('authorities-not-told', { cause: each.reason instanceof Error ? each.reason.message : String(each.reason) })
}
