// How a compiled expression runs: three values to the end, and a budget of steps that no list and no pattern can exceed.

/** What a fact is that is not there, or says that it is not known. It passes through everything that does not settle without it. */
export const UNKNOWN = Symbol('unknown')
export type Value = string | number | boolean | readonly unknown[] | object | typeof UNKNOWN

export interface Run {
  /** Section name → its value. */
  readonly facts: Readonly<Record<string, unknown>>
  /** ms */
  readonly now: number
  /** Bound variables, by slot. */
  readonly slots: unknown[]
  spend(steps: number): void
  /** Something here changes by itself at this instant (ms); of a part of a millisecond, or beyond all instants, where an expression calculates. */
  due(at: number): void
}
export type Code = (run: Run) => Value

/** One evaluation may take so many steps: a few milliseconds. */
export const MAX_STEPS = 100_000
/** What the contract takes for an instant, and gateways with it: what is due later never is. */
const LAST_INSTANT = 8_640_000_000_000_000
export class TooMuchWork extends Error {}

/** @returns `validUntil`: when it could be another without a new fact (ms); null: never */
export function runCode(code: Code, facts: Readonly<Record<string, unknown>>, dues: readonly number[], now: number): { readonly value: Value; readonly validUntil: number | null } {
  let [left, soonest] = [MAX_STEPS, dues.reduce((least, at) => Math.min(least, at), Infinity)]
  const value = code({
    facts, now, slots: [],
    spend(steps) {
      left -= steps
      if (left < 0) throw new TooMuchWork(`more than ${MAX_STEPS} steps`)
    },
    due(at) { if (at <= LAST_INSTANT) soonest = Math.min(soonest, Math.ceil(at)) },
  })
  return { value, validUntil: soonest === Infinity ? null : soonest }
}

export const not = (value: Value): Value => (value === UNKNOWN ? UNKNOWN : value !== true)
/** Kleene: one decisive value settles it, what is unknown does not. */
export const both = (left: Code, right: Code, decisive: boolean): Code => (run) => {
  run.spend(1)
  const first = left(run)
  if (first === decisive) return decisive
  const second = right(run)
  return second === decisive ? decisive : first === UNKNOWN || second === UNKNOWN ? UNKNOWN : !decisive
}

/** What a record or map holds under a name. Only its own members: a name is never one of the language's. */
export function member(of: Value, name: string): Value {
  if (of === UNKNOWN || typeof of !== 'object' || !Object.hasOwn(of, name)) return UNKNOWN
  return known((of as Readonly<Record<string, unknown>>)[name])
}
export const element = (of: Value, at: Value): Value => (Array.isArray(of) && typeof at === 'number' ? known(of[at]) : UNKNOWN)
/** A fact as an expression sees it. */
export const known = (value: unknown): Value => (value === undefined || value === null || value === 'unknown' || value === 'unrated' ? UNKNOWN : value)

/** What is gone through: elements of a list, names of a map; null: it is not known. */
const itemsOf = (value: Value): readonly unknown[] | null => (value === UNKNOWN ? null : Array.isArray(value) ? value : typeof value === 'object' ? Object.keys(value) : null)

/** `exists`, `all`, `exists_one`, `filter` over a list, or the names of a map. */
export function goThrough(how: 'exists' | 'all' | 'exists_one' | 'filter', list: Code, slot: number, predicate: Code): Code {
  return (run) => {
    const items = itemsOf(list(run))
    if (items === null) return UNKNOWN
    const chosen: unknown[] = []
    let open = false
    for (const item of items) {
      run.spend(1)
      run.slots[slot] = known(item)
      const value = predicate(run)
      if (value === UNKNOWN) open = true
      else if (value === true) {
        if (how === 'exists') return true
        chosen.push(item)
      } else if (how === 'all') return false
    }
    if (open) return UNKNOWN
    return how === 'filter' ? chosen : how === 'exists_one' ? chosen.length === 1 : how === 'all'
  }
}
