// Rules that read tags of the same endpoint: in order, in three values, worked out again when such a tag turns and not otherwise, never in a circle.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compileRules } from '../../../domain/tagging/compile.ts'
import { evaluateEndpoint, type Evaluation } from '../../../domain/tagging/evaluate.ts'
import { explainTag } from '../../../domain/tagging/explain.ts'
import { findCircle, inOrder } from '../../../domain/tagging/tag-order.ts'
import { checkTagsRead, leftReading } from '../../../domain/tagging/tags-read.ts'
import { unmoved } from '../../../domain/tagging/unmoved.ts'
import type { Facts, SectionName } from '../../../protocol/facts.ts'
import type { RuleSet, TagState } from '../../../protocol/rules.ts'
import { agent, atLeast, managed, negated, network, now, office, os, ruleSet, scan, uuid, vulnerable } from './endpoint-facts.ts'
import { asked, fact } from './examples.ts'

const has = (n: number) => asked('tag-present', { tag: `tag ${n}` })
const of = (rules: readonly RuleSet[], facts: Facts, more: Partial<Parameters<typeof evaluateEndpoint>[0]> = {}): Evaluation => evaluateEndpoint({ rules: compileRules(rules, 1), facts, changed: 'all', previous: {}, now, ...more })
const stateOf = (evaluation: Evaluation, n: number) => evaluation.tags.find(({ tagUid }) => tagUid === uuid(1000 + n))?.state ?? 'absent'
const facts = { os: os(), network: network('10.0.0.1') }

describe('a rule that reads a tag', () => {
  // Written before the rule that gives it: the order is that of reading, not of writing.
  const rules = [ruleSet(3, { conditions: [has(2)] }), ruleSet(2, { conditions: [has(1), atLeast('12')] }), ruleSet(4, { conditions: [negated(has(1))] }), ruleSet(1, { conditions: [office] })]
  it('follows it through every step, negated too', () => {
    expect([1, 2, 3, 4].map((n) => stateOf(of(rules, facts), n))).toEqual(['present', 'present', 'present', 'absent'])
    expect([1, 2, 3, 4].map((n) => stateOf(of(rules, { ...facts, network: network('192.168.1.1') }), n))).toEqual(['absent', 'absent', 'absent', 'present'])
  })
  it('is unknown with it, negated or not', () => {
    expect([1, 2, 3, 4].map((n) => stateOf(of(rules, { os: os() }), n))).toEqual(['unknown', 'unknown', 'unknown', 'unknown'])
    const [first] = rules
    const broken = [...rules.slice(0, 3), ruleSet(1, { conditions: [asked('of another version')] })]
    expect([1, 2, 3, 4].map((n) => stateOf(of(broken, facts), n))).toEqual(['unknown', 'unknown', 'unknown', 'unknown'])
    expect(stateOf(of(first === undefined ? [] : [first], facts), 3)).toBe('unknown')
  })
  it('does not see what a report-only rule set finds, nor what one that is switched off would', () => {
    for (const more of [{ mode: 'shadow' as const }, { enabled: false }]) expect(stateOf(of([ruleSet(1, { conditions: [office] }, more), ruleSet(2, { conditions: [has(1)] })], facts), 2)).toBe('absent')
  })
  it('sees a tag that is set, and its end', () => {
    const set: TagState[] = [{ tagUid: uuid(9), state: 'present', validUntil: now + 50 }]
    const compiled = compileRules([ruleSet(1, { conditions: [asked('tag-present', { tag: 'importance high' })] })], 1, [{ uid: uuid(9), name: 'importance high' }])
    expect(of([], facts, { rules: compiled, bears: { set, before: [] } })).toMatchObject({ tags: [{ state: 'present', validUntil: now + 50 }], nextDue: now + 50 })
    expect(of([], facts, { rules: compiled, bears: { set: [], before: [] } }).tags).toEqual([])
    expect([...compiled.readTags]).toEqual([uuid(9)])
  })
  it('says in the explanation what the tag is', () => {
    const [condition] = explainTag({ tagUid: uuid(1003), rules: compileRules(rules, 1), facts, bears: of(rules, facts).tags, now })?.ruleSets[0]?.conditions ?? []
    expect(condition).toMatchObject({ type: 'tag-present', value: 'true', seen: 'present', section: 'tags', factAt: null, wanted: 'the tag "tag 2"' })
  })
  it('is not left alone by an edit, though it was unknown and is while nobody says what the endpoint bears', () => {
    const left = (condition: ReturnType<typeof has>) => unmoved({ rules: compileRules([ruleSet(3, { conditions: [condition] })], 1), facts: { os: os() }, touched: new Set([uuid(3)]), standing: new Map([[uuid(3), now]]), held: { [uuid(3)]: { value: 'unknown', validUntil: null } }, system: 'linux', now })
    expect(left(has(2))).toBeNull()
    expect(left(office)).toEqual([uuid(3)])
  })
})

describe('what is worked out again', () => {
  const rules = [ruleSet(1, { conditions: [office] }), ruleSet(2, { conditions: [has(1), vulnerable('high')] }), ruleSet(3, { conditions: [has(2)] }), ruleSet(4, { conditions: [managed] })]
  const all: Facts = { ...facts, agent: agent(), vulnerabilities: scan(['high']) }
  const first = of(rules, all, { bears: { set: [], before: [] } })
  const again = (changed: readonly SectionName[], next: Facts) => of(rules, next, { changed, previous: first.verdicts, bears: { set: [], before: first.tags } })
  it('is nothing that reads a tag, while the tag is as it was', () => {
    expect(again(['network'], { ...all, network: network('10.0.0.2') }).evaluated).toEqual([uuid(1)])
    expect(again(['agent'], all).evaluated).toEqual([uuid(4)])
    expect(again([], all).evaluated).toEqual([])
  })
  it('is whoever reads a tag that turned, and no other, down the whole chain', () => {
    const turned = again(['network'], { ...all, network: network('192.168.0.1') })
    expect([turned.evaluated, turned.tags.map(({ tagUid }) => tagUid)]).toEqual([[uuid(1), uuid(2), uuid(3)], [uuid(1004)]])
    expect(again(['vulnerabilities'], { ...all, vulnerabilities: scan([]) }).evaluated).toEqual([uuid(2), uuid(3)])
  })
  it('is whoever read the tag of a rule set that is gone, or that was set or taken away', () => {
    const reading = [ruleSet(2, { conditions: [has(1)] }), ruleSet(1, { conditions: [office] }, { enabled: false })]
    const before = [{ tagUid: uuid(1001), state: 'present' as const, validUntil: null }, { tagUid: uuid(1002), state: 'present' as const, validUntil: null }]
    const after = of(reading, all, { changed: [], previous: { [uuid(1)]: { value: 'true', validUntil: null }, [uuid(2)]: { value: 'true', validUntil: null } }, bears: { set: [], before } })
    expect([after.evaluated, after.tags]).toEqual([[uuid(2)], []])
  })
  it('comes to the same as from scratch, over random histories, time passing included', () => {
    const pool = [office, vulnerable('high', 600), managed, atLeast('12'), asked('third-party-score', { source: 'edr', comparator: '>=', score: 50 })]
    const graph = fc.array(fc.tuple(fc.nat(pool.length - 1), fc.boolean(), fc.option(fc.tuple(fc.nat(20), fc.boolean()), { nil: null })), { minLength: 2, maxLength: 7 })
    const sections = {
      network: fc.constantFrom(network('10.0.0.1'), network('192.168.0.1'), undefined), vulnerabilities: fc.constantFrom(scan(['high'], now), scan([], now + 60_000), undefined), agent: fc.constantFrom(agent(), undefined),
      scores: fc.constantFrom(fact('scores', { sources: { edr: { score: 60, at: now, expiresAt: now + 300_000 } } }).scores, fact('scores', { sources: { edr: { score: 10, at: now, expiresAt: now + 900_000 } } }).scores, fact('scores', { sources: {} }).scores, undefined),
    }
    const change = fc.oneof(fc.record({ network: sections.network }), fc.record({ vulnerabilities: sections.vulnerabilities }), fc.record({ agent: sections.agent }), fc.record({ scores: sections.scores }))
    const steps = fc.array(fc.tuple(change, fc.nat(400_000), fc.boolean()), { maxLength: 8 })
    fc.assert(fc.property(graph, steps, (drawn, history) => {
      // Each reads only tags of those before it: no circles here.
      const made = drawn.map(([n, negate, reads], at) => ruleSet(at, { conditions: [{ ...pool[n] ?? managed, negate }, ...(reads === null || at === 0 ? [] : [{ ...has(reads[0] % at), negate: reads[1] }])] })).reverse()
      const compiled = compileRules(made, 1)
      const setTag: TagState = { tagUid: uuid(1000), state: 'present', validUntil: now + 500_000 }
      let [held, at]: [Facts, number] = [{ os: os() }, now]
      let stored: Pick<Evaluation, 'verdicts' | 'tags'> = { verdicts: {}, tags: [] }
      let changed: readonly SectionName[] | 'all' = 'all'
      for (const [change_, later, isSet] of [[{}, 0, false] as const, ...history]) {
        at += later
        held = { ...held, ...change_ }
        if (changed !== 'all') changed = Object.keys(change_) as SectionName[]
        const set = isSet && at < now + 500_000 ? [setTag] : []
        const step = evaluateEndpoint({ rules: compiled, facts: held, changed, previous: stored.verdicts, bears: { set, before: stored.tags }, now: at })
        const scratch = evaluateEndpoint({ rules: compiled, facts: held, changed: 'all', previous: {}, bears: { set, before: [] }, now: at })
        expect([step.verdicts, step.tags, step.nextDue]).toEqual([scratch.verdicts, scratch.tags, scratch.nextDue])
        // As they are stored: what is set goes before what rules give.
        stored = { verdicts: step.verdicts, tags: [...step.tags.filter(({ tagUid }) => !set.some((each) => each.tagUid === tagUid)), ...set] }
        changed = []
      }
    }), { numRuns: 300 })
  })
})

describe('a circle', () => {
  const circle = [ruleSet(1, { conditions: [has(3), managed] }), ruleSet(2, { conditions: [negated(has(1))] }), ruleSet(3, { conditions: [has(2)] }), ruleSet(4, { conditions: [has(3)] }), ruleSet(5, { conditions: [managed] })]
  const linked = circle.map((each) => ({ of: each.id, gives: each.tag, reads: each.rules.linux?.conditions.flatMap(({ type, tag }) => (type === 'tag-present' ? [String(tag)] : [])) ?? [] }))
  it('is named, tag by tag', () => {
    expect(findCircle(linked)).toEqual(['tag 1', 'tag 3', 'tag 2', 'tag 1'])
    expect(findCircle(linked.filter(({ gives }) => gives !== 'tag 2'))).toBeNull()
    expect(findCircle([{ of: 1, gives: 'a', reads: ['a'] }])).toEqual(['a', 'a'])
  })
  it('that came about all the same leaves its tags unknown, and whoever reads them, and the others as they are', () => {
    const evaluation = of(circle, { ...facts, agent: agent() })
    expect([1, 2, 3, 4, 5].map((n) => stateOf(evaluation, n))).toEqual(['unknown', 'unknown', 'unknown', 'unknown', 'present'])
    expect(inOrder(linked)).toEqual({ order: [uuid(5)], circular: [1, 2, 3, 4].map(uuid) })
  })
  it('is looked for among thousands in a moment, and in a chain as long', () => {
    const chain = Array.from({ length: 5_000 }, (_, n) => ({ of: n, gives: `t${n}`, reads: n === 0 ? [] : [`t${n - 1}`] }))
    const before = process.cpuUsage()
    expect(findCircle(chain)).toBeNull()
    expect(findCircle([...chain, { of: 'x', gives: 't0', reads: ['t4999'] }])?.length).toBe(5_001)
    expect(process.cpuUsage(before).user / 1_000).toBeLessThan(1_500)
  })
})

describe('an edit of rules that read tags', () => {
  const named = (...names: number[]) => new Set(names.map((n) => `tag ${n}`))
  const others = [ruleSet(1, { conditions: [has(2)] }), ruleSet(2, { conditions: [managed] })]
  const check = (n: number, ...conditions: Parameters<typeof ruleSet>[1]['conditions']) => checkTagsRead({ input: ruleSet(n, { conditions }), id: uuid(n), ruleSets: others, names: named(1, 2) })
  it('is refused where it names no tag, or closes a circle, with the place and the circle', () => {
    expect(check(3, managed, has(7))).toEqual([{ pointer: '/rules/linux/conditions/1/tag', detail: 'there is no tag "tag 7"' }])
    expect(check(2, managed, has(1))).toEqual([{ pointer: '/rules/linux/conditions/1/tag', detail: 'closes a circle of tags: "tag 2" reads "tag 1" reads "tag 2"' }])
    expect(check(3, has(3))).toEqual([{ pointer: '/rules/linux/conditions/0/tag', detail: 'closes a circle of tags: "tag 3" reads "tag 3"' }])
    expect(check(3, has(1), has(2))).toEqual([])
  })
  it('makes no circle of what is given on one system and read on another', () => {
    const windows = ruleSet(2, { conditions: [has(1)] }, { rules: { windows: { conditions: [has(1)] } } })
    expect(checkTagsRead({ input: windows, id: uuid(2), ruleSets: others, names: named(1, 2) })).toEqual([])
  })
  it('says who would be left reading a tag that nobody gives', () => {
    expect(leftReading('tag 2', uuid(2), others).map(({ id }) => id)).toEqual([uuid(1)])
    expect(leftReading('tag 2', uuid(2), [...others, ruleSet(5, { conditions: [managed] }, { tag: 'tag 2' })])).toEqual([])
  })
})
