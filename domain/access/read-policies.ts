// Reads the policy file's text; says of each mistake where it stands. It opens no file.
import { LineCounter, parseDocument, type Document } from 'yaml'
import { compilePolicies, type Policies } from './policies.ts'
import { policyFile } from './policy-file.ts'

/** A mistake and its place: line and column from 1, and the path within the file. */
export interface PolicyError { readonly line: number; readonly column: number; readonly path: string; readonly detail: string }
export type PolicyReading = { readonly ok: true; readonly policies: Policies } | { readonly ok: false; readonly errors: readonly PolicyError[] }

const MAX_CHARACTERS = 1_000_000

/** Where the deepest part of a path that exists begins: a missing member has no place of its own. */
function offsetOf(document: Document, path: readonly PropertyKey[]): number {
  for (let length = path.length; length > 0; length--) {
    const node: unknown = document.getIn(path.slice(0, length), true)
    if (typeof node === 'object' && node !== null && 'range' in node && Array.isArray(node.range)) return Number(node.range[0])
  }
  return 0
}

/**
 * Parses and checks the policies; nothing is taken over of a file that has a mistake.
 * @param fileAt the whole path of a file that the policies name
 */
export function readPolicies(text: string, fileAt: (name: string) => string = (name) => name): PolicyReading {
  const refuse = (detail: string) => ({ ok: false as const, errors: [{ line: 1, column: 1, path: '', detail }] })
  if (text.length > MAX_CHARACTERS) return refuse(`is longer than ${MAX_CHARACTERS} characters`)
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true })
  const place = (offset: number) => {
    const { line, col } = lines.linePos(offset)
    return { line: Math.max(line, 1), column: Math.max(col, 1) }
  }
  if (document.errors.length > 0) return { ok: false, errors: document.errors.map((error) => ({ ...place(error.pos[0]), path: '', detail: error.message })) }
  let value: unknown
  try {
    value = document.toJS({ maxAliasCount: 100 })
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error))
  }
  const parsed = policyFile.safeParse(value)
  if (parsed.success) return { ok: true, policies: compilePolicies(parsed.data, fileAt) }
  return { ok: false, errors: parsed.error.issues.map(({ path, message }) => ({ ...place(offsetOf(document, path)), path: path.map(String).join('.'), detail: message })) }
}
