// Tags that are set: whatever the order of settings, clearings and time, what holds is what each source last said; and packs by version.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { assign, assignedStates, endsNext, explainAssigned, givenByRules, MOST_ASSIGNED, tagChanges, unassign, withAssigned } from '../../../domain/tagging/assigned.ts'
import { packOrder } from '../../../domain/tagging/pack.ts'
import { importanceTags, type Assignment, type TagState } from '../../../protocol/rules.ts'
import { uuid } from './endpoint-facts.ts'

const [classified, infected, other] = [uuid(1), uuid(2), uuid(3)]
const importances: readonly string[] = Object.values(importanceTags)
const typeOf = (tagUid: string) => (tagUid === infected || tagUid === other ? 4 : 3)
const step = fc.record({
  does: fc.constantFrom('set', 'set', 'clear', 'wait'), tagUid: fc.constantFrom(classified, infected, other, ...importances), source: fc.constantFrom('a', 'b', 'c'),
  lasts: fc.option(fc.integer({ min: 1, max: 50 })), waits: fc.integer({ min: 0, max: 40 }),
})

describe('tags that are set', () => {
  it('hold by what each source last said, over any history', () => {
    fc.assert(fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      let assigned: Assignment[] = []
      let now = 1000
      /** Tag and source → its end. What people classify has no source of its own, and importances are one. */
      const model = new Map<string, { tagUid: string; until: number | null }>()
      const keyOf = (tagUid: string, source: string) => (importances.includes(tagUid) ? 'importance' : typeOf(tagUid) === 4 ? `${tagUid}/${source}` : tagUid)
      for (const { does, tagUid, source, lasts, waits } of steps) {
        if (does === 'wait') now += waits
        if (does === 'set') {
          const until = lasts === null ? null : now + lasts
          const after = assign(assigned, typeOf(tagUid), { tagUid, source, reason: '', at: now, until })
          if (typeof after !== 'string') assigned = after
          model.set(keyOf(tagUid, source), { tagUid, until })
        }
        if (does === 'clear') {
          const after = unassign(assigned, typeOf(tagUid), { tagUid, source }, now)
          if (after !== 'unchanged') assigned = after
          const key = keyOf(tagUid, source)
          if (model.get(key)?.tagUid === tagUid) model.delete(key)
        }
        const holding = [...model.values()].filter(({ until }) => until === null || until > now)
        const expected = [...new Set(holding.map((each) => each.tagUid))].sort().map((uid): TagState => {
          const ends = holding.filter((each) => each.tagUid === uid).map(({ until }) => until)
          return { tagUid: uid, state: 'present', validUntil: ends.includes(null) ? null : Math.max(...ends.map((until) => until ?? 0)) }
        })
        expect(withAssigned([], assigned, now)).toEqual(expected)
        expect(expected.filter(({ tagUid: uid }) => importances.includes(uid)).length).toBeLessThanOrEqual(1)
        const ends = expected.flatMap(({ validUntil }) => validUntil ?? [])
        expect(endsNext(assigned, now)).toBe(ends.length === 0 ? null : Math.min(...ends))
        expect(assigned.length).toBeLessThanOrEqual(MOST_ASSIGNED)
      }
    }))
  })

  it('stand beside what rules give, and come apart from it again', () => {
    const given: TagState[] = [{ tagUid: uuid(9), state: 'unknown', validUntil: 5 }]
    const assigned = assign([], 3, { tagUid: classified, source: 'a', reason: '', at: 1, until: null }) as Assignment[]
    const both = withAssigned(given, assigned, 2)
    expect(both.map(({ tagUid, state }) => [tagUid, state])).toEqual([[classified, 'present'], [uuid(9), 'unknown']])
    expect(givenByRules(both, assigned)).toEqual(given)
  })

  it('said again are unchanged; another reason, end or source is not', () => {
    const setting = { tagUid: infected, source: 'a', reason: 'r', at: 1, until: 9 }
    const once = assign([], 4, setting) as Assignment[]
    expect(assign(once, 4, { ...setting, at: 2 })).toBe('unchanged')
    for (const change of [{ reason: 's' }, { until: 10 }, { source: 'b' }]) expect(assign(once, 4, { ...setting, ...change })).not.toBe('unchanged')
    expect(unassign(once, 4, { tagUid: infected, source: 'b' }, 2)).toBe('unchanged')
  })

  it('tell what changed, the end included', () => {
    const tag = (n: number, validUntil: number | null = null): TagState => ({ tagUid: uuid(n), state: 'present', validUntil })
    expect(tagChanges([tag(1), tag(2, 5), tag(3)], [tag(1), tag(2, 6), tag(4)])).toEqual({ put: [tag(2, 6), tag(4)], gone: [uuid(3)] })
  })

  it('are explained with what has ended, the last first; a tag of rules has no such list', () => {
    const assigned: Assignment[] = [{ tagUid: infected, source: 'a', reason: 'x', at: 1, until: 5 }, { tagUid: infected, source: 'b', reason: 'y', at: 2, until: 8 }, { tagUid: other, source: 'c', reason: '', at: 3, until: null }]
    const tag = { uid: infected, name: 'infected', type: 4 as const }
    expect(explainAssigned(tag, assigned, 6)).toMatchObject({ state: 'present', validUntil: 8, assigned: [{ source: 'b' }, { source: 'a', until: 5 }] })
    expect(explainAssigned(tag, assigned, 8)).toMatchObject({ state: 'absent', validUntil: null })
    expect(explainAssigned({ ...tag, type: 1 }, [], 8)).not.toHaveProperty('assigned')
    expect(assignedStates(assigned, 8).map(({ tagUid }) => tagUid)).toEqual([other])
  })
})

describe('versions of packs', () => {
  it('are compared number by number', () => {
    const inOrder = ['0.9', '1', '1.0.1', '1.9', '1.10', '2', '2024.4.2', '2026.9.30', '2026.11.25']
    for (const [at, a] of inOrder.entries()) for (const [where, b] of inOrder.entries()) expect([a, b, Math.sign(packOrder(a, b))]).toEqual([a, b, Math.sign(at - where)])
    expect(packOrder('1', '1.0.0')).toBe(0)
  })
})
