// From facts to tags, for one endpoint: only the rule sets that read a changed section are worked out again.
import { osType, type Facts, type OsType, type SectionName } from '../../protocol/facts.ts'
import type { TagState } from '../../protocol/rules.ts'
import type { CompiledRules, CompiledRuleSet } from './compile.ts'
import { any, earliest, workOut, type Timed } from './logic.ts'
import { truthOf, verdictOf } from './verdict.ts'

/** Rule set id → its verdict. A `false` that can't change by time alone is left out. */
export type RuleVerdicts = Readonly<Record<string, Timed>>

export interface Evaluation {
  readonly verdicts: RuleVerdicts
  readonly tags: TagState[]
  /** Ids of the rule sets whose value is not what it was. */
  readonly changedRuleSets: string[]
  /** ms: the earliest instant at which anything here can change without a new fact; null: never. */
  readonly nextDue: number | null
  /** Ids of the rule sets that were worked out. */
  readonly evaluated: string[]
}

const lasting: Timed = { value: 'false', validUntil: null }
const undecided: Timed = { value: 'unknown', validUntil: null }

/** The OS that an endpoint's facts state; null when it is not known. */
export function osOf(facts: Facts): OsType | null {
  const known = osType.safeParse(facts.os?.value.type)
  return known.success ? known.data : null
}

/** Works out one rule set. */
export function evaluateRuleSet({ conditions, logic }: CompiledRuleSet, os: OsType, facts: Facts, now: number): Timed {
  return workOut(logic, (index) => {
    const condition = conditions[index]
    return condition === undefined ? undecided : truthOf(verdictOf(condition, os, facts, now), condition.negate)
  })
}

/**
 * Evaluates an endpoint. While its OS is not known, nobody can say which rules are its own: every tag is unknown.
 * @param changed sections whose facts changed, or `all` (new rules, or first report)
 * @param previous verdicts of the same rules' revision; used for rule sets that read nothing that changed and are not due
 * @param now ms
 */
export function evaluateEndpoint(given: { rules: CompiledRules; facts: Facts; changed: readonly SectionName[] | 'all'; previous: RuleVerdicts; now: number }): Evaluation {
  const { rules, facts, previous, now } = given
  const os = osOf(facts)
  const verdicts: Record<string, Timed> = {}
  const evaluated: string[] = []
  const byTag = new Map<string, Timed[]>()
  const note = (id: string, tagUid: string, verdict: Timed) => {
    if (verdict.value !== 'false' || verdict.validUntil !== null) verdicts[id] = verdict
    const others = byTag.get(tagUid)
    if (others === undefined) byTag.set(tagUid, [verdict])
    else others.push(verdict)
  }
  if (os === null) {
    for (const [tagUid, giving] of rules.byTag) for (const { id } of giving) note(id, tagUid, undecided)
  } else {
    // The `os` section chooses which rules are read, so each rule set reads it: another OS must find nothing that stands.
    const changed = given.changed === 'all' || given.changed.includes('os') ? null : new Set(given.changed)
    for (const compiled of rules.byOs[os]) {
      const { id, tagUid } = compiled.ruleSet
      const before = previous[id] ?? lasting
      const stands = changed !== null && !reads(compiled, changed) && (before.validUntil === null || before.validUntil > now)
      if (!stands) evaluated.push(id)
      note(id, tagUid, stands ? before : evaluateRuleSet(compiled, os, facts, now))
    }
  }
  const tags = [...byTag].flatMap(([tagUid, giving]): TagState[] => {
    const { value, validUntil } = any(giving)
    return value === 'false' ? [] : [{ tagUid, state: value === 'true' ? 'present' : 'unknown', validUntil }]
  }).sort((a, b) => (a.tagUid < b.tagUid ? -1 : 1))
  const changedRuleSets = [...new Set([...Object.keys(previous), ...Object.keys(verdicts)])]
    .filter((id) => (previous[id] ?? lasting).value !== (verdicts[id] ?? lasting).value)
  return { verdicts, tags, changedRuleSets, nextDue: earliest(Object.values(verdicts)), evaluated }
}

const reads = ({ sections }: CompiledRuleSet, changed: ReadonlySet<SectionName>): boolean => {
  for (const section of sections) if (changed.has(section)) return true
  return false
}
