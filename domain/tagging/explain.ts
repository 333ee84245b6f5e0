// Why an endpoint has a tag or has it not: each rule set, each condition, what was seen and what was wanted.
import type { Facts, OsType } from '../../protocol/facts.ts'
import type { ConditionExplanation, RuleSet, TagExplanation } from '../../protocol/rules.ts'
import type { CompiledRules, CompiledRuleSet } from './compile.ts'
import { evaluateRuleSet, osOf } from './evaluate.ts'
import { any, type Timed } from './logic.ts'
import { verdictOf } from './verdict.ts'

type RuleSetExplanation = TagExplanation['ruleSets'][number]

/** Explains one tag from the facts as they are now. Null when no enabled rule set gives it. */
export function explainTag(given: { tagUid: string; rules: CompiledRules; facts: Facts; now: number }): TagExplanation | null {
  const { tagUid, rules, facts, now } = given
  const giving = rules.byTag.get(tagUid)
  if (giving === undefined) return null
  const os = osOf(facts)
  const compiled = new Map((os === null ? [] : rules.byOs[os]).map((each) => [each.ruleSet.id, each]))
  const worked = giving.map((ruleSet): Timed & { readonly explained: RuleSetExplanation } => {
    const own = compiled.get(ruleSet.id)
    if (os === null || own === undefined) return notForThisSystem(ruleSet, os, facts)
    const verdict = evaluateRuleSet(own, os, facts, now)
    return { ...verdict, explained: { ...named(ruleSet), value: verdict.value, logic: own.logicText, conditions: explainConditions(own, os, facts, now) } }
  })
  const { value, validUntil } = any(worked)
  return {
    tagUid, tag: giving[0]?.tag ?? '', state: value === 'true' ? 'present' : value === 'unknown' ? 'unknown' : 'absent', validUntil,
    ruleSets: worked.map(({ explained }) => explained),
  }
}

const named = ({ id, name, message }: RuleSet) => ({ id, name, message })

/** A rule set that names other systems only, or a device whose system is not known: said as the one condition that decides. */
function notForThisSystem(ruleSet: RuleSet, os: OsType | null, facts: Facts): Timed & { readonly explained: RuleSetExplanation } {
  const value = os === null ? 'unknown' : 'false'
  const wanted = Object.keys(ruleSet.rules).join(' or ')
  const condition: ConditionExplanation = {
    type: 'os', negate: false, value, seen: os ?? 'not reported yet', wanted, section: 'os',
    factAt: facts.os?.at ?? null, provenance: facts.os?.provenance ?? null,
    mend: os === null ? 'Let the agent report its system.' : `This rule is for ${wanted} only.`,
  }
  return { value, validUntil: null, explained: { ...named(ruleSet), value, logic: '1', conditions: [condition] } }
}

function explainConditions({ conditions, broken }: CompiledRuleSet, os: OsType, facts: Facts, now: number): ConditionExplanation[] {
  if (broken !== null) {
    return [{ type: 'rule-set', negate: false, value: 'unknown', seen: `the rule set can not be read: ${broken}`, wanted: 'a rule set that this EMS can read', section: 'os', factAt: null, provenance: null, mend: 'Ask an administrator to save the rule set anew.' }]
  }
  return conditions.map((condition) => {
    const { type, params, negate } = condition
    const { value, seen, section, factAt, provenance } = verdictOf(condition, os, facts, now)
    const wanted = type.wanted(params)
    return { type: type.type, negate, value, seen, wanted: negate ? `not: ${wanted}` : wanted, section, factAt, provenance, mend: type.mend(params, negate) }
  })
}
