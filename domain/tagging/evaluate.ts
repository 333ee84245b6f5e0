// From facts to tags, for one endpoint: only the rule sets that read a changed section are worked out again.
import { osType, type Facts, type OsType, type SectionName } from '../../protocol/facts.ts'
import type { TagState } from '../../protocol/rules.ts'
import type { CompiledRules, CompiledRuleSet } from './compile.ts'
import { any, workOut, type Truth } from './logic.ts'
import { truthOf, verdictOf } from './verdict.ts'

/** Rule set id → its verdict. A `false` that can't change by time alone is left out. */
export type RuleVerdicts = Readonly<Record<string, { readonly value: Truth; readonly validUntil: number | null }>>

export interface Evaluation {
  readonly verdicts: RuleVerdicts
  readonly tags: TagState[]
  /** ms: the earliest instant at which anything here can change without a new fact; null: never. */
  readonly nextDue: number | null
  /** Ids of the rule sets that were worked out. */
  readonly evaluated: string[]
}

export const earliest = (instants: readonly (number | null)[]): number | null => {
  const set = instants.filter((at) => at !== null)
  return set.length === 0 ? null : Math.min(...set)
}

/** The OS that an endpoint's facts state; null when it is not known. */
export function osOf(facts: Facts): OsType | null {
  const known = osType.safeParse(facts.os?.value.type)
  return known.success ? known.data : null
}

/** Works out one rule set. */
export function evaluateRuleSet({ conditions, logic }: CompiledRuleSet, os: OsType, facts: Facts, now: number): { value: Truth; validUntil: number | null } {
  const verdicts = conditions.map((condition) => verdictOf(condition, os, facts, now))
  const value = workOut(logic, (index) => {
    const verdict = verdicts[index]
    const condition = conditions[index]
    return verdict === undefined || condition === undefined ? 'unknown' : truthOf(verdict, condition.negate)
  })
  return { value, validUntil: earliest(verdicts.map(({ validUntil }) => validUntil)) }
}

/**
 * Evaluates an endpoint.
 * @param changed sections whose facts changed, or `all` (new rules, or first report)
 * @param previous verdicts of the same rules' revision; used for rule sets that read nothing that changed and are not due
 */
export function evaluateEndpoint(given: { rules: CompiledRules; facts: Facts; changed: readonly SectionName[] | 'all'; previous: RuleVerdicts; now: number }): Evaluation {
  const { rules, facts, previous, now } = given
  const os = osOf(facts)
  // A changed `os` section may be another OS: nothing that was computed stands.
  const changed = given.changed !== 'all' && !given.changed.includes('os') ? new Set(given.changed) : null
  const verdicts: Record<string, { value: Truth; validUntil: number | null }> = {}
  const evaluated: string[] = []
  const byTag = new Map<string, { value: Truth; validUntil: number | null }[]>()
  for (const compiled of os === null ? [] : rules.byOs[os]) {
    const { id, tagUid } = compiled.ruleSet
    const before = previous[id] ?? { value: 'false' as const, validUntil: null }
    const stands = changed !== null && !reads(compiled, changed) && (before.validUntil === null || before.validUntil > now)
    const verdict = stands ? before : evaluateRuleSet(compiled, os ?? 'linux', facts, now)
    if (!stands) evaluated.push(id)
    if (verdict.value !== 'false' || verdict.validUntil !== null) verdicts[id] = verdict
    byTag.set(tagUid, [...byTag.get(tagUid) ?? [], verdict])
  }
  const tags = [...byTag].flatMap(([tagUid, given]): TagState[] => {
    const value = any(given.map((each) => each.value))
    if (value === 'false') return []
    return [{ tagUid, state: value === 'true' ? 'present' : 'unknown', validUntil: earliest(given.map(({ validUntil }) => validUntil)) }]
  }).sort((a, b) => (a.tagUid < b.tagUid ? -1 : 1))
  return { verdicts, tags, nextDue: earliest(Object.values(verdicts).map(({ validUntil }) => validUntil)), evaluated }
}

const reads = ({ sections }: CompiledRuleSet, changed: ReadonlySet<SectionName>): boolean => {
  for (const section of sections) if (changed.has(section)) return true
  return false
}
