// Why a gateway decided as it did: the gateway's own record of it, joined with why the endpoint has or lacks the tags that decided it.
import type { Decision, DecisionExplanation } from '../../protocol/decisions.ts'
import { Fault } from '../../protocol/faults.ts'
import { gatewayOfDecision } from '../../protocol/ids.ts'
import { gatewayBySerial } from '../../schema/queries/follow-log.ts'
import type { Context } from '../context.ts'
import { explainTags } from './explain.ts'

/** @param about only a decision about this endpoint; one about another is as unknown as one that was never taken */
export async function explainOneDecision(context: Context, id: string, about?: string): Promise<DecisionExplanation> {
  const decision = await ask(context, id)
  if (decision === null || (about !== undefined && decision.uid !== about)) throw new Fault('not_found', 'No gateway that is connected knows that decision.')
  const tagUids = decision.tags.flatMap(({ uid }) => uid ?? [])
  return { decision, tags: decision.uid === null || tagUids.length === 0 ? [] : await explainTags(context, decision.uid, tagUids) }
}

/** Asked is only a gateway of ours, and believed is only what it says about its own decisions. */
async function ask({ db, env }: Context, id: string): Promise<Decision | null> {
  const serial = gatewayOfDecision(id)
  const [gateway] = await gatewayBySerial(db, serial)
  if (gateway?.state !== 'authorised') return null
  const decision = await env.FCM_NOTIFY.getByName(serial).explainDecision(id)
  return decision?.id === id && decision.gateway === serial ? decision : null
}
