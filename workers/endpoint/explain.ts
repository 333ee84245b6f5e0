// What an endpoint may ask about itself: its tags and decisions about it, explained.
import { forDevice } from '../../domain/tagging/assigned.ts'
import { ownDecision, ownTag, ownTags } from '../../protocol/operations/endpoint.ts'
import { explainOneTag, explainTags } from '../flows/explain.ts'
import { explainOneDecision } from '../flows/explain-decision.ts'
import { handle, type Route } from '../http/mount.ts'

export const explainRoutes: Route[] = [
  handle(ownTags, { run: async (context) => ({ tags: (await explainTags(context, context.caller.uid)).map(forDevice) }) }),
  handle(ownTag, { run: async (context, { params }) => forDevice(await explainOneTag(context, context.caller.uid, params.tag)) }),
  handle(ownDecision, {
    async run(context, { params }) {
      const explained = await explainOneDecision(context, params.id, context.caller.uid)
      return { ...explained, tags: explained.tags.map(forDevice) }
    },
  }),
]
