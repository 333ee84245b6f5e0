// What stands of a verdict while agents owe an answer, and report-only rule sets, over histories of edits, reports and time: bounded, never against what is known, and gone without a trace.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compileRules } from '../../../domain/tagging/compile.ts'
import { evaluateEndpoint, osOf, type Evaluation, type RuleVerdicts } from '../../../domain/tagging/evaluate.ts'
import { meaningOf, standsUntil } from '../../../domain/tagging/rule-set.ts'
import type { Facts, SectionName } from '../../../protocol/facts.ts'
import type { Condition, RuleSet } from '../../../protocol/rules.ts'
import { answers, atLeast, evaluate, marker, negated, now, os, ruleSet, scan, sshd, uuid, vulnerable } from './endpoint-facts.ts'
import { anyFacts, anyRules, reported, rulesOver } from './generated.ts'

/** An endpoint by itself: facts, the rules it was worked out with, and what is stored of it. */
class Endpoint {
  stored: RuleVerdicts = {}
  at = now
  #facts: Facts
  #rules: readonly RuleSet[]
  #owed = new Map<string, number | null>()
  #system: string | null = null
  constructor(rules: readonly RuleSet[], facts: Facts) {
    [this.#rules, this.#facts] = [rules, facts]
    this.work('all')
  }
  get facts() { return this.#facts }
  get rules() { return this.#rules }
  /** Rules are edited; the endpoint has yet to be worked out with them. */
  edit(rules: readonly RuleSet[]): void {
    const before = new Map(this.#rules.map((each) => [each.id, each]))
    for (const id of new Set([...before.keys(), ...rules.map((each) => each.id)])) {
      const [was, is] = [before.get(id) ?? null, rules.find((each) => each.id === id) ?? null]
      if (was !== null && is !== null && meaningOf(was) === meaningOf(is)) continue
      const stands = is === null ? null : standsUntil(was, is, this.at)
      this.#owed.set(id, this.#owed.get(id) === null ? null : stands)
    }
    this.#rules = rules
  }
  report(facts: Facts): Evaluation {
    const changed = reported.filter((section) => facts[section] !== this.#facts[section])
    this.#facts = facts
    return this.work(changed)
  }
  work(changed: readonly SectionName[] | 'all'): Evaluation {
    const worked = evaluateEndpoint({
      rules: compileRules(this.#rules, 1), facts: this.#facts, changed, previous: this.stored, now: this.at, ...(this.#system === null ? {} : { system: this.#system }),
      touched: new Set(this.#owed.keys()), standing: new Map([...this.#owed].flatMap(([id, until]) => (until === null ? [] : [[id, until] as const]))),
    })
    this.#owed.clear()
    this.#system = osOf(this.#facts)
    this.stored = worked.verdicts
    return worked
  }
}
const one = (conditions: Condition[], more: Partial<RuleSet> = {}, logic?: string) => ruleSet(1, { conditions, ...(logic === undefined ? {} : { logic }) }, more)
const state = ({ tags }: Evaluation) => tags[0]?.state ?? 'absent'
/** Has a tag by one condition, whereupon the other is asked too. */
function edited(facts: Facts, after: RuleSet, before = one([marker])) {
  const endpoint = new Endpoint([before], facts)
  endpoint.edit([after])
  return { endpoint, worked: endpoint.work([]) }
}
const holds = { os: os(), verdicts: answers([[marker, 'true']]) }
const both = one([marker, sshd])

describe('an edit that asks agents something new', () => {
  it('lets the old verdict stand until the transition ends, and not a moment longer', () => {
    const { endpoint, worked } = edited(holds, both)
    expect([state(worked), worked.nextDue, worked.tags[0]?.validUntil]).toEqual(['present', now + 60_000, now + 60_000])
    endpoint.at = now + 59_999
    expect(state(endpoint.work('all'))).toBe('present')
    endpoint.at = now + 60_000
    expect(endpoint.work([])).toMatchObject({ tags: [{ state: 'unknown', validUntil: null }], nextDue: null, evaluated: [uuid(1)] })
  })
  it('is decided at once by an answer that comes earlier, whichever it is', () => {
    for (const [value, expected] of [['true', 'present'], ['false', 'absent'], ['unknown', 'unknown'], ['unsupported', 'unknown']] as const) {
      const { endpoint } = edited(holds, both)
      const worked = endpoint.report({ ...holds, verdicts: answers([[marker, 'true'], [sshd, value]]) })
      expect([state(worked), worked.nextDue]).toEqual([expected, null])
    }
  })
  it('lets no tag stand that a condition denies which the EMS knows, then or later', () => {
    expect(state(edited(holds, one([marker, sshd, atLeast('13')])).worked)).toBe('absent')
    expect(state(edited(holds, one([negated(marker), sshd])).worked)).toBe('absent')
    // What the EMS does not know can not be true, whatever the agent answers.
    expect(state(edited(holds, one([marker, sshd, vulnerable('high')])).worked)).toBe('unknown')
    const { endpoint } = edited(holds, one([marker, sshd, atLeast('12')]))
    expect(state(endpoint.report({ ...holds, os: os('11') }))).not.toBe('present')
    // A scan that grows too old in the middle of it.
    const aging = { ...holds, vulnerabilities: scan([], now - 30_000) }
    const scanned = edited(aging, one([marker, sshd, negated(vulnerable('high', 60))]))
    expect([state(scanned.worked), scanned.worked.nextDue]).toEqual(['present', now + 30_000])
    scanned.endpoint.at = now + 30_000
    expect(state(scanned.endpoint.work([]))).toBe('unknown')
  })
  it('lets a verdict stand no longer than it would have without the edit', () => {
    const { worked } = edited({ ...holds, vulnerabilities: scan([], now - 50_000) }, one([sshd]), one([negated(vulnerable('high', 60))]))
    expect([state(worked), worked.nextDue]).toEqual(['present', now + 10_000])
  })
  it('is of the same system after an update of it, and of none that is another', () => {
    const updated = edited(holds, both).endpoint.report({ ...holds, os: os('12.9') })
    expect([state(updated), updated.nextDue]).toEqual(['present', now + 60_000])
    const everywhere = (conditions: Condition[]) => one([], { rules: { linux: { conditions }, windows: { conditions } } })
    const { endpoint } = edited(holds, everywhere([marker, sshd]), everywhere([marker]))
    expect(state(endpoint.report({ ...holds, os: os('10', 'windows') }))).toBe('unknown')
  })
  it('puts off nothing by being made again', () => {
    const { endpoint } = edited(holds, both)
    for (const [after, conditions] of [[30_000, [marker, { ...sshd, name: 'cron' }]], [59_000, [marker, { ...sshd, name: 'docker' }]]] as const) {
      endpoint.at = now + after
      endpoint.edit([one([...conditions])])
      expect(endpoint.work([])).toMatchObject({ tags: [{ state: 'present' }], nextDue: now + 60_000 })
    }
  })
  it('lets nothing stand that it did not give before: a new rule set, another tag, one that was switched off or only reported', () => {
    const first = new Endpoint([], holds)
    first.edit([both])
    expect(state(first.work([]))).toBe('unknown')
    for (const before of [one([marker], { tagUid: uuid(9) }), one([marker], { enabled: false }), one([marker], { mode: 'shadow' })]) expect(state(edited(holds, both, before).worked)).toBe('unknown')
    // Not even by two edits before anybody looked.
    const { endpoint } = edited(holds, one([marker]))
    endpoint.edit([one([marker, sshd], { tagUid: uuid(9) })])
    endpoint.edit([one([marker, { ...sshd, name: 'cron' }], { tagUid: uuid(9) })])
    expect(state(endpoint.work([]))).toBe('unknown')
  })
  it('takes effect at once where the rule set says 0', () => { expect(state(edited(holds, one([marker, sshd], { transitionSeconds: 0 })).worked)).toBe('unknown') })
  it('lets an absent tag stay absent too, so that no policy that forbids it cuts anybody', () => {
    const { endpoint, worked } = edited({ os: os(), verdicts: answers([[marker, 'false']]) }, one([marker, sshd], {}, '1 or 2'))
    expect([state(worked), worked.nextDue]).toEqual(['absent', now + 60_000])
    endpoint.at = now + 60_000
    expect(state(endpoint.work([]))).toBe('unknown')
  })
})

/** Half of what is asked has never been answered. */
const asking = rulesOver(fc.tuple(fc.constantFrom(marker, sshd, { ...sshd, name: 'cron' }, { ...sshd, name: 'docker' }, atLeast('12'), vulnerable('high', 60)), fc.boolean()).map(([condition, negate]): Condition => ({ ...condition, negate })))
const step = fc.record({ rules: fc.option(asking, { nil: undefined }), facts: anyFacts, wait: fc.integer({ min: 0, max: 50_000 }), look: fc.boolean(), toDue: fc.boolean(), elsewhere: fc.boolean() })
const begun = { os: os(), verdicts: answers([[marker, 'true'], [sshd, 'true']]), vulnerabilities: scan([], now) }
/** Most edits change what a rule set asks and leave what it gives. */
const editOf = (before: readonly RuleSet[], after: readonly RuleSet[], elsewhere: boolean) => (elsewhere ? after : after.map((each) => ({ ...each, ...before.find(({ id }) => id === each.id), rules: each.rules })))
/** Most reports come from the same system as before. */
const factsOf = (before: Facts, after: Facts, elsewhere: boolean): Facts => ({ ...before, ...after, os: elsewhere ? after.os ?? before.os : before.os ?? os() })
describe('over any history of edits, reports and time', () => {
  it('what is worked out step by step is what working everything out at each step gives; at the end of every transition, what it is from scratch', () => {
    fc.assert(fc.property(asking, fc.array(step, { minLength: 1, maxLength: 6 }), (rules, history) => {
      const [endpoint, whole] = [new Endpoint(rules, begun), new Endpoint(rules, begun)]
      const alike = (incremental: Evaluation, full: Evaluation) => { expect({ ...incremental, evaluated: [], changedRuleSets: [] }).toEqual({ ...full, evaluated: [], changedRuleSets: [] }) }
      for (const { rules: then, facts, wait, toDue, elsewhere } of history) {
        if (then !== undefined) {
          for (const each of [endpoint, whole]) each.edit(editOf(each.rules, then, elsewhere))
          alike(endpoint.work([]), whole.work('all'))
        }
        const next = factsOf(endpoint.facts, facts, elsewhere)
        whole.report(next)
        alike(endpoint.report(next), whole.work('all'))
        const due = endpoint.work([]).nextDue
        for (const each of [endpoint, whole]) each.at = toDue && due !== null ? due : each.at + wait
        alike(endpoint.work([]), whole.work('all'))
      }
      for (const each of [endpoint, whole]) each.at += 60_000
      alike(endpoint.work([]), evaluate(endpoint.rules, endpoint.facts, endpoint.at))
    }), { numRuns: 300 })
  })
  it('no verdict contradicts what is known, and none stands for longer than a transition after the edit', () => {
    let stood = 0
    fc.assert(fc.property(asking, fc.array(step, { minLength: 1, maxLength: 8 }), (rules, history) => {
      const endpoint = new Endpoint(rules, begun)
      let lastEdit = -Infinity
      for (const { rules: then, facts, wait, look, elsewhere } of history) {
        if (then !== undefined) {
          endpoint.edit(editOf(endpoint.rules, then, elsewhere))
          lastEdit = endpoint.at
        }
        // Not every edit is looked at before the next one.
        if (look) {
          const { verdicts } = endpoint.report(factsOf(endpoint.facts, facts, elsewhere))
          const scratch = evaluate(endpoint.rules, endpoint.facts, endpoint.at).verdicts
          for (const { id } of endpoint.rules) {
            const [told, known] = [verdicts[id]?.value ?? 'false', scratch[id]?.value ?? 'false']
            if (told === known) continue
            stood++
            expect([known, (verdicts[id]?.standsUntil ?? 0) > endpoint.at, (verdicts[id]?.standsUntil ?? Infinity) <= lastEdit + 60_000]).toEqual(['unknown', true, true])
          }
        }
        endpoint.at += wait
      }
    }), { numRuns: 300 })
    expect(stood).toBeGreaterThan(20)
  })
})

describe('a report-only rule set', () => {
  it('is worked out like any other, and what it finds is no tag', () => {
    fc.assert(fc.property(anyRules, anyFacts, (rules, facts) => {
      const [mixed, enforced] = [evaluate(rules, facts), evaluate(rules.filter(({ mode }) => mode === 'enforce'), facts)]
      expect(mixed.tags).toEqual(enforced.tags)
      expect(mixed.verdicts).toEqual(evaluate(rules.map((each) => ({ ...each, mode: 'enforce' as const })), facts).verdicts)
    }), { numRuns: 300 })
  })
  it('gives its tag when it is switched on, by the facts that are stored', () => {
    const endpoint = new Endpoint([one([marker], { mode: 'shadow' })], holds)
    expect([endpoint.stored[uuid(1)]?.value, evaluate(endpoint.rules, holds).tags]).toEqual(['true', []])
    endpoint.edit([one([marker])])
    expect(state(endpoint.work([]))).toBe('present')
  })
})
