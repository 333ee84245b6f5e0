// What is different between two JSON values, place by place.
import { isDeepStrictEqual } from 'node:util'
import { harmlessJson } from './harmless.ts'

/** `from` or `to` is missing where the place is new or gone. */
export interface Difference { readonly pointer: string; readonly from?: unknown; readonly to?: unknown }

export const escapePart = (part: PropertyKey): string => String(part).replaceAll('~', '~0').replaceAll('/', '~1')

/** Pointers are RFC 6901. An empty list: they mean the same. */
export function differences(from: unknown, to: unknown, pointer = ''): Difference[] {
  if (isDeepStrictEqual(from, to)) return []
  const [before, after] = [membersOf(from), membersOf(to)]
  if (before === null || after === null || Array.isArray(from) !== Array.isArray(to)) return [{ pointer, ...(from === undefined ? {} : { from }), ...(to === undefined ? {} : { to }) }]
  return [...new Set([...before.keys(), ...after.keys()])].flatMap((name) => differences(before.get(name), after.get(name), `${pointer}/${escapePart(name)}`))
}

const membersOf = (value: unknown): Map<string, unknown> | null => (typeof value === 'object' && value !== null ? new Map(Object.entries(value)) : null)

/** For people: one line, indented. */
export const describeDifference = ({ pointer, ...change }: Difference): string =>
  `  ${pointer}: ${'from' in change ? harmlessJson(change.from) : 'nothing'} → ${'to' in change ? harmlessJson(change.to) : 'nothing'}`
