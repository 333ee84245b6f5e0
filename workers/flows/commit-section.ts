// A section that the EMS knows from others than the agent is written, changed or dropped: with the tags that follow, in one guarded batch, and gateways hear of it.
import canonicalize from 'canonicalize'
import type { SQL } from 'drizzle-orm'
import type { BatchItem } from 'drizzle-orm/batch'
import { utf8 } from '../../identity/encoding.ts'
import { sha256Hex } from '../../identity/keys.ts'
import type { TableName } from '../../protocol/fabric/tables.ts'
import { provenanceOf, type emsSections, type Fact, type Facts, type Sections } from '../../protocol/facts.ts'
import type { EndpointRow } from '../../schema/endpoint.ts'
import { dropSections, dropTags, insertSection, putTags, type Guard } from '../../schema/queries/guarded.ts'
import type { Concerned } from '../../schema/queries/interest.ts'
import { logEvent, type Context } from '../context.ts'
import { commitEndpoint } from './commit-endpoint.ts'
import { packSection, readSections, type StoredSection } from './facts.ts'
import { rulesOf } from './rules.ts'
import { evaluatedThrough, rulesRevisionOf, type StateRow } from './states.ts'
import { sysinfoRecord } from './sysinfo-record.ts'
import { workOut } from './work-out.ts'

export type EmsSection = keyof typeof emsSections
/** What it is computed with, loaded in one trip. */
export interface LoadedEndpoint { readonly endpoint: EndpointRow; readonly states: readonly StateRow[]; readonly concerned: readonly Concerned[]; readonly stored: readonly StoredSection[] }
export interface SectionChange<S extends EmsSection = EmsSection> {
  readonly section: S
  /** null: nothing is known any more. */
  readonly value: Sections[S] | null
  readonly now: number
  /** Columns of the endpoint that say the same. */
  readonly set?: Partial<EndpointRow>
  /** Fabric tables that show the section itself. */
  readonly tables?: readonly TableName[]
  readonly also?: (guard: Guard) => BatchItem<'sqlite'>[]
  readonly when?: SQL
}

/** @returns whether its tables or tags changed, so that gateways were told; null: somebody else was first and nothing was written: load and compute anew */
export async function commitSection(context: Context, { endpoint, states, concerned, stored }: LoadedEndpoint, change: SectionChange): Promise<{ readonly told: boolean } | null> {
  const { db } = context
  const { section, value, now, set = {} } = change
  const { facts: before, damaged } = readSections(stored.filter((row) => row.section !== section))
  const facts: Facts = value === null ? before : { ...before, [section]: { value, at: now, provenance: provenanceOf(section) } as Fact }
  const canonical = canonicalize(value) ?? ''
  const row = { section, hash: await sha256Hex(utf8(canonical)), at: now, body: packSection(canonical) }
  const after = { ...endpoint, ...set }

  const rules = await rulesOf(context, states)
  // Before its first report nobody knows its system, and no tag is told.
  const worked = endpoint.lastReportAt === null ? null : workOut({ endpoint: after, held: rules, through: Math.max(endpoint.rulesRevision, evaluatedThrough(states)), facts, changed: [section, ...damaged], now })
  const [put, lost] = [worked?.put ?? [], worked?.gone ?? []]
  for (const each of damaged) logEvent('section-damaged', { uid: endpoint.uid, section: each })
  const dropped = [...damaged, ...(value === null ? [section] : [])]
  const tables = [...put.length + lost.length > 0 ? ['uid_tags' as const, 'tags' as const] : [], ...change.tables ?? []]
  const committed = await commitEndpoint(context, {
    endpoint, rulesRevision: rulesRevisionOf(states), set: { ...set, ...worked?.set }, tables, concerned, ...(change.when === undefined ? {} : { when: change.when }),
    sysinfo: tables.includes('sysinfo') ? sysinfoRecord(after, facts) : null,
    also: (guard) => [
      ...(value === null ? [] : [insertSection(db, guard, row)]), ...(dropped.length === 0 ? [] : [dropSections(db, guard, dropped)]),
      ...(put.length === 0 ? [] : [putTags(db, guard, put, now)]), ...(lost.length === 0 ? [] : [dropTags(db, guard, lost)]), ...change.also?.(guard) ?? [],
    ],
  })
  if (!committed.ok) return null
  const due = worked?.evaluation.nextDue ?? null
  if (due !== null && (endpoint.nextDue === null || due < endpoint.nextDue)) context.waitUntil(context.env.RE_EVALUATION.getByName('one').due(due))
  return { told: tables.length > 0 }
}
