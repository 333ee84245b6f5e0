// Rule sets made ready to run, once per revision: parsed, keyed, and indexed by OS and by the section they read.
import type { OsType, SectionName } from '../../protocol/facts.ts'
import type { RuleSet } from '../../protocol/rules.ts'
import { conditionKey } from './condition-key.ts'
import type { ConditionType } from './condition-type.ts'
import { allOf, parseLogic, type Logic } from './logic.ts'
import { readCondition } from './registry.ts'

export interface CompiledCondition {
  readonly type: ConditionType
  readonly params: unknown
  readonly negate: boolean
  /** Under which an agent answers it; null when the EMS does. */
  readonly key: string | null
}
export interface CompiledRuleSet {
  readonly ruleSet: RuleSet
  readonly conditions: readonly CompiledCondition[]
  readonly logic: Logic
  readonly logicText: string
  readonly sections: ReadonlySet<SectionName>
  /** Why it can't be worked out: its tag is then unknown, whatever the facts and whatever was found before. null: it can. */
  readonly broken: string | null
}
export interface CompiledRules {
  readonly revision: number
  readonly byOs: Readonly<Record<OsType, readonly CompiledRuleSet[]>>
  /** The same by OS and id. */
  readonly byId: Readonly<Record<OsType, ReadonlyMap<string, CompiledRuleSet>>>
  /** Tag UID → every enabled rule set that gives it, whatever its OS. */
  readonly byTag: ReadonlyMap<string, readonly RuleSet[]>
}

/** Compiles stored rule sets. One that can't be read (written by another version, or damaged) is kept as broken: its tag is unknown, and the others go on. */
export function compileRules(ruleSets: readonly RuleSet[], revision: number): CompiledRules {
  const byOs: Record<OsType, CompiledRuleSet[]> = { linux: [], windows: [], macos: [] }
  const byTag = new Map<string, RuleSet[]>()
  for (const ruleSet of ruleSets) {
    if (!ruleSet.enabled) continue
    byTag.set(ruleSet.tagUid, [...byTag.get(ruleSet.tagUid) ?? [], ruleSet])
    for (const os of Object.keys(byOs) as OsType[]) {
      const compiled = compileFor(ruleSet, os)
      if (compiled !== null) byOs[os].push(compiled)
    }
  }
  const index = (os: OsType) => new Map(byOs[os].map((compiled) => [compiled.ruleSet.id, compiled]))
  return { revision, byOs, byId: { linux: index('linux'), windows: index('windows'), macos: index('macos') }, byTag }
}

function compileFor(ruleSet: RuleSet, os: OsType): CompiledRuleSet | null {
  const rules = ruleSet.rules[os]
  if (rules === undefined) return null
  const logicText = rules.logic ?? rules.conditions.map((_, index) => index + 1).join(' and ')
  const broken = (why: string): CompiledRuleSet => ({ ruleSet, conditions: [], logic: allOf(0), logicText, sections: new Set(), broken: why })
  const conditions: CompiledCondition[] = []
  for (const condition of rules.conditions) {
    const read = readCondition(condition)
    if (!read.ok) return broken(read.errors.map(({ detail }) => detail).join('; '))
    conditions.push({ type: read.type, params: read.params, negate: read.negate, key: read.type.side === 'agent' ? conditionKey(condition) : null })
  }
  const parsed = rules.logic === undefined ? { ok: true as const, logic: allOf(conditions.length) } : parseLogic(rules.logic, conditions.length)
  if (!parsed.ok) return broken(parsed.detail)
  return { ruleSet, conditions, logic: parsed.logic, logicText, sections: new Set(conditions.map(({ type }) => type.section)), broken: null }
}
