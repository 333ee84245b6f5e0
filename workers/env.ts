// The Worker's bindings and settings, parsed once at the door.
import { Fault } from '../protocol/faults.ts'
import { parseWrappingKeys, type WrappingKeys } from '../identity/wrapping.ts'
import type { EndpointChannel } from '../durable-objects/endpoint-channel.ts'
import type { FcmNotify } from '../durable-objects/fcm-notify.ts'
import type { ReEvaluation } from '../durable-objects/re-evaluation.ts'

export interface Env {
  readonly DB: D1Database
  readonly FCM_NOTIFY: DurableObjectNamespace<FcmNotify>
  readonly ENDPOINT_CHANNEL: DurableObjectNamespace<EndpointChannel>
  readonly RE_EVALUATION: DurableObjectNamespace<ReEvaluation>
  readonly ADMIN_TOKEN?: string
  readonly WRAPPING_KEYS?: string
  readonly PUBLIC_ORIGIN?: string
  /** ms; see {@link Config.currentEveryMs}. */
  readonly CURRENT_EVERY_MS?: string
}

export interface Config {
  /** null: no administrator can be authenticated until the secret is set. */
  readonly adminToken: string | null
  readonly wrappingKeys: WrappingKeys
  /** Origin under which agents and gateways reach this EMS; null: the one of the request. */
  readonly publicOrigin: string | null
  /** ms: how often a listening gateway's object reads the head of the log: what a lost poke can delay. */
  readonly currentEveryMs: number
}

const MIN_TOKEN_LENGTH = 32

// Parsing the wrapping keys anew would be a twentieth of the price of each request.
const parsed = new WeakMap<Env, Config>()
/** The settings; read once for each set of bindings. */
export function readConfig(env: Env): Config {
  const config = parsed.get(env) ?? parseConfig(env)
  parsed.set(env, config)
  return config
}

/** A secret that is set but unusable is an error, never the same as none. */
function parseConfig(env: Env): Config {
  const adminToken = env.ADMIN_TOKEN === undefined || env.ADMIN_TOKEN === '' ? null : env.ADMIN_TOKEN
  if (adminToken !== null && adminToken.length < MIN_TOKEN_LENGTH) throw new Fault('internal', 'The EMS is not configured rightly.', { cause: new Error(`ADMIN_TOKEN must have ${MIN_TOKEN_LENGTH} characters or more`) })
  return { adminToken, wrappingKeys: parseWrappingKeys(env.WRAPPING_KEYS ?? ''), publicOrigin: env.PUBLIC_ORIGIN === undefined || env.PUBLIC_ORIGIN === '' ? null : httpsOrigin(env.PUBLIC_ORIGIN), currentEveryMs: milliseconds(env.CURRENT_EVERY_MS ?? '60000') }
}

function milliseconds(text: string): number {
  if (!/^[1-9]\d{2,6}$/.test(text)) throw new Fault('internal', 'The EMS is not configured rightly.', { cause: new Error('CURRENT_EVERY_MS must be a number of milliseconds, 100 or more') })
  return Number(text)
}

function httpsOrigin(text: string): string {
  const url = URL.parse(text)
  if (url?.protocol !== 'https:') throw new Fault('internal', 'The EMS is not configured rightly.', { cause: new Error('PUBLIC_ORIGIN must be an https origin, like https://ems.example.com') })
  return url.origin
}
