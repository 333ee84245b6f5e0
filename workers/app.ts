// The application: middleware order and mounts, nothing else.
import { Hono } from 'hono'
import { HTTPException } from 'hono/http-exception'
import { Fault } from '../protocol/faults.ts'
import { routes as adminRoutes } from './admin/routes.ts'
import { makeContext } from './context.ts'
import { routes as endpointRoutes } from './endpoint/routes.ts'
import { readConfig, type Env } from './env.ts'
import { routes as fabricRoutes } from './fabric/routes.ts'
import type { Route } from './http/mount.ts'
import { openApiDocument } from './http/openapi.ts'
import { renderFault } from './http/render-fault.ts'

export const routes: readonly Route[] = [...endpointRoutes, ...fabricRoutes, ...adminRoutes]

/** Where gateways call: who asks there for what is not there reads an answer in their envelope. */
const fabricPaths = /^\/api\/v1\/(report|fabric_device_auth|fgt|system|settings)\//

/** The application for one isolate. */
export function makeApp(): Hono<{ Bindings: Env }> {
  const app = new Hono<{ Bindings: Env }>()
  for (const { operation, answer } of routes) {
    app.on(operation.method, operation.path.replaceAll(/\{(\w+)\}/g, ':$1'), async (hono) => {
      try {
        return await answer(makeContext(hono.env, readConfig(hono.env), hono.req.raw, hono.executionCtx), hono.req.param() as Record<string, string>)
      } catch (thrown) {
        return renderFault(thrown, operation)
      }
    })
  }
  app.get('/openapi.json', (hono) => hono.json(openApiDocument(routes.map(({ operation }) => operation))))
  app.notFound((hono) => renderFault(new Fault('not_found', 'There is no such operation; see /openapi.json.'), fabricPaths.test(hono.req.path) ? { id: 'none', surface: 'fabric' } : null))
  app.onError((thrown) => renderFault(thrown instanceof HTTPException ? new Fault(thrown.status === 415 ? 'unsupported_media_type' : 'malformed', 'The request is not well formed.', { cause: thrown }) : thrown, null))
  return app
}
