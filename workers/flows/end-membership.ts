// What ends by time, or was ended while nobody could say so: asked by a gateway's object at each alarm. A socket that was let in once is not let in for ever.
import type { GatewayRow } from '../../schema/gateway.ts'
import { gatewayBySerial } from '../../schema/queries/follow-log.ts'
import { makeContext } from '../context.ts'
import { readConfig, type Env } from '../env.ts'
import { deauthoriseGateway } from './gateways.ts'
import { endStaleSights } from './sights.ts'

export const VOUCHING_LAPSED = 'The time for which the root gateway vouched is over.'

export type Reviewed = { readonly isMember: true; readonly gateway: GatewayRow } | { readonly isMember: false; readonly reason: string }

export async function reviewMembership({ env, waitUntil }: { env: Env; waitUntil(promise: Promise<unknown>): void }, serial: string): Promise<Reviewed> {
  const context = makeContext(env, readConfig(env), new Request('https://object/'), { waitUntil })
  const [gateway] = await gatewayBySerial(context.db, serial)
  if (gateway?.state !== 'authorised') return { isMember: false, reason: gateway?.reason ?? 'The gateway is not known.' }
  if (gateway.vouchedUntil !== null && gateway.vouchedUntil <= context.now()) return { isMember: false, reason: (await deauthoriseGateway(context, serial, VOUCHING_LAPSED)).reason }
  await endStaleSights(context, gateway)
  return { isMember: true, gateway }
}
