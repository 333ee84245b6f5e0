// The and/or logic of a rule set: `1 and (2 or not 3)`, conditions numbered from 1. Three values to the end (Kleene).

export type Truth = 'true' | 'false' | 'unknown'
export type Logic =
  | { readonly op: 'condition'; readonly index: number }
  | { readonly op: 'not'; readonly of: Logic }
  | { readonly op: 'and' | 'or'; readonly of: readonly Logic[] }

export const not = (value: Truth): Truth => (value === 'unknown' ? 'unknown' : value === 'true' ? 'false' : 'true')
export const all = (values: readonly Truth[]): Truth => (values.includes('false') ? 'false' : values.includes('unknown') ? 'unknown' : 'true')
export const any = (values: readonly Truth[]): Truth => (values.includes('true') ? 'true' : values.includes('unknown') ? 'unknown' : 'false')

/** Works out a tree; `value` gives condition `index` (from 0). */
export function workOut(logic: Logic, value: (index: number) => Truth): Truth {
  switch (logic.op) {
    case 'condition': return value(logic.index)
    case 'not': return not(workOut(logic.of, value))
    case 'and': return all(logic.of.map((each) => workOut(each, value)))
    case 'or': return any(logic.of.map((each) => workOut(each, value)))
  }
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
