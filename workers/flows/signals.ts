// What others say of an endpoint becomes facts and tags: the same guarded commit, log and poke as a report. Said again, it is newer; whoever was told `busy` says it again.
import canonicalize from 'canonicalize'
import { eq } from 'drizzle-orm'
import { utf8 } from '../../identity/encoding.ts'
import { sha256Hex } from '../../identity/keys.ts'
import { MAX_SIGNAL_SOURCES, provenanceOf, type Fact, type Facts, type SignalKind } from '../../protocol/facts.ts'
import { Fault } from '../../protocol/faults.ts'
import { endpoints } from '../../schema/endpoint.ts'
import { dropSections, dropTags, insertSection, putTags } from '../../schema/queries/guarded.ts'
import { gatewaysConcerned } from '../../schema/queries/interest.ts'
import { logTail } from '../../schema/queries/log-tail.ts'
import { logEvent, type Context } from '../context.ts'
import { commitEndpoint } from './commit-endpoint.ts'
import { packSection, readSections, selectSections } from './facts.ts'
import { pokeGateways } from './poke.ts'
import { rulesOf } from './rules.ts'
import { evaluatedThrough, rulesRevisionOf, selectStates } from './states.ts'
import { workOut } from './work-out.ts'

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
    const { facts: before, damaged } = readSections(stored)
    const held = (before[kind]?.value as { readonly sources: Sources } | undefined)?.sources ?? {}
    const told = held[source]
    if (value === null && told === undefined) return now
    const sources = { ...Object.fromEntries(Object.entries(held).filter(([name]) => name !== source)), ...(value === null ? {} : { [source]: { ...value, at: now } }) }
    if (Object.keys(sources).length > MAX_SIGNAL_SOURCES) throw new Fault('conflict', `${MAX_SIGNAL_SOURCES} sources say something of this endpoint already; clear one first.`)
    const gone = Object.keys(sources).length === 0
    const facts = withSources(before, kind, gone ? null : sources, now)
    const canonical = canonicalize({ sources }) ?? ''
    const row = { section: kind, hash: await sha256Hex(utf8(canonical)), at: now, body: packSection(canonical) }

    const rules = await rulesOf(context, states)
    // Before its first report nobody knows its system, and no tag is told.
    const reported = endpoint.lastReportAt !== null
    const worked = reported ? workOut({ endpoint, held: rules, through: Math.max(endpoint.rulesRevision, evaluatedThrough(states)), facts, changed: [kind, ...damaged], now }) : null
    const [put, lost] = [worked?.put ?? [], worked?.gone ?? []]
    for (const section of damaged) logEvent('section-damaged', { uid, section })
    const dropped = [...damaged, ...(gone ? [kind] : [])]
    const tables = put.length + lost.length > 0 ? ['uid_tags' as const, 'tags' as const] : []
    const committed = await commitEndpoint(context, {
      endpoint, rulesRevision: rulesRevisionOf(states), set: { ...worked?.set }, tables, concerned,
      also: (guard) => [
        ...(gone ? [] : [insertSection(db, guard, row)]), ...(dropped.length === 0 ? [] : [dropSections(db, guard, dropped)]),
        ...(put.length === 0 ? [] : [putTags(db, guard, put, now)]), ...(lost.length === 0 ? [] : [dropTags(db, guard, lost)]),
      ],
    })
    if (!committed.ok) continue
    const due = worked?.evaluation.nextDue ?? null
    if (due !== null && (endpoint.nextDue === null || due < endpoint.nextDue)) context.waitUntil(context.env.RE_EVALUATION.getByName('one').due(due))
    // The reply to the same words may have been lost, and with it a poke.
    if (tables.length === 0 && told !== undefined && value !== null && same(told, value)) await pokeGateways(context, concerned, await logTail(db))
    return now
  }
  throw new Fault('busy', 'The endpoint is being changed by others; send it again.', { retryAfterSeconds: 1 })
}

const same = (before: Sources[string], after: object): boolean => canonicalize(before) === canonicalize({ ...after, at: before.at })

function withSources(facts: Facts, kind: SignalKind, sources: Sources | null, now: number): Facts {
  const { [kind]: _, ...others } = facts
  return sources === null ? others : { ...others, [kind]: { value: { sources }, at: now, provenance: provenanceOf(kind) } as Fact }
}
