// The rules as they are now, compiled once per state and isolate; and which of them an endpoint owes that was worked out with older ones.
import { asc, gt } from 'drizzle-orm'
import { compileRules, type CompiledRules } from '../../domain/tagging/compile.ts'
import { osType } from '../../protocol/facts.ts'
import { ruleSet as ruleSetShape, type RuleSet } from '../../protocol/rules.ts'
import { ruleChanges, ruleSets, tags } from '../../schema/rules.ts'
import { logEvent, type Context } from '../context.ts'
import { changedAt, rulesRevisionOf, selectStates, states, type StateRow } from './states.ts'

export interface HeldRules {
  readonly rules: CompiledRules
  readonly ruleSets: readonly RuleSet[]
  /** Edits that some endpoint may still owe, oldest first. */
  readonly changes: readonly (typeof ruleChanges.$inferSelect)[]
}
/** Tags of the types up to it are given by rules; those above are set. */
const LAST_GIVEN = 2
let held: (HeldRules & { readonly key: string }) | null = null
/** Instants beside the revision: a database that was restored counts the same revisions again, for other rules. */
const keyOf = (rows: readonly StateRow[]): string => [rulesRevisionOf(rows), changedAt(rows, states.rules), changedAt(rows, states.wording)].join('/')

/**
 * The rules; read from D1 only when this isolate holds those of another state.
 * They may be newer than `known`: what is computed with them is then refused by its guard.
 */
export async function rulesOf(context: Pick<Context, 'db'>, known: readonly StateRow[]): Promise<HeldRules> {
  if (held !== null && held.key === keyOf(known) && held.rules.revision > 0) return held
  const { db } = context
  const [rows, stored, changes, setTags] = await db.batch([
    selectStates(context), db.select().from(ruleSets), db.select().from(ruleChanges).orderBy(asc(ruleChanges.revision)), db.select({ uid: tags.uid, name: tags.name }).from(tags).where(gt(tags.type, LAST_GIVEN)),
  ])
  const read = stored.map(readRuleSet)
  held = { key: keyOf(rows), rules: compileRules(read, rulesRevisionOf(rows), setTags), ruleSets: read, changes }
  const broken = new Map(Object.values(held.rules.byOs).flat().flatMap(({ ruleSet, broken: why }) => (why === null ? [] : [[ruleSet.id, why] as const])))
  for (const [ruleSet, why] of broken) logEvent('rule-set-unreadable', { ruleSet, why })
  return held
}

/** Ids of the rule sets that were edited after a revision; `all` when nobody knows any more. */
export function touchedSince({ rules, changes }: HeldRules, since: number): ReadonlySet<string> | 'all' {
  const after = changes.filter(({ revision }) => revision > since)
  return after.length === rules.revision - since ? new Set(after.map(({ ruleSetId }) => ruleSetId)) : 'all'
}

/** Of the rule sets that were edited after a revision, those whose verdict from before may stand while agents owe an answer, and until when (ms): as the last edit says, unless one of them made it another thing. */
export function standingSince({ changes }: HeldRules, since: number): ReadonlyMap<string, number> {
  const standing = new Map<string, number | null>()
  for (const { revision, ruleSetId, standsUntil } of changes) {
    if (revision > since) standing.set(ruleSetId, standsUntil === null || standing.get(ruleSetId) === null ? null : standsUntil)
  }
  return new Map([...standing].flatMap(([id, until]) => (until === null ? [] : [[id, until] as const])))
}

/** A rule set as stored. What can't be read stands for every system with a condition that nobody knows: its tag is unknown, and it can be seen and replaced. */
export function readRuleSet({ id, tagUid, packId, body }: Pick<typeof ruleSets.$inferSelect, 'id' | 'tagUid' | 'packId' | 'body'>): RuleSet {
  const stored = parseJson(body)
  const read = ruleSetShape.safeParse({ ...typeof stored === 'object' ? stored : null, id, tagUid, packId: packId ?? undefined })
  if (read.success) return read.data
  const unreadable = { conditions: [{ type: 'unreadable', negate: false }] }
  return {
    id, tagUid, ...(packId === null ? {} : { packId }), name: 'unreadable', enabled: true, tag: 'unreadable', message: '', comment: 'What is stored of this rule set can not be read. Replace it or remove it.', mode: 'enforce', transitionSeconds: 0,
    rules: Object.fromEntries(osType.options.map((os) => [os, unreadable])),
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null // damaged: the caller says so
  }
}
