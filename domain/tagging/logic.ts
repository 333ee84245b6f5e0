// The and/or logic of a rule set: `1 and (2 or not 3)`, conditions numbered from 1. Three values to the end (Kleene),
// each with the instant until which it stands. It does not know what a condition means.

export type Truth = 'true' | 'false' | 'unknown'
export type Logic =
  | { readonly op: 'condition'; readonly index: number }
  | { readonly op: 'not'; readonly of: Logic }
  | { readonly op: 'and' | 'or'; readonly of: readonly Logic[] }

/** A value, and the earliest instant (ms) at which it could change without a new fact; null: never. */
export interface Timed { readonly value: Truth; readonly validUntil: number | null }

export const not = ({ value, validUntil }: Timed): Timed => ({ value: value === 'unknown' ? 'unknown' : value === 'true' ? 'false' : 'true', validUntil })
export const all = (values: readonly Timed[]): Timed => combine(values, 'false', 'true')
export const any = (values: readonly Timed[]): Timed => combine(values, 'true', 'false')

/** One `decisive` value settles it, whatever the others are: it stands as long as the longest of those. Otherwise the first to change may change it. */
function combine(values: readonly Timed[], decisive: Truth, otherwise: Truth): Timed {
  const settling = values.filter(({ value }) => value === decisive)
  if (settling.length > 0) return { value: decisive, validUntil: latest(settling) }
  return { value: values.some(({ value }) => value === 'unknown') ? 'unknown' : otherwise, validUntil: earliest(values) }
}

/** The first instant at which one of them could change; null: none ever. */
export const earliest = (values: readonly Timed[]): number | null =>
  values.reduce<number | null>((least, { validUntil }) => (validUntil === null ? least : Math.min(least ?? validUntil, validUntil)), null)
const latest = (values: readonly Timed[]): number | null =>
  values.reduce<number | null>((most, { validUntil }) => (validUntil === null || most === null ? null : Math.max(most, validUntil)), 0)

/** Works out a tree; `value` gives condition `index` (from 0). */
export function workOut(logic: Logic, value: (index: number) => Timed): Timed {
  switch (logic.op) {
    case 'condition': return value(logic.index)
    case 'not': return not(workOut(logic.of, value))
    case 'and': return all(logic.of.map((each) => workOut(each, value)))
    case 'or': return any(logic.of.map((each) => workOut(each, value)))
  }
}

/** Which certain values a tree can still come to. */
export interface Reach { readonly true: boolean; readonly false: boolean }
/** The same while some conditions are `open`: not answered yet, and may be answered either way. A condition that is mentioned twice counts as two: what can't come may be said to, never the other way round. */
export function reach(logic: Logic, value: (index: number) => Truth | 'open'): Reach {
  if (logic.op === 'condition') {
    const known = value(logic.index)
    return { true: known === 'true' || known === 'open', false: known === 'false' || known === 'open' }
  }
  if (logic.op === 'not') {
    const inner = reach(logic.of, value)
    return { true: inner.false, false: inner.true }
  }
  const each = logic.of.map((one) => reach(one, value))
  return logic.op === 'and'
    ? { true: each.every((one) => one.true), false: each.some((one) => one.false) }
    : { true: each.some((one) => one.true), false: each.every((one) => one.false) }
}

/** Indexes of the conditions that a tree asks for. */
export function namedIn(logic: Logic): ReadonlySet<number> {
  if (logic.op === 'condition') return new Set([logic.index])
  return new Set((logic.op === 'not' ? [logic.of] : logic.of).flatMap((each) => [...namedIn(each)]))
}

/** All of them: what absent logic means. */
export const allOf = (count: number): Logic => ({ op: 'and', of: Array.from({ length: count }, (_, index) => ({ op: 'condition' as const, index })) })

const MAX_DEPTH = 16
export type ParsedLogic = { readonly ok: true; readonly logic: Logic } | { readonly ok: false; readonly detail: string }

/** Parses an expression over `count` conditions; `and` binds tighter than `or`. The error names the place. */
export function parseLogic(text: string, count: number): ParsedLogic {
  const tokens = [...text.matchAll(/\d+|[A-Za-z]+|\S/g)].map((match) => ({ text: match[0].toLowerCase(), at: match.index + 1 }))
  let next = 0
  const fail = (detail: string): never => { throw new LogicError(`${detail} at character ${tokens[next]?.at ?? text.length + 1}`) }
  const take = (word: string) => tokens[next]?.text === word && ++next > 0

  const chain = (word: 'and' | 'or', operand: (depth: number) => Logic) => (depth: number): Logic => {
    const of = [operand(depth)]
    while (take(word)) of.push(operand(depth))
    return of.length === 1 && of[0] !== undefined ? of[0] : { op: word, of }
  }
  const atom = (depth: number): Logic => {
    if (depth > MAX_DEPTH) fail('brackets are nested too deeply')
    if (take('not')) return { op: 'not', of: atom(depth + 1) }
    if (take('(')) {
      const inner = either(depth + 1)
      if (!take(')')) fail('a closing bracket is missing')
      return inner
    }
    const token = tokens[next]?.text ?? ''
    if (!/^\d{1,3}$/.test(token)) return fail(token === '' ? 'a condition is missing' : `"${token}" is not a condition's number`)
    const number = Number(token)
    if (number < 1 || number > count) fail(`there is no condition ${number}`)
    next++
    return { op: 'condition', index: number - 1 }
  }
  const both = chain('and', atom)
  const either: (depth: number) => Logic = chain('or', both)
  try {
    const logic = either(0)
    return next === tokens.length ? { ok: true, logic } : fail(`"${tokens[next]?.text ?? ''}" is not expected`)
  } catch (cause) {
    if (cause instanceof LogicError) return { ok: false, detail: cause.message }
    throw cause
  }
}
class LogicError extends Error {}
