// Tagging rules: three values to the end, incremental equals from scratch, unknown never passes.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Facts, SectionName } from '../../protocol/facts.ts'
import { ruleSetInput, type OsRules, type RuleSet } from '../../protocol/rules.ts'
import { agentRulesFor, answerConditions, watchTargets } from '../../domain/tagging/agent-rules.ts'
import { compileRules } from '../../domain/tagging/compile.ts'
import { conditionKey } from '../../domain/tagging/condition-key.ts'
import type { Device } from '../../domain/tagging/device.ts'
import { evaluateEndpoint, type RuleVerdicts } from '../../domain/tagging/evaluate.ts'
import { explainTag } from '../../domain/tagging/explain.ts'
import { parseLogic, workOut, type Truth } from '../../domain/tagging/logic.ts'
import { checkRuleSet } from '../../domain/tagging/rule-set.ts'
import { compareVersions } from '../../domain/tagging/conditions/os-version.ts'

const now = 1_790_000_000_000
const uuid = (n: number) => `00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`
const ruleSet = (n: number, linux: OsRules, tag = n): RuleSet =>
  ({ id: uuid(n), tagUid: uuid(1000 + tag), name: `rule ${n}`, enabled: true, tag: `tag ${tag}`, message: '', comment: '', rules: { linux } })
const fact = <S extends SectionName>(value: NonNullable<Facts[S]>['value']) => ({ value, at: now - 1000, provenance: 'claimed' as const })
const os = (version = '12.8') => fact<'os'>({ type: 'linux', name: 'Debian GNU/Linux', version, kernel: '6.1', architecture: 'x64' })
const network = (ip: string) => fact<'network'>({ interfaces: [{ name: 'eth0', addresses: [{ ip, prefix: 24 }] }], defaultGateways: [], dnsServers: [] })
const evaluate = (rules: RuleSet[], facts: Facts, at = now) => evaluateEndpoint({ rules: compileRules(rules, 1), facts, changed: 'all', previous: {}, now: at })
const tagsOf = (rules: RuleSet[], facts: Facts, at = now) => evaluate(rules, facts, at).tags.map(({ state }) => state)
const atLeast = (version: string, negate = false) => ({ type: 'os-version', negate, comparator: '>=', version })
const file = { type: 'file', negate: false, path: '/etc/marker' }
const verdicts = (value: 'true' | 'false' | 'unknown' | 'unsupported') => fact<'verdicts'>({ answers: { [conditionKey(file)]: { value, seen: 'x', at: now } } })

describe('an OS version rule', () => {
  it.each([['12.8', '12', 1], ['12', '12.0.0', 0], ['9.9', '10', -1], ['10.0.22631', '10.0.22000', 1]])('orders %s against %s as %i', (a, b, expected) => expect(compareVersions(a, b)).toBe(expected))
  it('tags a system that is new enough and does not tag an older one', () => {
    expect(tagsOf([ruleSet(1, { conditions: [atLeast('12')] })], { os: os() })).toEqual(['present'])
    expect(tagsOf([ruleSet(1, { conditions: [atLeast('13')] })], { os: os() })).toEqual([])
  })
  it('is unknown for a version that is no version, negated too', () => {
    expect(tagsOf([ruleSet(1, { conditions: [atLeast('12')] })], { os: os('rolling') })).toEqual(['unknown'])
    expect(tagsOf([ruleSet(1, { conditions: [atLeast('12', true)] })], { os: os('rolling') })).toEqual(['unknown'])
  })
})

describe('an IP range rule', () => {
  it('takes v4 and v6 and never mixes them', () => {
    const rule = [ruleSet(1, { conditions: [{ type: 'ip-range', negate: false, ranges: ['10.0.0.0/8', 'fd00::/8'] }] })]
    expect(tagsOf(rule, { os: os(), network: network('10.1.2.3') })).toEqual(['present'])
    expect(tagsOf(rule, { os: os(), network: network('fd00::1') })).toEqual(['present'])
    expect(tagsOf(rule, { os: os(), network: network('192.168.1.1') })).toEqual([])
    expect(tagsOf(rule, { os: os() })).toEqual(['unknown'])
  })
})

describe('a vulnerability rule', () => {
  const rule = (extra = {}) => [ruleSet(1, { conditions: [{ type: 'vulnerable-devices', negate: true, severity: 'high', ...extra }] })]
  const found = (severity: 'low' | 'high' | 'unrated') => ({ os: os(), vulnerabilities: fact<'vulnerabilities'>({ scannedAt: now - 1000, scanner: 's', found: [{ id: 'CVE-1', name: 'x', severity, package: 'p' }] }) })
  it('does not clear a device with unrated findings', () => {
    expect(tagsOf(rule(), found('low'))).toEqual(['present'])
    expect(tagsOf(rule(), found('high'))).toEqual([])
    expect(tagsOf(rule(), found('unrated'))).toEqual(['unknown'])
  })
  it('falls due when the scan grows too old, without a report', () => {
    const fresh = evaluate(rule({ scannedWithinSeconds: 60 }), found('low'))
    expect([fresh.tags[0]?.state, fresh.nextDue]).toEqual(['present', now - 1000 + 60_000])
    expect(tagsOf(rule({ scannedWithinSeconds: 60 }), found('low'), now + 60_000)).toEqual(['unknown'])
  })
})

describe('an agent-side rule', () => {
  const rules = [ruleSet(1, { conditions: [file, { type: 'running-process', negate: true, name: 'torrent' }] })]
  it('is sent to agents once per meaning, without its NOT', () => {
    const sent = agentRulesFor('linux', [...rules, ruleSet(2, { conditions: [{ ...file, negate: true }] })], 7)
    expect(sent.conditions.map(({ condition }) => [condition.type, condition.negate]).sort()).toEqual([['file', false], ['running-process', false]])
    expect(watchTargets(sent)).toEqual({ files: ['/etc/marker'], processes: ['torrent'] })
  })
  it('is answered by the agent with what it saw, and the time of an answer moves only with the answer', async () => {
    const device: Device = { fileFacts: () => Promise.resolve({ exists: false }), processes: () => Promise.resolve([{ name: 'torrent', path: '/usr/bin/torrent' }]) }
    const first = await answerConditions(agentRulesFor('linux', rules, 1), device, {}, now)
    expect(Object.values(first.answers).map(({ value }) => value).sort()).toEqual(['false', 'true'])
    expect(await answerConditions(agentRulesFor('linux', rules, 1), device, first.answers, now + 5)).toEqual(first)
  })
  it('is unknown until the agent has answered this very question', () => {
    const rule = [ruleSet(1, { conditions: [file] })]
    expect(tagsOf(rule, { os: os() })).toEqual(['unknown'])
    expect(tagsOf(rule, { os: os(), verdicts: verdicts('true') })).toEqual(['present'])
    expect(tagsOf([ruleSet(1, { conditions: [{ ...file, path: '/etc/other' }] })], { os: os(), verdicts: verdicts('true') })).toEqual(['unknown'])
  })
})

describe('the logic of a rule set', () => {
  it('binds and before or, and not before both', () => {
    const parsed = parseLogic('1 or not 2 and (3 or 1)', 3)
    expect(parsed.ok && workOut(parsed.logic, (i) => (['false', 'false', 'true'] as const)[i] ?? 'unknown')).toBe('true')
  })
  it.each([['', 'a condition is missing at character 1'], ['1 and', 'a condition is missing at character 6'], ['1 2', '"2" is not expected at character 3'], ['4', 'there is no condition 4 at character 1'],
    ['(1', 'a closing bracket is missing at character 3'], ['1; drop', '";" is not expected at character 2'], [`${'('.repeat(40)}1`, 'brackets are nested too deeply at character 18']])('refuses "%s" and names the place', (text, detail) => {
    expect(parseLogic(text, 3)).toEqual({ ok: false, detail })
  })
})

describe('a rule set that can not be taken', () => {
  const errors = (linux: object) => checkRuleSet(ruleSetInput.parse({ name: 'x', tag: 'x', rules: { linux } })).map(({ pointer }) => pointer)
  it('is refused with the exact place', () => {
    expect(errors({ conditions: [{ type: 'nonsense' }] })).toEqual(['/rules/linux/conditions/0/type'])
    expect(errors({ conditions: [{ type: 'ip-range', ranges: ['10.0.0.0/8', 'x'] }] })).toEqual(['/rules/linux/conditions/0/ranges/1'])
    expect(errors({ conditions: [{ type: 'file', path: '../etc/passwd' }] })).toEqual(['/rules/linux/conditions/0/path'])
    expect(errors({ conditions: [file], logic: '1 and 2' })).toEqual(['/rules/linux/logic'])
    expect(errors({ conditions: [file] })).toEqual([])
  })
})

describe('evaluation', () => {
  const anyFacts = fc.record({
    os: fc.constantFrom(os('12.8'), os('11.2'), os('odd')),
    network: fc.constantFrom(network('10.0.0.1'), network('192.168.0.1')),
    verdicts: fc.constantFrom(verdicts('true'), verdicts('false'), verdicts('unknown'), verdicts('unsupported')),
  }, { requiredKeys: ['os'] })
  const anyCondition = fc.constantFrom(atLeast('12'), atLeast('12', true), file, { ...file, negate: true }, { type: 'ip-range', negate: false, ranges: ['10.0.0.0/8'] })
  const anyRules = fc.array(fc.tuple(fc.array(anyCondition, { minLength: 1, maxLength: 4 }), fc.integer({ min: 0, max: 2 })), { minLength: 1, maxLength: 6 })
    .map((each) => each.map(([conditions, tag], n) => ruleSet(n, { conditions, ...(n % 2 === 0 ? { logic: conditions.map((_, i) => i + 1).join(' or ') } : {}) }, tag)))

  it('incrementally gives what it gives from scratch, over any history', () => {
    fc.assert(fc.property(anyRules, fc.array(anyFacts, { minLength: 1, maxLength: 6 }), (rules, history) => {
      const compiled = compileRules(rules, 1)
      let previous: RuleVerdicts = {}
      let before: Facts = {}
      for (const facts of history) {
        const changed = (['os', 'network', 'verdicts'] as const).filter((section) => facts[section] !== before[section])
        const step = evaluateEndpoint({ rules: compiled, facts, changed, previous, now })
        const whole = evaluateEndpoint({ rules: compiled, facts, changed: 'all', previous: {}, now })
        expect({ ...step, evaluated: [] }).toEqual({ ...whole, evaluated: [] })
        previous = step.verdicts
        before = facts
      }
    }))
  })
  it('works out only the rule sets that read what changed', () => {
    const rules = [ruleSet(1, { conditions: [atLeast('12')] }), ruleSet(2, { conditions: [file] }), ruleSet(3, { conditions: [{ type: 'ip-range', negate: false, ranges: ['10.0.0.0/8'] }] })]
    const compiled = compileRules(rules, 1)
    const first = evaluateEndpoint({ rules: compiled, facts: { os: os() }, changed: 'all', previous: {}, now })
    expect(evaluateEndpoint({ rules: compiled, facts: { os: os(), network: network('10.0.0.1') }, changed: ['network'], previous: first.verdicts, now }).evaluated).toEqual([uuid(3)])
  })
  it('never turns a removed fact into a tag that was not there', () => {
    fc.assert(fc.property(anyRules, anyFacts, fc.constantFrom('network' as const, 'verdicts' as const), (rules, facts, gone) => {
      const { [gone]: _, ...fewer } = facts
      const present = (given: Facts) => new Set(evaluate(rules, given).tags.filter(({ state }) => state === 'present').map(({ tagUid }) => tagUid))
      const before = present(facts)
      for (const tag of present(fewer)) expect(before).toContain(tag)
    }))
  })
  it('lets no unknown pass, negated or not', () => {
    fc.assert(fc.property(fc.array(fc.constantFrom<Truth>('unknown'), { minLength: 1, maxLength: 5 }), fc.boolean(), (values, negated) => {
      const text = values.map((_, i) => `${negated ? 'not ' : ''}${i + 1}`).join(negated ? ' or ' : ' and ')
      const parsed = parseLogic(text, values.length)
      expect(parsed.ok && workOut(parsed.logic, (i) => values[i] ?? 'unknown')).toBe('unknown')
    }))
  })
})

describe('an explanation', () => {
  it('says for each condition what was seen, what was wanted and how to mend it', () => {
    const rules = [ruleSet(1, { conditions: [file, atLeast('13')] })]
    const explained = explainTag({ tagUid: rules[0]?.tagUid ?? '', rules: compileRules(rules, 1), facts: { os: os(), verdicts: verdicts('false') }, now })
    expect(explained?.state).toBe('absent')
    expect(explained?.ruleSets[0]?.conditions.map(({ value, seen, wanted, mend }) => [value, seen, wanted, mend])).toEqual([
      ['false', 'x', '/etc/marker exists', 'Put /etc/marker back as it should be.'],
      ['false', 'Debian GNU/Linux 12.8', 'the system version is at least 13', 'Update the operating system (13 is asked for).'],
    ])
  })
})
