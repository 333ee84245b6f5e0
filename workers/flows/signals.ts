// What others say of an endpoint becomes facts and tags: the same guarded commit, log and poke as a report. Said again, it is newer; whoever was told `busy` says it again.
import canonicalize from 'canonicalize'
import { eq } from 'drizzle-orm'
import { MAX_SIGNAL_SOURCES, type Sections, type SignalKind } from '../../protocol/facts.ts'
import { Fault } from '../../protocol/faults.ts'
import { endpoints } from '../../schema/endpoint.ts'
import { gatewaysConcerned } from '../../schema/queries/interest.ts'
import { logTail } from '../../schema/queries/log-tail.ts'
import type { Context } from '../context.ts'
import { commitSection } from './commit-section.ts'
import { readSections, selectSections } from './facts.ts'
import { pokeGateways } from './poke.ts'
import { selectStates } from './states.ts'

const ATTEMPTS = 5
type Sources = Readonly<Record<string, { readonly at: number; readonly expiresAt: number | null }>>
export interface Signal { readonly kind: SignalKind; readonly source: string; /** null: forget it. */ readonly value: { readonly expiresAt: number | null } | null }

/** @returns when it was taken (ms) */
export async function tellSignal(context: Context, uid: string, { kind, source, value }: Signal): Promise<number> {
  const { db } = context
  if (value?.expiresAt != null && value.expiresAt <= context.now()) throw new Fault('invalid', 'It would have expired already.', { errors: [{ pointer: '/expiresAt', detail: 'is over' }] })
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const [[endpoint], states, concerned, stored] = await db.batch([db.select().from(endpoints).where(eq(endpoints.uid, uid)), selectStates(context), gatewaysConcerned(db, uid), selectSections(db, uid)])
    if (endpoint?.registered !== true) throw new Fault('not_found', 'There is no such endpoint.')
    const now = context.now()
    const held = (readSections(stored, new Set([kind])).facts[kind]?.value as { readonly sources: Sources } | undefined)?.sources ?? {}
    const told = held[source]
    if (value === null && told === undefined) return now
    const sources = { ...Object.fromEntries(Object.entries(held).filter(([name]) => name !== source)), ...(value === null ? {} : { [source]: { ...value, at: now } }) }
    if (Object.keys(sources).length > MAX_SIGNAL_SOURCES) throw new Fault('conflict', `${MAX_SIGNAL_SOURCES} sources say something of this endpoint already; clear one first.`)
    const committed = await commitSection(context, { endpoint, states, concerned, stored }, { section: kind, value: Object.keys(sources).length === 0 ? null : { sources } as Sections[SignalKind], now })
    if (committed === null) continue
    // The reply to the same words may have been lost, and with it a poke.
    if (!committed.told && told !== undefined && value !== null && same(told, value)) await pokeGateways(context, concerned, await logTail(db))
    return now
  }
  throw new Fault('busy', 'The endpoint is being changed by others; send it again.', { retryAfterSeconds: 1 })
}

const same = (before: Sources[string], after: object): boolean => canonicalize(before) === canonicalize({ ...after, at: before.at })
