// From facts to tags: incremental equals from scratch over any history and any passing of time; unknown never passes.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compileRules } from '../../../domain/tagging/compile.ts'
import { evaluateEndpoint, type RuleVerdicts } from '../../../domain/tagging/evaluate.ts'
import { explainTag } from '../../../domain/tagging/explain.ts'
import { meaningOf } from '../../../domain/tagging/rule-set.ts'
import type { Facts, SectionName } from '../../../protocol/facts.ts'
import type { Condition, RuleSet } from '../../../protocol/rules.ts'
import { agent, answers, atLeast, evaluate, managed, marker, negated, network, now, office, os, ruleSet, scan, sshd, uuid, vulnerable } from './endpoint-facts.ts'
import { answer, anyFacts, anyHistory, anyRules, reported, rulesOver, withOs } from './generated.ts'

const states = (rules: readonly RuleSet[], facts: Facts, at = now) => new Map(evaluate(rules, facts, at).tags.map(({ tagUid, state }) => [tagUid, state]))
const meaningIn = (rules: readonly RuleSet[], id: string) => rules.filter((each) => each.id === id).map(meaningOf).join()
const tagsOf = (rules: readonly RuleSet[]) => [...new Set(rules.map(({ tagUid }) => tagUid))]

describe('evaluation', () => {
  it('incrementally gives what it gives from scratch, over any history and any passing of time', () => {
    fc.assert(fc.property(anyRules, anyHistory, (rules, history) => {
      const compiled = compileRules(rules, 1)
      let previous: RuleVerdicts = {}
      let facts: Facts = {}
      let at = now
      const step = (changed: readonly SectionName[] | 'all') => {
        const incremental = evaluateEndpoint({ rules: compiled, facts, changed, previous, now: at })
        const scratch = evaluateEndpoint({ rules: compiled, facts, changed: 'all', previous: {}, now: at })
        expect({ ...incremental, evaluated: [], changedRuleSets: [] }).toEqual({ ...scratch, evaluated: [], changedRuleSets: [] })
        previous = incremental.verdicts
        return incremental.nextDue
      }
      step('all')
      for (const { set, gone, wait, toDue } of history) {
        const before = facts
        facts = { ...facts, ...set }
        for (const section of gone) facts = { ...facts, [section]: undefined }
        const due = step(reported.filter((section) => facts[section] !== before[section]))
        at = toDue && due !== null ? due : at + wait
        step([])
      }
    }), { numRuns: 300 })
  })
  it('after edits of the rules, works out what they touched and no more, and gives what it gives from scratch', () => {
    const step = fc.record({ rules: anyRules, facts: withOs, wait: fc.integer({ min: 0, max: 120_000 }) })
    fc.assert(fc.property(fc.array(step, { minLength: 2, maxLength: 5 }), (history) => {
      let [previous, before, facts, at]: [RuleVerdicts, RuleSet[], Facts, number] = [{}, [], {}, now]
      for (const { rules, facts: then, wait } of history) {
        const touched = new Set([...before, ...rules].map(({ id }) => id).filter((id) => meaningIn(before, id) !== meaningIn(rules, id)))
        const compiled = compileRules(rules, 1)
        const edited = evaluateEndpoint({ rules: compiled, facts, changed: Object.keys(facts).length === 0 ? 'all' : [], touched, previous, now: at })
        const scratch = (given: Facts) => evaluateEndpoint({ rules: compiled, facts: given, changed: 'all', previous: {}, now: at })
        expect({ ...edited, evaluated: [], changedRuleSets: [] }).toEqual({ ...scratch(facts), evaluated: [], changedRuleSets: [] })
        const changed = reported.filter((section) => facts[section] !== then[section])
        const reportedToo = evaluateEndpoint({ rules: compiled, facts: then, changed, touched: new Set(), previous: edited.verdicts, now: at })
        expect({ ...reportedToo, evaluated: [], changedRuleSets: [] }).toEqual({ ...scratch(then), evaluated: [], changedRuleSets: [] })
        ;[previous, before, facts, at] = [reportedToo.verdicts, rules, then, at + wait]
      }
    }), { numRuns: 300 })
  })
  it('of one edited rule set among many works out that one only', () => {
    const rules = Array.from({ length: 200 }, (_, n) => ruleSet(n, { conditions: [atLeast(String(n % 20))] }))
    const first = evaluate(rules, { os: os('12') })
    const edited = rules.map((each, n) => (n === 7 ? ruleSet(7, { conditions: [atLeast('13')] }) : each))
    const again = evaluateEndpoint({ rules: compileRules(edited, 2), facts: { os: os('12') }, changed: [], touched: new Set([uuid(7)]), previous: first.verdicts, now })
    expect([again.evaluated, again.changedRuleSets]).toEqual([[uuid(7)], [uuid(7)]])
    expect(again.tags).toEqual(evaluate(edited, { os: os('12') }).tags)
  })
  it('tells an instant before which no tag changes by itself, and until which each tag stands', () => {
    fc.assert(fc.property(anyRules, withOs, fc.nat(300_000), (rules, facts, later) => {
      const first = evaluate(rules, facts)
      const then = states(rules, facts, now + later)
      if (first.nextDue === null || now + later < first.nextDue) expect(then).toEqual(states(rules, facts))
      for (const { tagUid, state, validUntil } of first.tags) if (validUntil === null || now + later < validUntil) expect(then.get(tagUid)).toBe(state)
    }), { numRuns: 300 })
  })
  it('never tells an instant that has passed', () => {
    fc.assert(fc.property(anyRules, anyFacts, (rules, facts) => {
      const { nextDue, tags } = evaluate(rules, facts)
      for (const instant of [nextDue, ...tags.map(({ validUntil }) => validUntil)]) if (instant !== null) expect(instant).toBeGreaterThan(now)
    }))
  })
  it('works out only the rule sets that read what changed, or that are due', () => {
    const rules = [ruleSet(1, { conditions: [atLeast('12')] }), ruleSet(2, { conditions: [marker] }), ruleSet(3, { conditions: [office] }), ruleSet(4, { conditions: [negated(vulnerable('high', 60))] })]
    const compiled = compileRules(rules, 1)
    const facts = { os: os(), vulnerabilities: scan([], now) }
    const first = evaluateEndpoint({ rules: compiled, facts, changed: 'all', previous: {}, now })
    const again = (changed: readonly SectionName[], at = now, more: Facts = {}) => evaluateEndpoint({ rules: compiled, facts: { ...facts, ...more }, changed, previous: first.verdicts, now: at })
    expect(first.evaluated).toEqual(rules.map(({ id }) => id))
    expect(again([]).evaluated).toEqual([])
    expect(again(['software', 'user']).evaluated).toEqual([])
    expect(again([], now + 60_000)).toMatchObject({ evaluated: [uuid(4)], changedRuleSets: [uuid(4)] })
    expect(again(['network'], now, { network: network('10.0.0.1') })).toMatchObject({ evaluated: [uuid(3)], changedRuleSets: [uuid(3)] })
    // The system chooses the rules themselves: nothing that was worked out for another one stands.
    expect(again(['os']).evaluated).toEqual(rules.map(({ id }) => id))
  })
  it('of 500 rule sets, works out those that read the one fact that changed', () => {
    const [readers, others] = [[office, negated(office)], [atLeast('12'), marker, negated(vulnerable('high', 60)), managed]]
    const rules = Array.from({ length: 500 }, (_, n) => ruleSet(n, { conditions: n % 50 === 0 ? [...readers, ...others] : others }))
    const facts = { os: os(), network: network('10.0.0.1'), agent: agent(), verdicts: answers([[marker, 'true']]), vulnerabilities: scan([], now) }
    const first = evaluate(rules, facts)
    const again = evaluateEndpoint({ rules: compileRules(rules, 1), facts: { ...facts, network: network('192.168.0.1') }, changed: ['network'], previous: first.verdicts, now })
    expect([first.evaluated.length, again.evaluated]).toEqual([500, rules.filter((_, n) => n % 50 === 0).map(({ id }) => id)])
  })
  it('takes a tag when any of its rule sets holds, and counts no disabled one', () => {
    const one = (conditions: Condition[], n: number, enabled = true) => ruleSet(n, { conditions }, { tagUid: uuid(1000), enabled })
    const state = (...rules: RuleSet[]) => evaluate(rules, { os: os('12.8') }).tags[0]?.state ?? 'absent'
    expect(state(one([atLeast('13')], 1), one([atLeast('12')], 2))).toBe('present')
    expect(state(one([atLeast('13')], 1), one([marker], 2))).toBe('unknown')
    expect(state(one([atLeast('13')], 1), one([atLeast('12')], 2, false))).toBe('absent')
  })
  it('keeps a tag valid while another of its rule sets still gives it', () => {
    const rules = [ruleSet(1, { conditions: [atLeast('12')] }, { tagUid: uuid(1000) }), ruleSet(2, { conditions: [negated(vulnerable('high', 60))] }, { tagUid: uuid(1000) })]
    expect(evaluate(rules, { os: os(), vulnerabilities: scan([], now) })).toMatchObject({ tags: [{ state: 'present', validUntil: null }], nextDue: now + 60_000 })
  })
})

describe('the meaning of a rule set', () => {
  const conditions = [atLeast('12'), marker, negated(sshd)]
  const meant = ruleSet(1, { conditions, logic: '1 and 2 and 3' }, { rules: { linux: { conditions, logic: '1 and 2 and 3' }, windows: { conditions } } })
  it('is not its name, message, comment or transition, nor the order of members, nor how its logic is written', () => {
    const turned = conditions.map((each) => Object.fromEntries(Object.entries(each).reverse()) as Condition)
    for (const same of [
      { ...meant, name: 'other', message: 'other', comment: 'other', transitionSeconds: 5 }, { ...meant, rules: { windows: { conditions: turned }, linux: { logic: '1 and 2 and 3', conditions: turned } } },
      ruleSet(1, { conditions }, { rules: { linux: { conditions, logic: '1  AND 2 and (3)' }, windows: { conditions, logic: '1 and 2 and 3' } } }),
    ]) expect(meaningOf(same)).toBe(meaningOf(meant))
  })
  it('is its tag, its mode, whether it is enabled, its systems, conditions and logic', () => {
    const others: RuleSet[] = [
      { ...meant, tagUid: uuid(7) }, { ...meant, mode: 'shadow' }, { ...meant, enabled: false }, { ...meant, rules: { linux: { conditions } } },
      { ...meant, rules: { ...meant.rules, linux: { conditions: [atLeast('13'), marker, negated(sshd)] } } }, { ...meant, rules: { ...meant.rules, linux: { conditions, logic: '1 or 2 and 3' } } },
      { ...meant, rules: { ...meant.rules, linux: { conditions: [atLeast('12'), marker, sshd] } } },
    ]
    expect(new Set([meant, ...others].map(meaningOf)).size).toBe(8)
  })
})

describe('what is not known', () => {
  it('decides nothing: whatever the logic and the negations, unknown conditions make an unknown tag', () => {
    const unseen = rulesOver(fc.tuple(fc.constantFrom(marker, sshd, office, managed, vulnerable('high', 60)), fc.boolean()).map(([condition, negate]): Condition => ({ ...condition, negate })))
    fc.assert(fc.property(unseen, answer.filter((value) => value === 'unknown' || value === 'unsupported'), (rules, value) => {
      for (const facts of [{ os: os() }, { os: os(), verdicts: answers([[marker, value], [sshd, value]]) }]) {
        const found = states(rules, facts)
        for (const { tagUid } of rules.filter(({ enabled, mode }) => enabled && mode === 'enforce')) expect(found.get(tagUid)).toBe('unknown')
      }
    }))
  })
  it('never becomes certain when a fact is removed: a tag stays what it was or becomes unknown', () => {
    fc.assert(fc.property(anyRules, anyFacts, fc.constantFrom(...reported), (rules, facts, gone) => {
      const before = states(rules, facts)
      const after = states(rules, { ...facts, [gone]: undefined })
      for (const tagUid of tagsOf(rules)) expect([before.get(tagUid), 'unknown']).toContain(after.get(tagUid))
    }), { numRuns: 300 })
  })
  it('covers every tag while the system itself is not known: absent would pass a policy that forbids the tag', () => {
    const rules = [ruleSet(1, { conditions: [vulnerable('high')] }), ruleSet(2, { conditions: [atLeast('12')] }), ruleSet(3, { conditions: [managed] }, { enabled: false })]
    const unknown = evaluate(rules, { vulnerabilities: scan(['high']), agent: agent() })
    expect(unknown.tags).toEqual([1001, 1002].map((tag) => ({ tagUid: uuid(tag), state: 'unknown', validUntil: null })))
    const known = evaluateEndpoint({ rules: compileRules(rules, 1), facts: { os: os('11'), vulnerabilities: scan([]) }, changed: ['os', 'vulnerabilities'], previous: unknown.verdicts, now })
    expect(known).toMatchObject({ tags: [], changedRuleSets: [uuid(1), uuid(2)] })
  })
  it('is every tag of a rule set that can not be read, whatever was found before; the others go on', () => {
    const sound = ruleSet(1, { conditions: [atLeast('12')] })
    const stored: [string, RuleSet][] = [
      ['of a type that is not there', ruleSet(2, { conditions: [{ type: 'gone', negate: false }] })],
      ['with parameters of another version', ruleSet(2, { conditions: [{ ...atLeast('12'), version: 12 }] })],
      ['with logic over what is not there', ruleSet(2, { conditions: [atLeast('12')], logic: '1 and 2' })],
    ]
    for (const [what, broken] of stored) {
      const rules = compileRules([sound, broken], 2)
      const after = evaluateEndpoint({ rules, facts: { os: os('12') }, changed: [], touched: new Set(), previous: { [uuid(1)]: { value: 'true', validUntil: null }, [uuid(2)]: { value: 'true', validUntil: null } }, now })
      expect([what, after.tags.map(({ tagUid, state }) => [tagUid, state])]).toEqual([what, [[uuid(1001), 'present'], [uuid(1002), 'unknown']]])
      expect(explainTag({ tagUid: uuid(1002), rules, facts: { os: os('12') }, now })).toMatchObject({ state: 'unknown', ruleSets: [{ value: 'unknown', conditions: [{ value: 'unknown' }] }] })
    }
  })
  it('is a condition that fails on a fact of the wrong shape: its endpoint keeps its other tags, and it falls due again', () => {
    const rules = [ruleSet(1, { conditions: [office] }), ruleSet(2, { conditions: [negated(office)] }), ruleSet(3, { conditions: [atLeast('12')] })]
    const torn = { ...network(), value: {} as never }
    const { tags, failures, nextDue } = evaluate(rules, { os: os('12'), network: torn })
    expect(tags.map(({ tagUid, state }) => [tagUid, state])).toEqual([[uuid(1001), 'unknown'], [uuid(1002), 'unknown'], [uuid(1003), 'present']])
    expect([failures.map(({ ruleSet: id }) => id), (nextDue ?? 0) > now]).toEqual([[uuid(1), uuid(2)], true])
    expect(explainTag({ tagUid: uuid(1001), rules: compileRules(rules, 1), facts: { os: os('12'), network: torn }, now })?.state).toBe('unknown')
  })
})
