// What a handler works with: bindings, settings, clock, and who calls.
import { drizzle, type DrizzleD1Database } from 'drizzle-orm/d1'
import type { SignedCaller } from '../identity/request-signature.ts'
import { ipAddress } from '../protocol/facts.ts'
import { unprintable } from '../protocol/text.ts'
import type { EndpointRow } from '../schema/endpoint.ts'
import type { GatewayRow } from '../schema/gateway.ts'
import type { Config, Env } from './env.ts'

export type KnownCaller =
  | { readonly kind: 'nobody' }
  | { readonly kind: 'administrator' }
  /** Joining: a bare key that proved itself. */
  | { readonly kind: 'key'; readonly signed: SignedCaller }
  | { readonly kind: 'endpoint'; readonly uid: string; readonly signed: SignedCaller; readonly endpoint: EndpointRow }
  | { readonly kind: 'gateway'; readonly serial: string; readonly signed: SignedCaller; readonly gateway: GatewayRow }

export interface Context<C extends KnownCaller = KnownCaller> {
  readonly env: Env
  readonly config: Config
  readonly db: DrizzleD1Database
  readonly now: () => number
  readonly request: Request
  /** Origin under which this EMS is reached. */
  readonly origin: string
  readonly caller: C
  waitUntil(promise: Promise<unknown>): void
}

export function makeContext(env: Env, config: Config, request: Request, execution: { waitUntil(promise: Promise<unknown>): void }): Context<{ kind: 'nobody' }> {
  return {
    env, config, request, db: drizzle(env.DB), now: Date.now, caller: { kind: 'nobody' },
    origin: config.publicOrigin ?? new URL(request.url).origin, waitUntil: (promise) => { execution.waitUntil(promise) },
  }
}

/**
 * Where a request comes from, as the platform tells; null where it does not. Only an edge that sets it keeps clients from writing that header
 * themselves, so what is no address is nobody's.
 */
export function sourceOf({ headers }: Request): string | null {
  const told = ipAddress.safeParse(headers.get('cf-connecting-ip'))
  return told.success ? told.data : null
}

/** What JSON leaves as it is and a terminal or an editor does not: C1 controls, direction marks, line separators. */
const deceptive = new RegExp(unprintable, 'gu')
/** One JSON line per event; the platform keeps standard output as the log. Nothing in it can forge a line or hide a part of one: it is escaped. */
export function logEvent(event: string, fields: Record<string, unknown>): void {
  console.log(JSON.stringify({ event, at: new Date().toISOString(), ...fields }).replaceAll(deceptive, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`))
}
