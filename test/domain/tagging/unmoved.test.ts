// Whoever an edit leaves alone would not have been changed by being worked out whole, verdicts and tags; and where nothing moves, hardly anybody is worked out whole.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compileRules } from '../../../domain/tagging/compile.ts'
import { evaluateEndpoint, osOf } from '../../../domain/tagging/evaluate.ts'
import { meaningOf } from '../../../domain/tagging/rule-set.ts'
import { unmoved } from '../../../domain/tagging/unmoved.ts'
import type { Facts } from '../../../protocol/facts.ts'
import type { RuleSet } from '../../../protocol/rules.ts'
import { atLeast, now, os, ruleSet, uuid } from './endpoint-facts.ts'
import { anyRules, withOs } from './generated.ts'

const find = (rules: readonly RuleSet[], id: string) => rules.find((each) => each.id === id)
const meaningIn = (rules: readonly RuleSet[], id: string) => rules.filter((each) => each.id === id).map(meaningOf).join()
/** An edit of the first rules to the second, later, for one endpoint: what working it out whole gives, and whether it is left alone. */
function edit(before: readonly RuleSet[], after: readonly RuleSet[], facts: Facts, later: number) {
  const at = now + later
  const first = evaluateEndpoint({ rules: compileRules(before, 1), facts, changed: 'all', previous: {}, now })
  const touched = new Set([...before, ...after].map(({ id }) => id).filter((id) => meaningIn(before, id) !== meaningIn(after, id)))
  // As the EMS notes an edit: what gave another tag, or none, does not stand.
  const standing = new Map([...touched].flatMap((id) => {
    const [was, is] = [find(before, id), find(after, id)]
    return was !== undefined && is !== undefined && was.enabled && was.tagUid === is.tagUid && was.mode === is.mode ? [[id, at + 60_000] as const] : []
  }))
  const rules = compileRules(after, 2)
  const system = osOf(facts) ?? ''
  const whole = evaluateEndpoint({ rules, facts, changed: [], touched, standing, system, previous: first.verdicts, now: at })
  const held = Object.fromEntries(Object.entries(first.verdicts).filter(([id]) => touched.has(id)))
  return { first, whole, touched, standing, held, left: unmoved({ rules, facts, touched, standing, held, system, now: at }) }
}

describe('an endpoint that an edit leaves alone', () => {
  it('is what it is when worked out whole', () => {
    fc.assert(fc.property(anyRules, anyRules, withOs, fc.nat(200_000), (before, after, facts, later) => {
      const { first, whole, touched, standing, held, left } = edit(before, after, facts, later)
      // What falls due by time is asked for apart.
      if (first.nextDue !== null && first.nextDue <= now + later) return
      if (left !== null) {
        expect([whole.verdicts, whole.tags, whole.changedRuleSets]).toEqual([first.verdicts, first.tags, []])
        expect([...left].sort()).toEqual([...whole.evaluated].sort())
      } else if (Object.keys(held).every((id) => standing.has(id))) expect([whole.verdicts, touched.size > 0]).not.toEqual([first.verdicts, true])
    }), { numRuns: 1_000 })
  })

  it('has a known system, the one that its verdicts are of, and rules that can all be read', () => {
    const [rules, facts, touched] = [[ruleSet(1, { conditions: [atLeast('12')] })], { os: os('12.8') }, new Set([uuid(1)])]
    const given = { rules: compileRules(rules, 1), facts, touched, standing: new Map([[uuid(1), now + 1]]), held: { [uuid(1)]: { value: 'true' as const, validUntil: null } }, system: 'linux', now }
    expect(unmoved(given)).toEqual([uuid(1)])
    expect(unmoved({ ...given, facts: {} })).toBeNull()
    expect(unmoved({ ...given, system: 'windows' })).toBeNull()
    expect(unmoved({ ...given, rules: compileRules([...rules, ruleSet(2, { conditions: [{ type: 'gone', negate: false }] })], 1) })).toBeNull()
    expect(unmoved({ ...given, rules: compileRules([], 1) })).toBeNull()
    expect(unmoved({ ...given, standing: new Map() })).toBeNull()
    expect(unmoved({ ...given, held: {} })).toBeNull()
  })
})
