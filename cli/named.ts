// Finds one thing by its id or by its name.
import { Fault } from '../protocol/faults.ts'

/** Throws when there is none, or when several bear that name: then only the id says which. */
export function findNamed<Item extends { readonly id: string; readonly name: string }>(items: readonly Item[], word: string, one: string): Item {
  const byId = items.find(({ id }) => id === word)
  if (byId !== undefined) return byId
  const [found, ...others] = items.filter(({ name }) => name === word)
  if (found === undefined) throw new Fault('not_found', `There is no ${one} "${word}".`)
  if (others.length > 0) throw new Fault('conflict', `${others.length + 1} of the same kind (${one}) bear the name "${word}"; say which by its id: ${[found, ...others].map(({ id }) => id).join(', ')}.`)
  return found
}
