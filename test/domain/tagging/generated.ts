// Rules, facts and histories as they come, for properties of tagging.
import fc from 'fast-check'
import type { Facts, SectionName } from '../../../protocol/facts.ts'
import type { Condition, RuleSet } from '../../../protocol/rules.ts'
import { agent, answers, atLeast, managed, marker, network, now, office, os, ruleSet, scan, sshd, uuid, vulnerable } from './endpoint-facts.ts'

const questions = [atLeast('12'), marker, sshd, office, managed, vulnerable('high'), vulnerable('high', 60), vulnerable('low', 180)]
export const anyCondition = fc.tuple(fc.constantFrom(...questions), fc.boolean()).map(([condition, negate]): Condition => ({ ...condition, negate }))
/** An expression over `count` conditions, with brackets and `not` as they come. */
const anyLogic = (count: number): fc.Arbitrary<string> => fc.letrec<{ logic: string; leaf: string }>((tie) => ({
  leaf: fc.integer({ min: 1, max: count }).map(String),
  logic: fc.oneof({ maxDepth: 3 }, tie('leaf'), tie('logic').map((inner) => `not (${inner})`), fc.tuple(tie('logic'), fc.constantFrom('and', 'or'), tie('logic')).map(([left, word, right]) => `(${left} ${word} ${right})`)),
})).logic
export const rulesOver = (condition: fc.Arbitrary<Condition>): fc.Arbitrary<RuleSet[]> => fc.array(
  fc.array(condition, { minLength: 1, maxLength: 4 }).chain((conditions) => fc.record({
    conditions: fc.constant(conditions), logic: fc.option(anyLogic(conditions.length), { nil: undefined }), tag: fc.nat(2), enabled: fc.boolean(), also: fc.boolean(), mode: fc.constantFrom('enforce' as const, 'enforce' as const, 'shadow' as const),
  })), { minLength: 1, maxLength: 6 })
  .map((each) => each.map(({ conditions, logic, tag, enabled, also, mode }, n) => ruleSet(n, { conditions, logic }, { tagUid: uuid(1000 + tag), enabled, mode, ...(also ? { rules: { linux: { conditions, logic }, windows: { conditions } } } : {}) })))
export const anyRules = rulesOver(anyCondition)

export const answer = fc.constantFrom('true' as const, 'false' as const, 'unknown' as const, 'unsupported' as const)
const valueOf = (at: number) => ({
  os: fc.constantFrom(os('12.8'), os('11.2'), os('odd'), os('12.8', 'windows')),
  network: fc.constantFrom(network('10.0.0.1'), network('192.168.0.1'), network()),
  agent: fc.constant(agent()),
  /** Some are not answered yet. */
  verdicts: fc.tuple(fc.option(answer), fc.option(answer)).map(([file, process]) => answers([...(file === null ? [] : [[marker, file] as const]), ...(process === null ? [] : [[sshd, process] as const])])),
  vulnerabilities: fc.tuple(fc.subarray(['low' as const, 'high' as const, 'unrated' as const]), fc.integer({ min: -1000, max: 200 })).map(([found, age]) => scan(found, at - age * 1000, at)),
})
export const reported = ['os', 'network', 'agent', 'verdicts', 'vulnerabilities'] as const satisfies readonly SectionName[]
export const anyFacts: fc.Arbitrary<Facts> = fc.record(valueOf(now), { requiredKeys: [] })
export const withOs: fc.Arbitrary<Facts> = fc.record(valueOf(now), { requiredKeys: ['os'] })
/** Some sections reported anew, some withdrawn, and the time that then passes. */
export const anyHistory = fc.array(fc.record({ set: anyFacts, gone: fc.subarray([...reported], { maxLength: 1 }), wait: fc.integer({ min: 0, max: 120_000 }), toDue: fc.boolean() }), { minLength: 1, maxLength: 6 })
