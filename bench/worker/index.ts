// The Worker as it is deployed, with the floors beside it: same isolate, same database, same authentication. Nothing of it is changed.
import { bareApp, floorRoutes } from '../floor/routes.ts'
import { bare } from '../floor/operations.ts'
import { makeContext } from '../../workers/context.ts'
import { readConfig, type Env } from '../../workers/env.ts'
import { renderFault } from '../../workers/http/render-fault.ts'
import real from '../../workers/index.ts'

export { EndpointChannel, FcmNotify, ReEvaluation } from '../../workers/index.ts'
export { FloorObject } from '../floor/object.ts'

const byPath = new Map(floorRoutes.map((route) => [route.operation.path, route]))

export default {
  async fetch(request, env, context) {
    const { pathname } = new URL(request.url)
    if (pathname === bare.path) return await bareApp.fetch(request)
    const route = byPath.get(pathname)
    if (route === undefined) return await real.fetch(request, env, context)
    try {
      return await route.answer(makeContext(env, readConfig(env), request, context), {})
    } catch (thrown) {
      return renderFault(thrown, route.operation)
    }
  },
  scheduled: real.scheduled,
} satisfies ExportedHandler<Env>
