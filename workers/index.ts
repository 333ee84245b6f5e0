// The Worker's entry: requests, and the classes of its objects.
import { makeApp } from './app.ts'
import type { Env } from './env.ts'

export { EndpointChannel } from '../durable-objects/endpoint-channel.ts'
export { FcmNotify } from '../durable-objects/fcm-notify.ts'
export { ReEvaluation } from '../durable-objects/re-evaluation.ts'

const app = makeApp()
export default { fetch: app.fetch } satisfies ExportedHandler<Env>
