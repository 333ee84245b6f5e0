// Rule sets made ready to run, once per revision: parsed, keyed, indexed by OS, by the sections and by the tags that they read, and put in the order in which they are worked out.
import type { OsType, SectionName } from '../../protocol/facts.ts'
import type { RuleSet } from '../../protocol/rules.ts'
import { conditionKey } from './condition-key.ts'
import { sectionsOf, type ConditionType } from './condition-type.ts'
import { allOf, parseLogic, type Logic } from './logic.ts'
import { readCondition } from './registry.ts'
import { inOrder } from './tag-order.ts'

export interface CompiledCondition {
  readonly type: ConditionType
  readonly params: unknown
  readonly negate: boolean
  /** Under which an agent answers it; null when the EMS does. */
  readonly key: string | null
  readonly sections: readonly SectionName[]
  /** Names of the tags it reads. */
  readonly tags: readonly string[]
  /** What it demands of its fact beside the value. */
  readonly proved: boolean
  readonly notOlderThanSeconds: number | null
}
export interface CompiledRuleSet {
  readonly ruleSet: RuleSet
  readonly conditions: readonly CompiledCondition[]
  readonly logic: Logic
  readonly logicText: string
  readonly sections: ReadonlySet<SectionName>
  /** Names of the tags that its conditions read: whose state changes, it is worked out again. */
  readonly tags: ReadonlySet<string>
  /** Why it can't be worked out: its tag is then unknown, whatever the facts and whatever was found before. null: it can. */
  readonly broken: string | null
}
export interface CompiledRules {
  readonly revision: number
  /** Those that give a tag come before those that read it. */
  readonly byOs: Readonly<Record<OsType, readonly CompiledRuleSet[]>>
  /** The same by OS and id. */
  readonly byId: Readonly<Record<OsType, ReadonlyMap<string, CompiledRuleSet>>>
  /** Tag UID → every enabled rule set that gives it, whatever its OS. */
  readonly byTag: ReadonlyMap<string, readonly RuleSet[]>
  /** Tag name → UID: tags that rule sets give, and those that are set. */
  readonly tagUids: ReadonlyMap<string, string>
  /** UIDs of the tags that some rule set reads. */
  readonly readTags: ReadonlySet<string>
}

/**
 * Compiles stored rule sets. One that can't be read (written by another version, or damaged) is kept as broken: its tag is unknown, and the others go on.
 * @param setTags tags that are set and not given by rules
 */
export function compileRules(ruleSets: readonly RuleSet[], revision: number, setTags: readonly { readonly uid: string; readonly name: string }[] = []): CompiledRules {
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
  const ordered = { linux: orderedFor(byOs.linux), windows: orderedFor(byOs.windows), macos: orderedFor(byOs.macos) }
  const index = (os: OsType) => new Map(ordered[os].map((compiled) => [compiled.ruleSet.id, compiled]))
  // One that is switched off gives its tag to nobody, which is known; one that is nowhere is not.
  const tagUids = new Map([...setTags.map(({ uid, name }) => [name, uid] as const), ...ruleSets.map(({ tag, tagUid }) => [tag, tagUid] as const)])
  return { revision, byOs: ordered, byId: { linux: index('linux'), windows: index('windows'), macos: index('macos') }, byTag, tagUids, readTags: new Set(Object.values(ordered).flat().flatMap(({ tags }) => [...tags].flatMap((name) => tagUids.get(name) ?? []))) }
}

/** Two edits at once may close a circle that neither closes alone: whoever stands in it, or reads from it, is unknown. */
function orderedFor(compiled: readonly CompiledRuleSet[]): CompiledRuleSet[] {
  const { order, circular } = inOrder(compiled.map((each) => ({ of: each, gives: each.ruleSet.mode === 'shadow' ? null : each.ruleSet.tag, reads: [...each.tags] })))
  return [...order, ...circular.map((each) => broken(each.ruleSet, each.logicText, 'it reads tags that are made of its own'))]
}

const broken = (ruleSet: RuleSet, logicText: string, why: string): CompiledRuleSet => ({ ruleSet, conditions: [], logic: allOf(0), logicText, sections: new Set(), tags: new Set(), broken: why })

function compileFor(ruleSet: RuleSet, os: OsType): CompiledRuleSet | null {
  const rules = ruleSet.rules[os]
  if (rules === undefined) return null
  const logicText = rules.logic ?? rules.conditions.map((_, index) => index + 1).join(' and ')
  const conditions: CompiledCondition[] = []
  for (const condition of rules.conditions) {
    const read = readCondition(condition)
    if (!read.ok) return broken(ruleSet, logicText, read.errors.map(({ detail }) => detail).join('; '))
    const { type, params, negate, proved, notOlderThanSeconds } = read
    conditions.push({ type, params, negate, proved, notOlderThanSeconds, key: type.side === 'agent' ? conditionKey(condition) : null, sections: sectionsOf(type, params), tags: type.side === 'tags' ? type.tags(params) : [] })
  }
  const parsed = rules.logic === undefined ? { ok: true as const, logic: allOf(conditions.length) } : parseLogic(rules.logic, conditions.length)
  if (!parsed.ok) return broken(ruleSet, logicText, parsed.detail)
  return { ruleSet, conditions, logic: parsed.logic, logicText, sections: new Set(conditions.flatMap((each) => each.sections)), tags: new Set(conditions.flatMap((each) => each.tags)), broken: null }
}
