// A change of an endpoint that is not a report (registration, certificates, presence): loads what gateways must know, commits, tries anew on conflict.
import { eq } from 'drizzle-orm'
import type { BatchItem } from 'drizzle-orm/batch'
import { sysinfoSections } from '../../protocol/facts.ts'
import type { TableName } from '../../protocol/fabric/tables.ts'
import { Fault } from '../../protocol/faults.ts'
import { rulesState } from '../../schema/change-log.ts'
import { endpoints, type EndpointRow } from '../../schema/endpoint.ts'
import type { Guard } from '../../schema/queries/guarded.ts'
import { gatewaysConcerned } from '../../schema/queries/interest.ts'
import { logTail } from '../../schema/queries/log-tail.ts'
import type { Context } from '../context.ts'
import { commitEndpoint } from './commit-endpoint.ts'
import { pokeGateways } from './poke.ts'
import { readFacts, selectSections } from './facts.ts'
import { sysinfoRecord } from './sysinfo-record.ts'

export const RULES_STATE = 1
const ATTEMPTS = 5

export interface EndpointChange {
  readonly set: Partial<EndpointRow>
  readonly also?: (guard: Guard) => BatchItem<'sqlite'>[]
  readonly tables: readonly TableName[]
}

/**
 * @param decide from the row as it is now to the change; null: nothing to do; `tell-again`: it was done before, but the reply may
 *   have been lost, and with it a poke
 * @returns the row after it
 */
export async function changeEndpoint(context: Context, uid: string, decide: (endpoint: EndpointRow) => EndpointChange | 'tell-again' | null): Promise<EndpointRow> {
  const { db } = context
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const [rows, states, concerned, sections] = await db.batch([
      db.select().from(endpoints).where(eq(endpoints.uid, uid)), db.select().from(rulesState).where(eq(rulesState.id, RULES_STATE)), gatewaysConcerned(db, uid), selectSections(db, uid),
    ])
    const [endpoint] = rows
    if (endpoint === undefined) throw new Fault('not_found', 'There is no such endpoint.')
    const change = decide(endpoint)
    if (change === null) return endpoint
    if (change === 'tell-again') {
      await pokeGateways(context, concerned, await logTail(db))
      return endpoint
    }
    const small = new Set([...sysinfoSections, 'vulnerabilities'])
    const committed = await commitEndpoint(context, {
      ...change, endpoint, rulesRevision: states[0]?.revision ?? 0, concerned, sysinfo: sysinfoRecord({ ...endpoint, ...change.set }, readFacts(sections, small)),
    })
    if (committed.ok) return committed.endpoint
  }
  throw new Fault('busy', 'The endpoint is being changed by others; try again.', { retryAfterSeconds: 1 })
}
