// Whether edits of rule sets leave an endpoint as it is, from its verdicts of those rule sets and the facts that they read alone. When in doubt it says no: then the endpoint is worked out whole.
import { osType, type Facts, type OsType } from '../../protocol/facts.ts'
import type { CompiledRules } from './compile.ts'
import { evaluateRuleSet, osOf, type Failure, type RuleVerdicts } from './evaluate.ts'
import { settled, type RuleVerdict } from './transition.ts'

const lasting: RuleVerdict = { value: 'false', validUntil: null }

/**
 * @param touched ids of the edited rule sets
 * @param standing of those, the ones that give what they gave before, and until when their verdict from before may stand (ms)
 * @param held its verdicts of the edited rule sets; of one that is not there it is false for good
 * @param system the OS for which those were worked out
 * @returns null: it may be changed; else the ids that were worked out
 */
export function unmoved(given: { rules: CompiledRules; facts: Facts; touched: ReadonlySet<string>; standing: ReadonlyMap<string, number>; held: RuleVerdicts; system: string; now: number }): string[] | null {
  const { rules, facts, touched, standing, held, now } = given
  const os = osOf(facts)
  if (os === null || os !== given.system) return null
  // What can't be read is unknown whatever was found before, edited or not.
  if (hasBroken(rules, os)) return null
  const evaluated: string[] = []
  for (const id of touched) {
    const before = held[id]
    const compiled = rules.byId[os].get(id)
    // Its verdict goes, and what it gave; or it gives another tag now, or one where it gave none.
    if (before !== undefined && (compiled === undefined || !standing.has(id))) return null
    if (compiled === undefined) continue
    // It reads what the endpoint bears, and that is not at hand here.
    if (compiled.tags.size > 0) return null
    const failures: Failure[] = []
    const is = settled(evaluateRuleSet(compiled, os, facts, now, failures), before ?? lasting, standing.get(id) ?? null, now)
    if (failures.length > 0 || !same(is, before ?? lasting)) return null
    evaluated.push(id)
  }
  return evaluated
}

/** By the rules, for the question is asked for each endpoint. */
const broken = new WeakMap<CompiledRules, ReadonlySet<OsType>>()
function hasBroken(rules: CompiledRules, os: OsType): boolean {
  const found = broken.get(rules) ?? new Set(osType.options.filter((each) => rules.byOs[each].some((compiled) => compiled.broken !== null)))
  broken.set(rules, found)
  return found.has(os)
}

const same = (a: RuleVerdict, b: RuleVerdict): boolean => a.value === b.value && a.validUntil === b.validUntil && a.owes === b.owes && a.standsUntil === b.standsUntil
