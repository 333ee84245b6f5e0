// What holds for every type of the registry, whatever it asks: unknown never passes, what is unsupported never passes, texts are short, demands are kept.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compileRules, type CompiledCondition } from '../../../domain/tagging/compile.ts'
import { evaluateEndpoint } from '../../../domain/tagging/evaluate.ts'
import { explainTag } from '../../../domain/tagging/explain.ts'
import { conditionTypes, readCondition } from '../../../domain/tagging/registry.ts'
import { truthOf, verdictOf } from '../../../domain/tagging/verdict.ts'
import { sections, type Facts, type OsType, type SectionName } from '../../../protocol/facts.ts'
import { condition as conditionShape, type Condition } from '../../../protocol/rules.ts'
import { negated, now, ruleSet, uuid } from './endpoint-facts.ts'
import { asked, examples, osOf, type Example } from './examples.ts'

const others: readonly OsType[] = ['linux', 'windows', 'macos']
function compiled(condition: Condition, os: OsType): CompiledCondition {
  const [only] = compileRules([ruleSet(1, { conditions: [condition] }, { rules: { [os]: { conditions: [condition] } } })], 1).byOs[os]
  if (only?.broken !== null || only.conditions[0] === undefined) throw new Error(`${JSON.stringify(condition)}: ${only?.broken}`)
  return only.conditions[0]
}
const verdict = ({ condition, os, facts }: Example, at = now) => verdictOf(compiled(condition, os), os, facts, at)
const truth = (example: Example, negate: boolean, at = now) => truthOf(verdict(example, at), negate).value
const named = examples.map((example) => [JSON.stringify(example.condition), example] as const)
const read = (condition: Condition) => {
  const found = readCondition(condition)
  if (!found.ok) throw new Error(`${JSON.stringify(condition)}: ${JSON.stringify(found.errors)}`)
  return found
}
/** What the contract lets a section be, with members taken away, so far as it still holds the contract. */
function* lessThan(value: unknown, valid: (value: unknown) => boolean): Generator<unknown> {
  if (typeof value !== 'object' || value === null) return
  for (const key of Object.keys(value)) {
    const rest = Array.isArray(value) ? null : Object.fromEntries(Object.entries(value).filter(([name]) => name !== key))
    if (rest !== null && valid(rest)) yield rest
    const inner = (value as Record<string, unknown>)[key]
    const within = (changed: unknown): unknown => (Array.isArray(value) ? value.map((each: unknown, at) => (String(at) === key ? changed : each)) : { ...value, [key]: changed })
    for (const less of lessThan(inner, (changed) => valid(within(changed)))) yield within(less)
  }
}

describe('every type', () => {
  it('is told to whoever names one that there is not', () => {
    const found = readCondition(asked('telepathy'))
    expect(found.ok ? [] : found.errors).toEqual([{ path: ['type'], detail: `there is no condition type "telepathy"; there are ${conditionTypes.map(({ type }) => type).join(', ')}` }])
  })
  it.each(conditionTypes.map(({ type }) => type))('%s tells its members to whoever writes another', (type) => {
    const found = readCondition(asked(type, { nonsense: 1 }))
    expect(found.ok ? [] : found.errors.map(({ path, detail }) => `${path.join('/')}: ${detail}`)).toContainEqual(expect.stringMatching(new RegExp(`^nonsense: is not known here; ${type} takes (nothing more|[a-z]\\w*(, [a-z]\\w*)*)$`, 'i')))
  })
  it('stands in the examples; tag-present, which reads no fact, has tests of its own', () => {
    expect(new Set([...examples.map(({ condition }) => condition.type), 'tag-present'])).toEqual(new Set(conditionTypes.map(({ type }) => type)))
  })
  it.each(named)('%s is true on its facts, which the contract takes, and false when negated', (_, example) => {
    for (const [section, fact] of Object.entries(example.facts)) expect(sections[section as SectionName].safeParse(fact.value).error, section).toBeUndefined()
    expect([truth(example, false), truth(example, true)]).toEqual(['true', 'false'])
  })
  it.each(named)('%s is unknown, negated or not, while a section that it reads is missing', (_, example) => {
    for (const section of compiled(example.condition, example.os).sections) {
      const facts: Facts = { ...example.facts, [section]: undefined }
      expect([truth({ ...example, facts }, false), truth({ ...example, facts }, true)], section).toEqual(['unknown', 'unknown'])
    }
  })
  it.each(named)('%s: no fact that is taken away, member by member, turns it into its opposite', (_, example) => {
    const was = truth(example, false)
    for (const section of compiled(example.condition, example.os).sections) {
      const fact = example.facts[section]
      for (const value of lessThan(fact?.value, (each) => sections[section].safeParse(each).success)) {
        // A map's members are whole answers: an agent that takes one back has been asked again.
        const is = truth({ ...example, facts: { ...example.facts, [section]: { ...fact, value } } }, false)
        expect([was, 'unknown'], JSON.stringify(value)).toContain(is)
      }
    }
  })
  it.each(named)('%s says unsupported on a system that it is not for, whatever the facts, and never passes', (_, example) => {
    const { type } = read(example.condition)
    for (const os of others.filter((each) => !type.os.includes(each))) {
      const condition = compiled(example.condition, os)
      const found = verdictOf(condition, os, { ...example.facts, ...osOf(os) }, now)
      expect([found.value, truthOf(found, false).value, truthOf(found, true).value]).toEqual(['unsupported', 'unknown', 'unknown'])
    }
  })
  it.each(named)('%s says in a short line what it wants, and two different lines how to bring it about and how to end it', (_, { condition }) => {
    const { type, params } = read(condition)
    const texts = [type.wanted(params), type.mend(params, false), type.mend(params, true)]
    expect(new Set(texts).size).toBe(3)
    for (const text of texts) expect(text.length, text).toBeLessThan(220)
  })
  it.each(named)('%s is unknown when it must be proved and is not, and when it is older than may be, at the instant that was told', (_, example) => {
    const proved = verdict({ ...example, condition: { ...example.condition, proved: true } })
    const { provenance } = verdict(example)
    expect(proved.value).toBe(provenance === 'proved' ? 'true' : 'unknown')
    if (provenance !== 'proved') expect(proved.unmet).toBeDefined()
    const aged = { ...example, condition: { ...example.condition, notOlderThanSeconds: 100_000 } }
    const { type } = read(example.condition)
    // What the EMS keeps up to date itself has no age: that is said where it is asked for, and nothing is unknown for it.
    if (type.side === 'ems' && type.ageless !== undefined) return expect(readCondition(aged.condition)).toMatchObject({ ok: false, errors: [{ path: ['notOlderThanSeconds'], detail: type.ageless }] })
    const fresh = verdict(aged)
    expect([fresh.value, fresh.validUntil === null]).toEqual(['true', false])
    const due = fresh.validUntil ?? 0
    const after = verdict(aged, due)
    expect(due).toBeGreaterThan(now)
    expect(after.value).not.toBe('true')
    const old = { ...example, condition: { ...example.condition, notOlderThanSeconds: 1 } }
    expect([truth(old, false, now + 10_000), truth(old, true, now + 10_000)]).toEqual(['unknown', 'unknown'])
  })
  it('asks agents the same whatever is demanded of the answer', () => {
    for (const { condition, os } of examples.filter((each) => read(each.condition).type.side === 'agent')) {
      expect(compiled({ ...condition, proved: true, notOlderThanSeconds: 5, negate: true }, os).key).toBe(compiled(condition, os).key)
    }
  })
  it.each(named)('%s falls due: at no instant does it pass, negated or not, later than it said', (_, example) => {
    fc.assert(fc.property(fc.boolean(), fc.integer({ min: 0, max: 40 * 86_400_000 }), (negate, later) => {
      const { value, validUntil } = verdict(example)
      if (value === 'true' && (validUntil === null || now + later < validUntil)) expect(truth(example, negate, now + later)).toBe(negate ? 'false' : 'true')
      if (validUntil !== null && now + later >= validUntil) expect(truth(example, true, now + later) === 'true' && truth(example, false, now + later) === 'true').toBe(false)
    }))
  })
  it('gives its tag to nobody on a section that is no section, negated or not', () => {
    // The system itself must be known for a rule to be read at all.
    for (const { condition, os } of examples.filter((each) => !compiled(each.condition, each.os).sections.includes('os'))) {
      for (const damage of [null, undefined]) {
        const facts = { ...Object.fromEntries(Object.keys(sections).map((section) => [section, { value: damage, at: now, provenance: 'claimed' as const }])), ...osOf(os) } as unknown as Facts
        for (const each of [condition, negated(condition)]) {
          const found = verdictOf(compiled(each, os), os, facts, now)
          expect(truthOf(found, each.negate).value, `${JSON.stringify(each)} ${JSON.stringify(damage)}`).not.toBe('true')
        }
      }
    }
  })
})

describe('what a condition demands', () => {
  it('is said in the explanation, with what to do', () => {
    const [example] = examples.filter(({ condition }) => condition.type === 'antivirus')
    const rules = compileRules([ruleSet(1, { conditions: [{ ...example?.condition ?? asked('x'), proved: true, notOlderThanSeconds: 60 }] })], 1)
    const [explained] = explainTag({ tagUid: uuid(1001), rules, facts: example?.facts ?? {}, now })?.ruleSets[0]?.conditions ?? []
    expect(explained).toMatchObject({ value: 'unknown', provenance: 'claimed', seen: expect.stringContaining('claimed and not proved') as unknown, wanted: 'an antivirus product is installed, proved, known within 60 s', mend: expect.stringContaining('proves nothing') as unknown })
  })
  it('is refused where it can not be read, with its place', () => {
    for (const [member, value] of Object.entries({ proved: 'yes', notOlderThanSeconds: 0 })) {
      const found = readCondition({ ...asked('ems-management'), [member]: value })
      expect(found.ok ? [] : found.errors.map(({ path }) => path)).toEqual([[member]])
      expect(conditionShape.safeParse({ type: 'ems-management', [member]: value }).success).toBe(false)
    }
    expect(readCondition({ ...asked('tag-present', { tag: 'x' }), proved: true })).toMatchObject({ ok: false, errors: [{ path: ['proved'] }] })
  })
  it('falls due by itself: the tag becomes unknown without a report', () => {
    const [example] = examples.filter(({ condition }) => condition.type === 'agent-version')
    const rules = compileRules([ruleSet(1, { conditions: [{ ...example?.condition ?? asked('x'), notOlderThanSeconds: 60 }] })], 1)
    const first = evaluateEndpoint({ rules, facts: example?.facts ?? {}, changed: 'all', previous: {}, now })
    expect(first).toMatchObject({ nextDue: now - 1000 + 60_000, tags: [{ state: 'present' }] })
    expect(evaluateEndpoint({ rules, facts: example?.facts ?? {}, changed: [], previous: first.verdicts, now: first.nextDue ?? 0 })).toMatchObject({ evaluated: [uuid(1)], tags: [{ state: 'unknown' }] })
  })
})
