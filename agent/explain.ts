// Explains a tag or a decision to the user of this machine: by the EMS where it answers, else by what the agent itself saw.
import type { ControlClient } from '../node/control-client.ts'
import { Fault } from '../protocol/faults.ts'
import { decisionId, uuid } from '../protocol/ids.ts'
import { ownDecision, ownTag, ownTags } from '../protocol/operations/endpoint.ts'
import type { Explanation } from './local-status.ts'
import type { Denial } from './tunnel/denial.ts'

/** @param subject a decision's id, a tag's name or a tag's id. Throws a sentence for the user when nothing is known under it. */
export async function explain(subject: string, { client, denials }: { client: ControlClient; denials: readonly Denial[] }): Promise<Explanation> {
  if (decisionId.safeParse(subject).success) return await explainDecision(subject, client, denials.find(({ decision }) => decision === subject) ?? null)
  if (uuid.safeParse(subject).success) return { denial: null, decision: null, tags: [await client.call(ownTag, { params: { tag: subject } })] }
  const { tags } = await client.call(ownTags, {})
  const named = tags.filter(({ tag }) => tag.toLowerCase() === subject.toLowerCase())
  if (named.length === 0) throw new Fault('not_found', `Nothing is known under "${subject}": it is no decision's id, and there is no such tag.`)
  return { denial: null, decision: null, tags: named }
}

async function explainDecision(id: string, client: ControlClient, denial: Denial | null): Promise<Explanation> {
  try {
    const { decision, tags } = await client.call(ownDecision, { params: { id } })
    return { denial, decision, tags }
  } catch (cause) {
    // The EMS may not reach the gateway that decided. What the gateway told us is still an explanation, with why the tags are as they are.
    if (!(cause instanceof Fault) || denial === null) throw cause
    const { tags } = await client.call(ownTags, {}).catch((again: unknown) => {
      if (!(again instanceof Fault)) throw again
      return { tags: [] }
    })
    return { denial, decision: null, tags: tags.filter(({ tag }) => denial.tags.includes(tag)) }
  }
}
