// Why a tag is there or not: what was seen, what was wanted, how to mend it.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compileRules } from '../../../domain/tagging/compile.ts'
import { explainTag } from '../../../domain/tagging/explain.ts'
import type { Facts } from '../../../protocol/facts.ts'
import { tagExplanation, type Condition, type RuleSet } from '../../../protocol/rules.ts'
import { agent, answers, atLeast, evaluate, managed, marker, negated, network, now, office, os, ruleSet, scan, sshd, uuid, vulnerable } from './endpoint-facts.ts'

const explain = (rules: RuleSet[], facts: Facts, at = now) => explainTag({ tagUid: rules[0]?.tagUid ?? '', rules: compileRules(rules, 1), facts, now: at })
const lines = (conditions: Condition[], facts: Facts) => explain([ruleSet(1, { conditions })], facts)?.ruleSets[0]?.conditions.map(({ value, seen, wanted, mend }) => [value, seen, wanted, mend])

describe('an explanation', () => {
  it('says for each condition what was seen, what was wanted and how to mend it', () => {
    expect(lines([marker, sshd, atLeast('13'), negated(vulnerable('high')), office], { os: os(), verdicts: answers([[marker, 'false'], [sshd, 'unsupported']]), vulnerabilities: scan(['high', 'critical']) })).toEqual([
      ['false', 'as the agent saw it', 'file "/etc/marker" exists', 'Create "/etc/marker".'],
      ['unsupported', 'as the agent saw it', 'process "sshd" runs', 'Start "sshd".'],
      ['false', 'Debian GNU/Linux 12.8', 'the system version is at least 13', 'Update the operating system to version 13 or later.'],
      ['true', '2 found: CVE-0, CVE-1', 'not: a vulnerability of severity high or above', 'Install updates until nothing of severity high or above is left, then scan again.'],
      ['unknown', 'not reported yet', 'an address in 10.0.0.0/8, fd00::/8', 'Connect to a network in 10.0.0.0/8, fd00::/8.'],
    ])
  })
  it('says how to end what must not be', () => {
    expect(lines([negated(marker), negated(sshd), negated(atLeast('13')), negated({ ...marker, exists: false })], { os: os() })?.map((each) => each[3])).toEqual(['Remove "/etc/marker".', 'Stop "sshd".', 'Install a version earlier than 13 of the operating system.', 'Create "/etc/marker".'])
  })
  it('of an outbreak says how to be rid of it', () => {
    const rules = [ruleSet(1, { conditions: [marker, negated(sshd)] })]
    const explained = explainTag({ tagUid: rules[0]?.tagUid ?? '', rules: compileRules(rules, 1), facts: { os: os(), verdicts: answers([[marker, 'true'], [sshd, 'false']]) }, outbreak: true, now })
    expect([explained?.outbreak, ...explained?.ruleSets[0]?.conditions.map(({ mend }) => mend) ?? []]).toEqual([true, 'Remove "/etc/marker".', 'Start "sshd".'])
    expect(tagExplanation.parse(explained)).toEqual(explained)
  })
  it('says what to do in the words of whoever wrote an expression, negated or not', () => {
    const own: Condition = { type: 'custom', negate: false, expression: 'agent.version == "9"', wanted: 'a quarantined agent', mend: 'Call the help desk.' }
    expect(lines([own, negated(own), { ...negated(own), mend: undefined }], { os: os() })?.map(([, , wanted, mend]) => [wanted, mend])).toEqual([
      ['a quarantined agent', 'Call the help desk.'], ['not: a quarantined agent', 'Call the help desk.'], ['not: a quarantined agent', 'Bring about that it holds no longer: "agent.version == "9"".'],
    ])
    expect(lines([negated({ type: 'third-party-score', negate: false, source: 'edr', comparator: '>=', score: 70 })], { os: os() })?.[0]?.[3]).toBe('See in edr what makes the score, until it no longer is at least 70.')
  })
  it('of what no device can report says who must say it', () => {
    const from = (type: string, more: object = {}): Condition => ({ type, negate: true, ...more })
    expect(lines([from('sandbox-detection'), from('firewall-threat', { source: 'gateway-1', severity: 'high' }), from('third-party-score', { source: 'edr', comparator: '<', score: 1 })], { os: os() })?.map(([, seen, , mend]) => [seen, mend])).toEqual([
      ['nobody has said anything of it yet', 'Clean the device, until a sandbox says that there is nothing.'],
      ['nobody has said anything of it yet', 'Clean the device, until gateway-1 says that there is nothing of severity high or above.'],
      ['nobody has said anything of it yet', 'See in edr what makes the score, until it no longer is below 1.'],
    ])
  })
  it('says so when the rule is for other systems, or the system is not known', () => {
    const rules = [ruleSet(1, { conditions: [managed] })]
    expect(explain(rules, { os: os('10', 'windows'), agent: agent() })).toMatchObject({ state: 'absent', ruleSets: [{ value: 'false', conditions: [{ type: 'os', seen: 'windows', wanted: 'linux' }] }] })
    expect(explain(rules, { agent: agent() })).toMatchObject({ state: 'unknown', ruleSets: [{ value: 'unknown', conditions: [{ seen: 'not reported yet', factAt: null }] }] })
  })
  it('is none for a tag that no enabled rule set gives', () => {
    expect(explain([ruleSet(1, { conditions: [managed] }, { enabled: false })], { os: os() })).toBeNull()
  })
  it('says what evaluation says, in the shape of the contract', () => {
    const condition = fc.tuple(fc.constantFrom(atLeast('12'), marker, office, managed, vulnerable('high', 60)), fc.boolean()).map(([each, negate]): Condition => ({ ...each, negate }))
    const facts: fc.Arbitrary<Facts> = fc.record({ os: fc.constantFrom(os(), os('odd'), os('10', 'windows')), network: fc.constant(network('10.0.0.1')), agent: fc.constant(agent()), vulnerabilities: fc.constantFrom(scan(['high']), scan([])), verdicts: fc.constant(answers([[marker, 'true']])) }, { requiredKeys: [] })
    fc.assert(fc.property(fc.array(fc.array(condition, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 3 }), facts, fc.nat(120_000), (sets, given, later) => {
      const rules = sets.map((conditions, n) => ruleSet(n, { conditions }, { tagUid: uuid(1000) }))
      const explained = tagExplanation.parse(explain(rules, given, now + later))
      const [tag] = evaluate(rules, given, now + later).tags
      expect(explained.state).toBe(tag?.state ?? 'absent')
      if (tag !== undefined) expect(explained.validUntil).toBe(tag.validUntil)
      expect(explained.ruleSets.map(({ id }) => id)).toEqual(rules.map(({ id }) => id))
    }))
  })
})
