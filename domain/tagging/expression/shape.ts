// What the facts look like to an expression: read once from the sections as the contract declares them, so that a path that can't be there is refused when a rule is saved.
import { z } from 'zod'
import { sections, type SectionName } from '../../../protocol/facts.ts'

export type Shape =
  | { readonly kind: 'object'; readonly fields: ReadonlyMap<string, Shape> }
  | { readonly kind: 'map' | 'list'; readonly of: Shape }
  | { readonly kind: 'string'; /** What it may be; null: anything. */ readonly options: readonly string[] | null }
  | { readonly kind: 'number' | 'bool' }

/** Not of these: packages are counted in tens of thousands and rules ask for vulnerabilities; agents' answers are other conditions'. */
const hidden: readonly SectionName[] = ['software', 'verdicts']
/** Values by which a fact says that it is not known: an expression never sees them. */
export const unknownWords: readonly string[] = ['unknown', 'unrated']

interface JsonSchema {
  readonly type?: string | undefined; readonly enum?: readonly unknown[] | undefined; readonly anyOf?: readonly JsonSchema[] | undefined
  readonly properties?: Readonly<Record<string, JsonSchema>> | undefined; readonly items?: JsonSchema | undefined; readonly additionalProperties?: JsonSchema | boolean | undefined
}

function shapeOf({ type, enum: options, anyOf, properties, items, additionalProperties }: JsonSchema): Shape {
  // A union here is two forms of one text, or something that may be null, which is unknown.
  const [first] = anyOf?.filter((each) => each.type !== 'null') ?? []
  if (first !== undefined) return shapeOf(first)
  switch (type) {
    case 'object': return properties === undefined
      ? { kind: 'map', of: shapeOf(typeof additionalProperties === 'object' ? additionalProperties : {}) }
      : { kind: 'object', fields: new Map(Object.entries(properties).map(([name, each]) => [name, shapeOf(each)])) }
    case 'array': return { kind: 'list', of: shapeOf(items ?? {}) }
    case 'number': case 'integer': return { kind: 'number' }
    case 'boolean': return { kind: 'bool' }
    case 'string': return { kind: 'string', options: options === undefined ? null : options.map(String) }
    default: throw new Error(`a fact is of a form that no expression can read: ${type}`)
  }
}

const known = new Map<string, Shape>()
/** The shape of a section; undefined: there is no such section, or expressions do not read it. */
export function sectionShape(name: string): Shape | undefined {
  if (!readable.includes(name as SectionName)) return undefined
  const before = known.get(name)
  if (before !== undefined) return before
  const shape = shapeOf(z.toJSONSchema(sections[name as SectionName], { io: 'output', unrepresentable: 'any' }) as JsonSchema)
  known.set(name, shape)
  return shape
}
export const readable: readonly SectionName[] = (Object.keys(sections) as SectionName[]).filter((name) => !hidden.includes(name))

/** `a text`, `one of on, off`. */
export const told = (shape: Shape): string => (shape.kind === 'string' ? shape.options === null ? 'a text' : `one of ${shape.options.filter((each) => !unknownWords.includes(each)).join(', ')}`
  : { number: 'a number', bool: 'true or false', object: 'a record', map: 'a map', list: 'a list' }[shape.kind])
