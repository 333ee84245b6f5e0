// What an endpoint may ask about itself: its tags, each explained.
import { ownTag, ownTags } from '../../protocol/operations/endpoint.ts'
import { explainOneTag, explainTags } from '../flows/explain.ts'
import { handle, type Route } from '../http/mount.ts'

export const explainRoutes: Route[] = [
  handle(ownTags, { run: async (context) => ({ tags: await explainTags(context, context.caller.uid) }) }),
  handle(ownTag, { run: (context, { params }) => explainOneTag(context, context.caller.uid, params.tag) }),
]
