// Brings what a file defines to the EMS, by name: creates what is new, replaces what is different, leaves the rest alone.
import { Fault } from '../protocol/faults.ts'
import type { Session } from './command.ts'
import type { Definition } from './definitions.ts'
import { describeDifference, differences, type Difference } from './differences.ts'
import { findNamed } from './named.ts'

interface Target<Item, Body> {
  /** For sentences: `rule set`. */
  readonly one: string
  bodyOf(item: Item): Body
  create(session: Session, body: Body): Promise<Item>
  replace(session: Session, id: string, body: Body): Promise<Item>
}
type Step = { readonly action: 'create' | 'replace' | 'unchanged'; readonly id: string | null; readonly changes: readonly Difference[] }
const done = { create: 'created', replace: 'replaced', unchanged: 'unchanged' } as const
const wouldBe = { create: 'would be created', replace: 'would be replaced', unchanged: 'unchanged' } as const

/** What is to be done for every definition is known before the first is done. @returns how many are not as they were */
export async function applyDefinitions<Item extends { readonly id: string; readonly name: string }, Body extends { readonly name: string }>(
  session: Session, target: Target<Item, Body>, existing: readonly Item[], definitions: readonly Definition<Body>[], dryRun: boolean,
): Promise<number> {
  const steps = definitions.map((definition) => ({ definition, ...stepFor(target, existing, definition.body) }))
  for (const [index, { definition, action, id, changes }] of steps.entries()) {
    const { name } = definition.body
    const item = dryRun || action === 'unchanged' ? null : await carryOut(session, target, id, definition).catch((cause: unknown) => {
      throw told(cause, { ...definition, one: target.one, name, before: index })
    })
    const said = (dryRun ? wouldBe : done)[action]
    await session.printer.one({ name, action: dryRun ? action : said, dryRun, id: item?.id ?? id, changes }, () => [`${said}: ${name}`, ...changes.map(describeDifference)])
  }
  return steps.filter(({ action }) => action !== 'unchanged').length
}

function stepFor<Item extends { readonly id: string; readonly name: string }, Body extends { readonly name: string }>(target: Target<Item, Body>, existing: readonly Item[], body: Body): Step {
  if (!existing.some(({ name }) => name === body.name)) return { action: 'create', id: null, changes: [] }
  const item = findNamed(existing.filter(({ name }) => name === body.name), body.name, target.one)
  const changes = differences(target.bodyOf(item), body)
  return { action: changes.length === 0 ? 'unchanged' : 'replace', id: item.id, changes }
}

const carryOut = <Item, Body>(session: Session, target: Target<Item, Body>, id: string | null, { body }: Definition<Body>): Promise<Item> =>
  id === null ? target.create(session, body) : target.replace(session, id, body)

/** A refusal of the EMS, with the places in the file and with how far it had got. */
function told(cause: unknown, { one, name, place, before }: Pick<Definition<unknown>, 'place'> & { one: string; name: string; before: number }): unknown {
  if (!(cause instanceof Fault)) return cause
  const errors = cause.extras.errors?.map(({ pointer, detail }) => ({ pointer: place(pointer), detail }))
  const done = before === 0 ? 'Nothing was changed.' : `The ${before} that were taken before it stand; apply the file again when it is mended.`
  return new Fault(cause.code, `The ${one} "${name}" was not taken: ${cause.message} ${done}`, { ...cause.extras, errors, cause: cause.cause })
}
