// What an endpoint may ask about itself: its tags and decisions about it, explained.
import { forDevice } from '../../domain/tagging/assigned.ts'
import { withoutShadow } from '../../domain/tagging/explain.ts'
import { Fault } from '../../protocol/faults.ts'
import { ownDecision, ownTag, ownTags } from '../../protocol/operations/endpoint.ts'
import type { TagExplanation } from '../../protocol/rules.ts'
import { explainOneTag, explainTags } from '../flows/explain.ts'
import { explainOneDecision } from '../flows/explain-decision.ts'
import { handle, type Route } from '../http/mount.ts'

/** What of it is for the device to read; a tag that is reported only is not. */
const own = (explained: TagExplanation): TagExplanation[] => {
  const told = withoutShadow(forDevice(explained))
  return told === null ? [] : [told]
}

export const explainRoutes: Route[] = [
  handle(ownTags, { run: async (context) => ({ tags: (await explainTags(context, context.caller.uid)).flatMap(own) }) }),
  handle(ownTag, {
    async run(context, { params }) {
      const [explained] = own(await explainOneTag(context, context.caller.uid, params.tag))
      if (explained === undefined) throw new Fault('not_found', 'There is no such tag.')
      return explained
    },
  }),
  handle(ownDecision, {
    async run(context, { params }) {
      const explained = await explainOneDecision(context, params.id, context.caller.uid)
      return { ...explained, tags: explained.tags.flatMap(own) }
    },
  }),
]
