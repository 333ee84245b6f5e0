// What ends by time alone for a gateway: what it saw and sees no more, and its membership when a root vouched for it until then.
import { makeContext } from '../context.ts'
import { readConfig, type Env } from '../env.ts'
import { deauthoriseGateway } from './gateways.ts'
import { endStaleSights } from './sights.ts'

export const VOUCHING_LAPSED = 'The time for which the root gateway vouched is over.'

/** Called by the gateway's object at its alarm. */
export async function endMembership({ env, waitUntil }: { env: Env; waitUntil(promise: Promise<unknown>): void }, serial: string, { vouchedUntil, sees }: { vouchedUntil: number | null; sees: boolean }): Promise<void> {
  const context = makeContext(env, readConfig(env), new Request('https://object/'), { waitUntil })
  if (sees) await endStaleSights(context, serial)
  if (vouchedUntil !== null && vouchedUntil <= context.now()) await deauthoriseGateway(context, serial, VOUCHING_LAPSED)
}
