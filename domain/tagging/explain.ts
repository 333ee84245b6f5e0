// Why an endpoint has a tag or has it not: each rule set, each condition, what was seen and what was wanted.
import type { Facts, OsType } from '../../protocol/facts.ts'
import type { ConditionExplanation, TagExplanation } from '../../protocol/rules.ts'
import type { CompiledRules, CompiledRuleSet } from './compile.ts'
import { earliest, evaluateRuleSet, osOf } from './evaluate.ts'
import { any } from './logic.ts'
import { verdictOf } from './verdict.ts'

/** Explains one tag from the facts as they are now. Null when no enabled rule set gives it. */
export function explainTag(given: { tagUid: string; rules: CompiledRules; facts: Facts; now: number }): TagExplanation | null {
  const { tagUid, rules, facts, now } = given
  const giving = rules.byTag.get(tagUid)
  if (giving === undefined) return null
  const os = osOf(facts)
  const compiled = os === null ? [] : rules.byOs[os].filter(({ ruleSet }) => ruleSet.tagUid === tagUid)
  const worked = compiled.map((each) => ({ each, ...evaluateRuleSet(each, os ?? 'linux', facts, now) }))
  const value = any(worked.map((each) => each.value))
  return {
    tagUid, tag: giving[0]?.tag ?? '',
    state: value === 'true' ? 'present' : value === 'unknown' ? 'unknown' : 'absent',
    validUntil: earliest(worked.map(({ validUntil }) => validUntil)),
    ruleSets: worked.map(({ each, value: ruleValue }) => ({
      id: each.ruleSet.id, name: each.ruleSet.name, value: ruleValue, logic: each.logicText, message: each.ruleSet.message,
      conditions: explainConditions(each, os ?? 'linux', facts, now),
    })),
  }
}

const explainConditions = ({ conditions }: CompiledRuleSet, os: OsType, facts: Facts, now: number): ConditionExplanation[] => conditions.map((condition) => {
  const { type, params, negate } = condition
  const { value, seen, section, factAt, provenance } = verdictOf(condition, os, facts, now)
  const wanted = type.wanted(params)
  return {
    type: type.type, negate, value, seen, wanted: negate ? `not: ${wanted}` : wanted, section, factAt, provenance,
    mend: negate ? `Make sure that this does not hold: ${wanted}.` : type.mend(params),
  }
})
