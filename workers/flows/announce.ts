// Tells agents and gateways that what an administrator set has changed. Hints: whoever misses one learns it by its next report, or from the log.
import { insertMarker } from '../../schema/queries/follow-log.ts'
import { authorisedGateways } from '../../schema/queries/interest.ts'
import { logTail } from '../../schema/queries/log-tail.ts'
import { logEvent, type Context } from '../context.ts'
import { versionsOf } from './documents.ts'
import { selectStates } from './states.ts'
import { newMark } from './commit-endpoint.ts'
import { pokeGateways } from './poke.ts'

const SHARDS = Array.from('0123456789abcdef')

/** Tells every connected agent which documents are the newest. Not to report: an edit must not set every laptop to work. */
export function announceToAgents(context: Context): void {
  const { env, waitUntil } = context
  waitUntil((async () => {
    const versions = versionsOf(await selectStates(context))
    await Promise.all(SHARDS.map((shard) => env.ENDPOINT_CHANNEL.getByName(shard).announce(versions)))
  })())
}

/**
 * Sends every connected agent the list of CAs and of revoked certificates of gateways, signed for it. They fetch nothing: the database
 * is read once for each shard, however many agents there are, and nobody goes on trusting a gateway until its turn to ask has come.
 */
export function sendAuthoritiesToAgents({ env, waitUntil }: Pick<Context, 'env' | 'waitUntil'>): void {
  waitUntil((async () => {
    const sent = await Promise.allSettled(SHARDS.map((shard) => env.ENDPOINT_CHANNEL.getByName(shard).sendAuthorities()))
    for (const each of sent) if (each.status === 'rejected') logEvent('authorities-not-sent', { cause: each.reason instanceof Error ? each.reason.message : String(each.reason) })
  })())
}

/** The row of the log that says that tags themselves changed; in the same batch as the change. */
export const tagsChanged = ({ db, now }: Context) => insertMarker(db, { mark: newMark(), at: now(), tables: 'host_tags' })

/** Tells every authorised gateway what the log says now. */
export async function announceToGateways(context: Context): Promise<void> {
  const [gateways, tail] = await context.db.batch([authorisedGateways(context.db), logTail(context.db)])
  await pokeGateways(context, gateways, tail)
}
