// The benchmark's Worker with a meter on its database, its objects and their frames. For counting only: nothing is timed through it.
import { beginCounting, takeTally } from '../floor/operations.ts'
import { forgetAuthorities } from '../../workers/flows/authority.ts'
import type { Env } from '../../workers/env.ts'
import plain, { EndpointChannel as Channel, FcmNotify as Notify, FloorObject as Floor, ReEvaluation as Due } from './index.ts'
import { count, countFrames, countRows, meteredDatabase, meteredNamespaces, takeCounts } from './tally.ts'

countFrames()
const inObject = (state: DurableObjectState, env: Env): Env => {
  countRows(state)
  return { ...env, ...meteredNamespaces(env), DB: meteredDatabase(env.DB, 'objectTrips') }
}
export class FcmNotify extends Notify {
  constructor(state: DurableObjectState, env: Env) { super(state, inObject(state, env)) }
  /** The look at the head of the log once a minute is a cost of time: it must not fall into an operation that is counted. */
  override alarm(): Promise<void> { return Promise.resolve() }
}
export class EndpointChannel extends Channel {
  constructor(state: DurableObjectState, env: Env) { super(state, inObject(state, env)) }
}
export class ReEvaluation extends Due {
  constructor(state: DurableObjectState, env: Env) { super(state, inObject(state, env)) }
}
export class FloorObject extends Floor {}

export default {
  async fetch(request, env, context) {
    const { pathname } = new URL(request.url)
    if (pathname === beginCounting.path) {
      forgetAuthorities()
      return Response.json({ ok: true })
    }
    if (pathname === takeTally.path) return Response.json(takeCounts())
    if (pathname.startsWith('/api/v1/report/')) count('pulls')
    return await plain.fetch(request, { ...env, ...meteredNamespaces(env), DB: meteredDatabase(env.DB, 'trips') }, context)
  },
  scheduled: plain.scheduled,
} satisfies ExportedHandler<Env>
