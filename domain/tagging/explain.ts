// Why an endpoint has a tag or has it not: each rule set, each condition, what was seen and what was wanted.
import type { Facts, OsType } from '../../protocol/facts.ts'
import type { ConditionExplanation, RuleSet, TagExplanation, TagPresence, TagState } from '../../protocol/rules.ts'
import type { CompiledRules, CompiledRuleSet } from './compile.ts'
import type { TagsNow } from './condition-type.ts'
import { evaluateRuleSet, osOf, type RuleVerdicts } from './evaluate.ts'
import { any, type Timed } from './logic.ts'
import { settled } from './transition.ts'
import { verdictOf } from './verdict.ts'

type RuleSetExplanation = TagExplanation['ruleSets'][number]

/**
 * Explains one tag from the facts as they are now. Null when no enabled rule set gives it.
 * @param bears the tags of the endpoint, for rules that read them
 * @param stored its verdicts, for what still stands from before an edit
 * @param outbreak the tag marks what is bad: what is to be done is to lose it
 */
export function explainTag(given: { tagUid: string; rules: CompiledRules; facts: Facts; bears?: readonly TagState[]; stored?: RuleVerdicts; outbreak?: boolean; now: number }): TagExplanation | null {
  const { tagUid, rules, facts, bears = [], stored = {}, outbreak = false, now } = given
  const tags: TagsNow = (name) => {
    const [uid, own] = [rules.tagUids.get(name), bears.find((each) => each.tagUid === rules.tagUids.get(name))]
    return uid === undefined ? null : own === undefined ? { value: 'false', validUntil: null } : { value: own.state === 'present' ? 'true' : 'unknown', validUntil: own.validUntil }
  }
  const giving = rules.byTag.get(tagUid)
  if (giving === undefined) return null
  const os = osOf(facts)
  const compiled = new Map((os === null ? [] : rules.byOs[os]).map((each) => [each.ruleSet.id, each]))
  const worked = giving.map((ruleSet): Timed & { readonly explained: RuleSetExplanation } => {
    const own = compiled.get(ruleSet.id)
    if (os === null || own === undefined) return notForThisSystem(ruleSet, os, facts)
    const before = stored[ruleSet.id]
    const fresh = evaluateRuleSet(own, os, facts, now, [], tags)
    const { value, validUntil, standsUntil } = before === undefined ? { ...fresh, standsUntil: undefined } : settled(fresh, before, before.standsUntil ?? null, now)
    return { value, validUntil, explained: { ...named(ruleSet), ...(standsUntil === undefined ? {} : { standsUntil }), value, logic: own.logicText, conditions: explainConditions(own, os, facts, now, tags, outbreak) } }
  })
  const { value, validUntil } = any(worked.filter(({ explained }) => explained.shadow === undefined))
  return {
    tagUid, tag: giving[0]?.tag ?? '', state: stateOf(value), validUntil, ...(outbreak ? { outbreak } : {}), ruleSets: worked.map(({ explained }) => explained),
    ...(worked.some(({ explained }) => explained.shadow === true) ? { shadow: stateOf(any(worked).value) } : {}),
  }
}

/** As the device and its user may read it: report-only rule sets are for administrators. Null when nothing else gives the tag. */
export function withoutShadow(explained: TagExplanation): TagExplanation | null {
  const { shadow: _, ...told } = explained
  const ruleSets = told.ruleSets.filter(({ shadow }) => shadow === undefined)
  return ruleSets.length === 0 && told.ruleSets.length > 0 ? null : { ...told, ruleSets }
}

const stateOf = (value: Timed['value']): TagPresence => (value === 'true' ? 'present' : value === 'unknown' ? 'unknown' : 'absent')
const named = ({ id, name, message, mode }: RuleSet) => ({ id, name, message, ...(mode === 'shadow' ? { shadow: true as const } : {}) })

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

function explainConditions({ conditions, broken }: CompiledRuleSet, os: OsType, facts: Facts, now: number, tags: TagsNow, outbreak: boolean): ConditionExplanation[] {
  if (broken !== null) {
    return [{ type: 'rule-set', negate: false, value: 'unknown', seen: `the rule set can not be read: ${broken}`, wanted: 'a rule set that this EMS can read', section: 'os', factAt: null, provenance: null, mend: 'Ask an administrator to save the rule set anew.' }]
  }
  return conditions.map((condition) => {
    const { type, params, negate, proved, notOlderThanSeconds } = condition
    const { value, seen, section, factAt, provenance, unmet } = verdictOf(condition, os, facts, now, tags)
    const wanted = `${type.wanted(params)}${proved ? ', proved' : ''}${notOlderThanSeconds === null ? '' : `, known within ${notOlderThanSeconds} s`}`
    return { type: type.type, negate, value, seen, wanted: negate ? `not: ${wanted}` : wanted, section, factAt, provenance, mend: unmet ?? type.mend(params, negate !== outbreak) }
  })
}
