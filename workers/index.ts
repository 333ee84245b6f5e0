// The Worker's entry: requests, the cron trigger, and the classes of its objects.
import { makeApp } from './app.ts'
import type { Env } from './env.ts'
import { keepHouse } from './flows/keep-house.ts'

export { EndpointChannel } from '../durable-objects/endpoint-channel.ts'
export { FcmNotify } from '../durable-objects/fcm-notify.ts'
export { ReEvaluation } from '../durable-objects/re-evaluation.ts'

const app = makeApp()
export default { fetch: app.fetch, scheduled: (_, env) => keepHouse(env, Date.now()) } satisfies ExportedHandler<Env>
