// The and/or logic: what binds tighter, three values, how long a value stands, and what is refused.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { all, any, not, parseLogic, workOut, type Timed, type Truth } from '../../../domain/tagging/logic.ts'
import { checkRuleSet } from '../../../domain/tagging/rule-set.ts'
import { ruleSetInput } from '../../../protocol/rules.ts'

const timed = (value: Truth, validUntil: number | null = null): Timed => ({ value, validUntil })
const work = (text: string, ...values: Truth[]) => {
  const parsed = parseLogic(text, values.length)
  if (!parsed.ok) throw new Error(parsed.detail)
  return workOut(parsed.logic, (index) => timed(values[index] ?? 'unknown')).value
}

describe('the logic of a rule set', () => {
  it('binds and before or, and not before both', () => {
    expect(work('1 or 2 and 3', 'true', 'false', 'false')).toBe('true')
    expect(work('(1 or 2) and 3', 'true', 'false', 'false')).toBe('false')
    expect(work('not 1 and 2', 'false', 'false')).toBe('false')
    expect(work('NOT (1 And 2)', 'true', 'false')).toBe('true')
  })
  it('is Kleene’s: unknown stays unless the other side settles it', () => {
    expect([work('1 and 2', 'unknown', 'false'), work('1 and 2', 'unknown', 'true'), work('1 or 2', 'unknown', 'true'), work('1 or 2', 'unknown', 'false'), work('not 1', 'unknown')]).toEqual(['false', 'unknown', 'true', 'unknown', 'unknown'])
  })
  it('follows De Morgan in value and in time', () => {
    const values = fc.array(fc.record({ value: fc.constantFrom<Truth>('true', 'false', 'unknown'), validUntil: fc.option(fc.nat(100)) }), { minLength: 1, maxLength: 5 })
    fc.assert(fc.property(values, (given) => { expect(not(all(given))).toEqual(any(given.map(not))) }))
  })
  it('stands as long as something settles it, and no longer than the first that could unsettle it', () => {
    expect(any([timed('true', 10), timed('true', 20), timed('false', 5)])).toEqual(timed('true', 20))
    expect(any([timed('true', 10), timed('true')])).toEqual(timed('true'))
    expect(any([timed('false', 10), timed('unknown', 20)])).toEqual(timed('unknown', 10))
    expect(all([timed('true', 10), timed('true', 20)])).toEqual(timed('true', 10))
    expect(all([timed('false', 10), timed('false', 20), timed('true', 5)])).toEqual(timed('false', 20))
  })
  it('nests 16 deep and no deeper, whatever nests', () => {
    expect(parseLogic(`${'('.repeat(16)}1${')'.repeat(16)}`, 1).ok).toBe(true)
    expect(parseLogic(`${'('.repeat(17)}1${')'.repeat(17)}`, 1).ok).toBe(false)
    expect(parseLogic(`${'not '.repeat(17)}1`, 1).ok).toBe(false)
    expect(parseLogic('('.repeat(100_000), 1).ok).toBe(false)
  })
  it.each([['', 'a condition is missing at character 1'], ['1 and', 'a condition is missing at character 6'], ['1 2', '"2" is not expected at character 3'], ['4', 'there is no condition 4 at character 1'], ['0', 'there is no condition 0 at character 1'],
    ['(1', 'a closing bracket is missing at character 3'], ['1)', '")" is not expected at character 2'], ['()', '")" is not a condition\'s number at character 2'], ['1; drop', '";" is not expected at character 2'], ['1 xor 2', '"xor" is not expected at character 3'],
    ['99999999999999999999', '"99999999999999999999" is not a condition\'s number at character 1'], [`${'('.repeat(40)}1`, 'brackets are nested too deeply at character 18']])('refuses "%s" and names the place', (text, detail) => {
    expect(parseLogic(text, 3)).toEqual({ ok: false, detail })
  })
  it('answers any text with a tree or a sentence', () => {
    fc.assert(fc.property(fc.oneof(fc.string(), fc.array(fc.constantFrom('1', '2', 'and', 'or', 'not', '(', ')')).map((words) => words.join(' '))), (text) => {
      const parsed = parseLogic(text, 2)
      if (parsed.ok) expect(['true', 'false', 'unknown']).toContain(workOut(parsed.logic, () => timed('true')).value)
      else expect(parsed.detail).toMatch(/ at character \d+$/)
    }))
  })
})

describe('a rule set that can not be taken', () => {
  const errors = (linux: object) => checkRuleSet(ruleSetInput.parse({ name: 'x', tag: 'x', rules: { linux } })).map(({ pointer }) => pointer)
  it('is refused with the exact place', () => {
    const file = { type: 'file', path: '/etc/marker' }
    expect(errors({ conditions: [{ type: 'nonsense' }] })).toEqual(['/rules/linux/conditions/0/type'])
    expect(errors({ conditions: [file, { type: 'ip-range', ranges: ['10.0.0.0/8', 'x'] }] })).toEqual(['/rules/linux/conditions/1/ranges/1'])
    expect(errors({ conditions: [{ type: 'file', path: '../etc/passwd' }] })).toEqual(['/rules/linux/conditions/0/path'])
    expect(errors({ conditions: [file], logic: '1 and 2' })).toEqual(['/rules/linux/logic'])
    expect(errors({ conditions: [{ type: 'nonsense' }], logic: '2' })).toEqual(['/rules/linux/conditions/0/type', '/rules/linux/logic'])
    expect(errors({ conditions: [file] })).toEqual([])
    // Written and then forgotten, it would ask for nothing.
    expect(errors({ conditions: [file, file, file], logic: 'not (1 or not 3)' })).toEqual(['/rules/linux/conditions/1'])
    expect(errors({ conditions: [file, file, file], logic: '3 and (1 or not 2) and 1' })).toEqual([])
  })
})
