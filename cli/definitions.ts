// Files of rule sets, profiles and endpoint policies: YAML or JSON, one or several. Reading says of each mistake where it stands; writing gives what can be read again.
import { Document, isMap, isScalar, isSeq, LineCounter, parseAllDocuments, visit } from 'yaml'
import type { z } from 'zod'
import { Fault } from '../protocol/faults.ts'
import { escapePart } from './differences.ts'
import { harmless } from './harmless.ts'

export interface Mistake { readonly pointer: string; readonly detail: string }
export type Checked<Body> = { readonly ok: true; readonly body: Body } | { readonly ok: false; readonly mistakes: readonly Mistake[] }
export type Check<Body> = (value: unknown) => Checked<Body>

/** One thing that a file defines. */
export interface Definition<Body> {
  readonly body: Body
  /** `rules.yaml:3:9 /rules/linux`: file, line and column of a place in it. */
  place(pointer: string): string
}

/** The check that a schema makes, and then, where that passes, what else must hold. */
export const checkBy = <S extends z.ZodType>(schema: S, further: (body: z.output<S>) => readonly Mistake[] = () => []): Check<z.output<S>> => (value) => {
  const parsed = schema.safeParse(value)
  if (!parsed.success) return { ok: false, mistakes: parsed.error.issues.flatMap(mistakesOf) }
  const mistakes = further(parsed.data)
  return mistakes.length === 0 ? { ok: true, body: parsed.data } : { ok: false, mistakes }
}

/** An unknown member is the mistake, not what it stands in. */
function mistakesOf(issue: z.core.$ZodIssue): Mistake[] {
  const pointer = issue.path.map((part) => `/${escapePart(part)}`).join('')
  return issue.code === 'unrecognized_keys' ? issue.keys.map((key) => ({ pointer: `${pointer}/${escapePart(key)}`, detail: 'is not known here' })) : [{ pointer, detail: issue.message }]
}

interface Found { readonly value: unknown; place(pointer: string): string }

/** Everything that the text defines; a `Fault` with every mistake when there is one: of such a file nothing is taken. */
export function readDefinitions<Body extends { readonly name: string }>(text: string, file: string, check: Check<Body>): Definition<Body>[] {
  const found = readItems(text, file)
  const mistakes: Mistake[] = []
  const names = new Set<string>()
  const definitions = found.flatMap(({ value, place }): Definition<Body>[] => {
    const checked = check(value)
    if (!checked.ok) {
      mistakes.push(...checked.mistakes.map(({ pointer, detail }) => ({ pointer: place(pointer), detail })))
      return []
    }
    if (names.has(checked.body.name)) mistakes.push({ pointer: place('/name'), detail: `another one above is named "${checked.body.name}" too` })
    names.add(checked.body.name)
    return [{ body: checked.body, place }]
  })
  if (mistakes.length > 0) throw refuse(file, mistakes)
  if (definitions.length === 0) throw refuse(file, [{ pointer: file, detail: 'defines nothing' }])
  return definitions
}

const refuse = (file: string, errors: readonly Mistake[]) => new Fault('invalid', `${file} has mistakes; nothing of it was taken.`, { errors: [...errors] })

function readItems(text: string, file: string): Found[] {
  const lines = new LineCounter()
  const placeAt = (offset: number) => {
    const { line, col } = lines.linePos(offset)
    return `${file}:${Math.max(line, 1)}:${Math.max(col, 1)}`
  }
  return parseAllDocuments(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true }).flatMap((document): Found[] => {
    const begins = document.contents === null ? 0 : offsetOf(document, [])
    if (document.errors.length > 0) throw refuse(file, document.errors.map(({ pos, message }) => ({ pointer: placeAt(pos[0]), detail: message })))
    // A document of nothing but its marker.
    if (document.contents === null || (isScalar(document.contents) && document.contents.value === null)) return []
    const value = valueOf(document, (detail) => refuse(file, [{ pointer: placeAt(begins), detail }]))
    const item = (value: unknown, path: readonly string[]): Found => ({
      value,
      place: (pointer) => `${placeAt(offsetOf(document, [...path, ...pointer.split('/').slice(1).map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))]))} ${pointer}`.trimEnd(),
    })
    if (isSeq(document.contents)) return (value as unknown[]).map((each, at) => item(each, [String(at)]))
    if (isMap(document.contents)) return [item(value, [])]
    throw refuse(file, [{ pointer: placeAt(begins), detail: 'must be a mapping, or a list of mappings' }])
  })
}

function valueOf(document: Document.Parsed, refused: (detail: string) => Fault): unknown {
  try {
    // Aliases of aliases grow without bound.
    return document.toJS({ maxAliasCount: 100 })
  } catch (cause) {
    throw refused(cause instanceof Error ? cause.message : String(cause))
  }
}

/** Where the deepest part of a path that exists begins: a missing member has no place of its own. */
function offsetOf(document: Document.Parsed, path: readonly string[]): number {
  for (let length = path.length; length >= 0; length--) {
    const node: unknown = length === 0 ? document.contents : document.getIn(path.slice(0, length), true)
    if (typeof node === 'object' && node !== null && 'range' in node && Array.isArray(node.range)) return Number(node.range[0])
  }
  return 0
}

/** YAML as lines, harmless to look at and the same when it is read again. */
export function toYaml(value: unknown): string[] {
  const document = new Document(value, { aliasDuplicateObjects: false })
  visit(document, {
    Scalar(_, node) {
      // In quotes an escape still means the character; bare it would be another text.
      if (typeof node.value === 'string' && harmless(node.value) !== node.value) node.type = 'QUOTE_DOUBLE'
    },
  })
  return document.toString({ lineWidth: 0, doubleQuotedMinMultiLineLength: Number.MAX_SAFE_INTEGER }).trimEnd().split('\n').map(harmless)
}
