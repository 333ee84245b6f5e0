// How fresh rules want what agents report, and that who looks again in time never falls due, at a cost that is bounded.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { agentRulesFor, questionsOf } from '../../../domain/tagging/agent-rules.ts'
import { compileRules } from '../../../domain/tagging/compile.ts'
import { demandsOf, isWorthARow, LOOK_AFTER, LOOK_SPREAD, toMoveOn } from '../../../domain/tagging/demand.ts'
import { evaluateEndpoint } from '../../../domain/tagging/evaluate.ts'
import type { Facts } from '../../../protocol/facts.ts'
import type { Condition } from '../../../protocol/rules.ts'
import { agentRules } from '../../../protocol/rules.ts'
import { agent, answers, atLeast, marker, negated, now, os, ruleSet, uuid } from './endpoint-facts.ts'

const within = (condition: Condition, seconds: number): Condition => ({ ...condition, notOlderThanSeconds: seconds })
const managedBy = (version: string): Condition => ({ type: 'agent-version', negate: false, comparator: '>=', version })
const score = within({ type: 'third-party-score', negate: false, source: 'edr', comparator: '>=', score: 1 }, 90)

describe('what rules demand of agents', () => {
  it('is the least that any enabled rule set for that system wants of a section, a minute at least; of answers, of all answers', () => {
    const sets = [
      ruleSet(1, { conditions: [within(atLeast('12'), 600), within(marker, 900)] }), ruleSet(2, { conditions: [within(atLeast('11'), 120), managedBy('1')] }),
      ruleSet(3, { conditions: [within(managedBy('1'), 5)] }), ruleSet(4, { conditions: [within(atLeast('11'), 70)] }, { enabled: false }),
      { ...ruleSet(5, { conditions: [marker] }), rules: { windows: { conditions: [within(atLeast('10'), 61)] } } }, ruleSet(6, { conditions: [score] }, { mode: 'shadow' }),
    ]
    expect(agentRulesFor('linux', sets, 1).fresh).toEqual({ agent: 60, os: 120, verdicts: 900 })
    expect(agentRulesFor('windows', sets, 1).fresh).toEqual({ os: 61 })
    expect(agentRules.safeParse(agentRulesFor('linux', sets, 1)).success).toBe(true)
    expect(demandsOf(compileRules(sets, 1).byOs.linux.flatMap(({ conditions }) => conditions))).toEqual(agentRulesFor('linux', sets, 1).fresh)
  })
  it('is not said where nothing is demanded, and is part of what agents are told of an edit', () => {
    const asks = ruleSet(1, { conditions: [atLeast('12')] })
    expect(agentRulesFor('linux', [asks], 1)).toEqual({ revision: 1, conditions: [] })
    const fresher = ruleSet(1, { conditions: [within(atLeast('12'), 600)] })
    expect(questionsOf(fresher)).not.toBe(questionsOf(asks))
    expect(questionsOf(ruleSet(1, { conditions: [within(atLeast('13'), 600)] }))).toBe(questionsOf(fresher))
  })
})

describe('a device that looks again in time', () => {
  const rules = (seconds: readonly number[], condition: Condition = atLeast('12')) => compileRules(seconds.map((each, n) => ruleSet(n, { conditions: [within(condition, each)] })), 1)
  /** An EMS in a few lines (workers/flows/renewals.ts) that hears of looks at these instants, ms from the beginning. */
  function lives(seconds: readonly number[], looks: readonly number[]) {
    const compiled = rules(seconds)
    let facts: Facts = { os: { ...os(), at: now } }
    let held = evaluateEndpoint({ rules: compiled, facts, changed: 'all', previous: {}, now })
    let [rows, told] = [0, 0]
    const least = demandsOf(compiled.byOs.linux.flatMap(({ conditions }) => conditions)).os ?? Infinity
    const fell: number[] = []
    for (const look of looks) {
      const at = now + look
      for (const { validUntil } of held.tags) if (validUntil !== null && validUntil <= at) fell.push(look)
      if (!isWorthARow(facts.os?.at ?? 0, at, least)) continue
      rows++
      facts = { os: { ...os(), at } }
      const renewed = toMoveOn(compiled.byOs.linux, new Set(['os']), held.verdicts, at)
      const next = evaluateEndpoint({ rules: compiled, facts, changed: [], renewed, previous: held.verdicts, now: at })
      if (JSON.stringify(next.tags) !== JSON.stringify(held.tags)) told++
      expect(next.evaluated.length).toBe(renewed.size)
      held = next
    }
    return { fell, rows, told, held }
  }

  it('keeps every tag, whatever the jitter and however many rule sets want it how fresh; each is told about twice in its own time', () => {
    fc.assert(fc.property(fc.array(fc.integer({ min: 60, max: 86_400 }), { minLength: 1, maxLength: 6 }), fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 40, maxLength: 200 }), (seconds, jitter) => {
      const least = Math.min(...seconds) * 1000
      let at = 0
      const looks = jitter.map((random) => (at += least * (LOOK_AFTER + LOOK_SPREAD * random)))
      const { fell, rows, told } = lives(seconds, looks)
      expect([fell, rows]).toEqual([[], looks.length])
      // One look moves several tags at most, and a tag is moved when 0.35 of its time is over at the soonest.
      expect(told).toBeLessThanOrEqual(seconds.reduce((sum, each) => sum + Math.ceil(at / (each * 350)), 0))
    }), { numRuns: 60 })
  })
  it('is written down only so often, however often it says so', () => {
    const often = Array.from({ length: 3_600 }, (_, second) => second * 1000)
    const { rows, told, fell } = lives([60], often)
    expect([fell, rows <= 301, told <= 160]).toEqual([[], true, true])
  })
  it('loses the tag when it looks no more, and has it again with the next look', () => {
    const compiled = rules([60])
    const facts: Facts = { os: { ...os(), at: now } }
    const first = evaluateEndpoint({ rules: compiled, facts, changed: 'all', previous: {}, now })
    expect(first.tags).toEqual([{ tagUid: uuid(1000), state: 'present', validUntil: now + 60_000 }])
    const due = evaluateEndpoint({ rules: compiled, facts, changed: [], previous: first.verdicts, now: now + 60_000 })
    expect(due.tags).toEqual([{ tagUid: uuid(1000), state: 'unknown', validUntil: null }])
    const renewed = toMoveOn(compiled.byOs.linux, new Set(['os']), due.verdicts, now + 90_000)
    const again = evaluateEndpoint({ rules: compiled, facts: { os: { ...os(), at: now + 90_000 } }, changed: [], renewed, previous: due.verdicts, now: now + 90_000 })
    expect(again.tags).toEqual([{ tagUid: uuid(1000), state: 'present', validUntil: now + 150_000 }])
  })
  it('moves no verdict that stands without it, reads something else, or demands nothing', () => {
    const compiled = compileRules([
      ruleSet(1, { conditions: [within(atLeast('12'), 60), managedBy('1')], logic: '1 or 2' }), ruleSet(2, { conditions: [within(managedBy('1'), 60)] }), ruleSet(3, { conditions: [atLeast('12')] }),
      ruleSet(4, { conditions: [within(atLeast('99'), 60)] }), ruleSet(5, { conditions: [within(negated(atLeast('12')), 60), managedBy('99')] }),
    ], 1)
    const facts: Facts = { os: { ...os(), at: now }, agent: { ...agent(), at: now } }
    const { verdicts } = evaluateEndpoint({ rules: compiled, facts, changed: 'all', previous: {}, now })
    expect([...toMoveOn(compiled.byOs.linux, new Set(['os']), verdicts, now + 30_000)]).toEqual([uuid(4)])
    expect([...toMoveOn(compiled.byOs.linux, new Set(['os']), verdicts, now + 10_000)]).toEqual([])
  })
})

describe('an edit that demands freshness', () => {
  it('lets the verdict from before stand while the agent owes a look, and no longer', () => {
    const before = compileRules([ruleSet(1, { conditions: [atLeast('12')] })], 1)
    const after = compileRules([ruleSet(1, { conditions: [within(atLeast('12'), 600)] })], 2)
    const facts: Facts = { os: { ...os(), at: now - 3_600_000 } }
    const { verdicts } = evaluateEndpoint({ rules: before, facts, changed: 'all', previous: {}, now })
    const edited = evaluateEndpoint({ rules: after, facts, changed: [], touched: new Set([uuid(1)]), standing: new Map([[uuid(1), now + 60_000]]), system: 'linux', previous: verdicts, now })
    expect(edited.verdicts[uuid(1)]).toEqual({ value: 'true', validUntil: now + 60_000, owes: true, standsUntil: now + 60_000 })
    const silent = evaluateEndpoint({ rules: after, facts, changed: [], system: 'linux', previous: edited.verdicts, now: now + 60_000 })
    expect(silent.tags[0]?.state).toBe('unknown')
    const looked = evaluateEndpoint({ rules: after, facts: { os: { ...os(), at: now + 5_000 } }, changed: [], renewed: new Set([uuid(1)]), system: 'linux', previous: edited.verdicts, now: now + 5_000 })
    expect(looked.verdicts[uuid(1)]).toEqual({ value: 'true', validUntil: now + 605_000 })
  })
  it('does not wait for who can not help: what is proved by others, or must be proved', () => {
    const compiled = compileRules([ruleSet(1, { conditions: [score] }), ruleSet(2, { conditions: [{ ...within(atLeast('12'), 60), proved: true }] }), ruleSet(3, { conditions: [within(marker, 60)] })], 1)
    const facts: Facts = {
      os: { ...os(), at: now - 3_600_000 }, verdicts: { ...answers([[marker, 'true']]), at: now - 3_600_000 },
      scores: { value: { sources: { edr: { score: 5, at: now - 3_600_000, expiresAt: null } } }, at: now - 3_600_000, provenance: 'proved' },
    }
    const { verdicts } = evaluateEndpoint({ rules: compiled, facts, changed: 'all', previous: {}, now })
    expect([1, 2, 3].map((n) => verdicts[uuid(n)])).toEqual([{ value: 'unknown', validUntil: null }, { value: 'unknown', validUntil: null }, { value: 'unknown', validUntil: null, owes: true }])
  })
})
