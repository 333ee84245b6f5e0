// An expression (CEL, a strict part of it) compiled over the facts: every path and every type is checked when it is saved, and an error names the character.
// The library parses; what runs is ours, for in CEL an absent member is an error and here it is unknown, and nothing there counts steps.
import { Environment, ParseError, type ASTNode } from '@marcbachmann/cel-js'
import type { SectionName } from '../../../protocol/facts.ts'
import { both, element, goThrough, known, member, not, UNKNOWN, type Code, type Value } from './code.ts'
import { functions, type Argument } from './functions.ts'
import { readable, sectionShape, told, unknownWords, type Shape } from './shape.ts'
import { unprintableAt } from '../../../protocol/text.ts'

export const MAX_SOURCE = 4_096
/** Lists in lists in lists: the work is the product of their lengths. */
const MAX_NESTED = 3
const parser = new Environment({ unlistedVariablesAreDyn: true, limits: { maxAstNodes: 400, maxDepth: 32, maxListElements: 256, maxMapEntries: 0, maxCallArguments: 4 } })

export interface Expression {
  readonly source: string
  readonly code: Code
  readonly sections: readonly [SectionName, ...SectionName[]]
  /** The single facts it names, for the explanation: `os.version`. */
  readonly paths: readonly { readonly path: string; readonly code: Code }[]
}
export type CompiledExpression = { readonly ok: true; readonly expression: Expression } | { readonly ok: false; readonly detail: string }
type Compiled = Argument & { readonly path?: string }
interface Scope { readonly variables: ReadonlyMap<string, { readonly slot: number; readonly shape: Shape }> }

class ExpressionError extends Error {
  readonly at: number
  constructor(at: number, message: string) {
    super(message)
    this.at = at
  }
}
const fail = (node: ASTNode, message: string): never => { throw new ExpressionError(node.start, message) }
const bool: Shape = { kind: 'bool' }
const text: Shape = { kind: 'string', options: null }

/** Compiles once, for every endpoint. */
export function compileExpression(source: string): CompiledExpression {
  if (source.length > MAX_SOURCE) return { ok: false, detail: `has at most ${MAX_SOURCE} characters` }
  // What turns the direction of writing shows people another expression than the one that runs; halves of characters have no canonical form.
  const hidden = unprintableAt(source, '\t\n\r')
  if (hidden !== null) return { ok: false, detail: `a character that can not be seen, at character ${hidden + 1}` }
  const read = new Set<SectionName>()
  const paths = new Map<string, Code>()
  try {
    const { code, shape } = compileNode(parser.parse(source).ast, { variables: new Map() }, { read, paths })
    if (shape.kind !== 'bool') return { ok: false, detail: `gives ${told(shape)}, not true or false, at character 1` }
    const [first, ...others] = read
    if (first === undefined) return { ok: false, detail: 'reads no fact at character 1' }
    return { ok: true, expression: { source, code, sections: [first, ...others], paths: [...paths].map(([path, each]) => ({ path, code: each })) } }
  } catch (cause) {
    if (cause instanceof ExpressionError) return { ok: false, detail: `${cause.message} at character ${cause.at + 1}` }
    if (cause instanceof ParseError) return { ok: false, detail: `${cause.summary} at character ${(cause.range?.start ?? 0) + 1}` }
    throw cause
  }
}

interface Noted { readonly read: Set<SectionName>; readonly paths: Map<string, Code> }

function compileNode(node: ASTNode, scope: Scope, noted: Noted): Compiled {
  const compiled = compileAny(node, scope, noted)
  if (compiled.path?.includes('.') === true && ['string', 'number', 'bool'].includes(compiled.shape.kind)) noted.paths.set(compiled.path, compiled.code)
  return compiled
}

function compileAny(node: ASTNode, scope: Scope, noted: Noted): Compiled {
  const inner = (each: ASTNode) => compileNode(each, scope, noted)
  switch (node.op) {
    case 'value': return literal(node, node.args)
    case 'id': return variable(node, node.args, scope, noted)
    case '.': return path(node, inner(node.args[0]), node.args[1])
    case '[]': return index(node, inner(node.args[0]), inner(node.args[1]))
    case 'list': return list(node, node.args.map(inner))
    case '!_': {
      const { code } = of(node.args, inner(node.args), 'bool')
      return { shape: bool, literal: undefined, code: (run) => not(code(run)) }
    }
    case '-_': return arithmetic(node, { shape: { kind: 'number' }, code: () => 0, literal: 0 }, of(node.args, inner(node.args), 'number'), '-')
    case '&&': case '||': return { shape: bool, literal: undefined, code: both(of(node.args[0], inner(node.args[0]), 'bool').code, of(node.args[1], inner(node.args[1]), 'bool').code, node.op === '||') }
    case '?:': return choice(node, node.args.map(inner))
    case '==': case '!=': return equality(node, inner(node.args[0]), inner(node.args[1]), node.op === '!=')
    case '<': case '<=': case '>': case '>=': return comparison(node, inner(node.args[0]), inner(node.args[1]), node.op)
    case '+': case '-': case '*': case '/': case '%': return arithmetic(node, of(node.args[0], inner(node.args[0]), 'number'), of(node.args[1], inner(node.args[1]), 'number'), node.op)
    case 'in': return membership(node, inner(node.args[0]), inner(node.args[1]))
    case 'call': return call(node, node.args[0], node.args[1], null, scope, noted)
    case 'rcall': return call(node, node.args[0], node.args[2], node.args[1], scope, noted)
    default: return fail(node, `"${node.op}" is not offered`)
  }
}

function of(node: ASTNode, compiled: Compiled, kind: Shape['kind']): Compiled {
  return compiled.shape.kind === kind ? compiled : fail(node, `is ${told(compiled.shape)}, not ${told({ kind, options: null, of: text, fields: new Map() })},`)
}

function literal(node: ASTNode, value: unknown): Compiled {
  const plain = typeof value === 'bigint' ? Number(value) : value
  if (typeof plain === 'number' && (!Number.isFinite(plain) || (typeof value === 'bigint' && !Number.isSafeInteger(plain)))) return fail(node, 'the number is too large')
  if (typeof plain !== 'string' && typeof plain !== 'number' && typeof plain !== 'boolean') return fail(node, 'only texts, numbers, true and false can be written out; what is absent is unknown,')
  return { shape: typeof plain === 'string' ? text : { kind: typeof plain === 'number' ? 'number' : 'bool' }, code: () => plain, literal: plain }
}

function variable(node: ASTNode, name: string, { variables }: Scope, { read }: Noted): Compiled {
  const bound = variables.get(name)
  if (bound !== undefined) return { shape: bound.shape, literal: undefined, code: ({ slots }) => slots[bound.slot] as Value }
  const shape = sectionShape(name)
  if (shape === undefined) return fail(node, `there are no facts named "${name}" (there are ${readable.join(', ')})`)
  read.add(name as SectionName)
  return { shape, literal: undefined, path: name, code: ({ facts }) => known(facts[name]) }
}

function path(node: ASTNode, from: Compiled, name: string): Compiled {
  const code: Code = (run) => {
    run.spend(1)
    return member(from.code(run), name)
  }
  const further = from.path === undefined ? {} : { path: `${from.path}.${name}` }
  if (from.shape.kind === 'map') return { shape: from.shape.of, code, literal: undefined, ...further }
  if (from.shape.kind !== 'object') return fail(node, `"${name}" is asked of ${told(from.shape)}, which has no members,`)
  const shape = from.shape.fields.get(name)
  if (shape === undefined) return fail(node, `there is no "${name}" in ${from.path ?? 'it'} (there are ${[...from.shape.fields.keys()].join(', ')})`)
  return { shape, code, literal: undefined, ...further }
}

function index(node: ASTNode, from: Compiled, at: Compiled): Compiled {
  if (from.shape.kind === 'list' && at.shape.kind === 'number') return { shape: from.shape.of, literal: undefined, code: (run) => element(from.code(run), at.code(run)) }
  if (from.shape.kind !== 'map' || at.shape.kind !== 'string') return fail(node, `${told(from.shape)} is not asked by ${told(at.shape)}`)
  if (typeof at.literal === 'string') return path(node, from, at.literal)
  const { of: shape } = from.shape
  return { shape, literal: undefined, code(run) {
    run.spend(1)
    const name = at.code(run)
    return typeof name === 'string' ? member(from.code(run), name) : UNKNOWN
  } }
}

function list(node: ASTNode, items: readonly Compiled[]): Compiled {
  const kinds = new Set(items.map(({ shape }) => shape.kind))
  const [first] = items
  if (first === undefined || kinds.size > 1 || items.some((each) => each.literal === undefined)) return fail(node, 'a list is written out of values of one kind')
  const values = items.map((each) => each.literal)
  return { shape: { kind: 'list', of: first.shape }, code: () => values, literal: values }
}

/** A written value must be one that the fact can have, and none that says that it is not known. */
function requireOption(node: ASTNode, fact: Shape, value: unknown): void {
  if (fact.kind !== 'string' || fact.options === null || typeof value !== 'string') return
  if (!fact.options.includes(value) || unknownWords.includes(value)) fail(node, `"${value}" is asked of what is ${told(fact)}`)
}

function equality(node: ASTNode, left: Compiled, right: Compiled, negated: boolean): Compiled {
  if (left.shape.kind !== right.shape.kind || !['string', 'number', 'bool'].includes(left.shape.kind)) return fail(node, `${told(left.shape)} is compared with ${told(right.shape)}`)
  requireOption(node, left.shape, right.literal)
  requireOption(node, right.shape, left.literal)
  return { shape: bool, literal: undefined, code(run) {
    run.spend(1)
    const [one, other] = [left.code(run), right.code(run)]
    return one === UNKNOWN || other === UNKNOWN ? UNKNOWN : (one === other) !== negated
  } }
}

const orders = { '<': (a: number, b: number) => a < b, '<=': (a: number, b: number) => a <= b, '>': (a: number, b: number) => a > b, '>=': (a: number, b: number) => a >= b }
function comparison(node: ASTNode, left: Compiled, right: Compiled, op: keyof typeof orders): Compiled {
  if (left.shape.kind !== 'number' || right.shape.kind !== 'number') return fail(node, `"${op}" compares numbers, not ${told(left.shape)} with ${told(right.shape)} (for versions: versionAtLeast, for severities: severityAtLeast)`)
  return { shape: bool, literal: undefined, code(run) {
    run.spend(1)
    const [one, other] = [left.code(run), right.code(run)]
    return one === UNKNOWN || other === UNKNOWN ? UNKNOWN : orders[op](Number(one), Number(other))
  } }
}

const sums = { '+': (a: number, b: number) => a + b, '-': (a: number, b: number) => a - b, '*': (a: number, b: number) => a * b, '/': (a: number, b: number) => a / b, '%': (a: number, b: number) => a % b }
function arithmetic(_: ASTNode, left: Compiled, right: Compiled, op: keyof typeof sums): Compiled {
  return { shape: { kind: 'number' }, literal: undefined, code(run) {
    run.spend(1)
    const [one, other] = [left.code(run), right.code(run)]
    const value = one === UNKNOWN || other === UNKNOWN ? NaN : sums[op](Number(one), Number(other))
    return Number.isFinite(value) ? value : UNKNOWN
  } }
}

/** A name that a map does not have is unknown, not `false`: the one who would have told may not have been heard. */
function membership(node: ASTNode, item: Compiled, within: Compiled): Compiled {
  if (within.shape.kind === 'map' && item.shape.kind === 'string') {
    return { shape: bool, literal: undefined, code(run) {
      const [name, map] = [item.code(run), within.code(run)]
      return typeof name === 'string' && map !== UNKNOWN && typeof map === 'object' && Object.hasOwn(map, name) ? true : UNKNOWN
    } }
  }
  if (within.shape.kind !== 'list' || within.shape.of.kind !== item.shape.kind) return fail(node, `${told(item.shape)} is looked for in ${told(within.shape)}`)
  if (Array.isArray(within.literal)) for (const value of within.literal) requireOption(node, item.shape, value)
  return { shape: bool, literal: undefined, code(run) {
    const [one, all] = [item.code(run), within.code(run)]
    if (one === UNKNOWN || !Array.isArray(all)) return UNKNOWN
    run.spend(all.length)
    return all.includes(one)
  } }
}

function choice(node: ASTNode, [asked, then, otherwise]: readonly Compiled[]): Compiled {
  if (asked === undefined || then === undefined || otherwise === undefined || asked.shape.kind !== 'bool' || then.shape.kind !== otherwise.shape.kind) return fail(node, 'a choice is between two of one kind, by true or false,')
  return { shape: then.shape, literal: undefined, code(run) {
    const value = asked.code(run)
    return value === UNKNOWN ? UNKNOWN : value === true ? then.code(run) : otherwise.code(run)
  } }
}

const macros = ['exists', 'all', 'exists_one', 'filter'] as const
function call(node: ASTNode, name: string, args: readonly ASTNode[], receiver: ASTNode | null, scope: Scope, noted: Noted): Compiled {
  const macro = macros.find((each) => each === name)
  if (macro !== undefined && receiver !== null) return comprehension(node, macro, compileNode(receiver, scope, noted), args, scope, noted)
  const declared = Object.hasOwn(functions, name) ? functions[name] : undefined
  if (declared === undefined || declared.method !== (receiver !== null)) {
    return fail(node, name === 'has' ? 'has() is not offered, for what is absent is unknown,' : `there is no function "${name}" (there are ${macros.join(', ')}, ${Object.values(functions).map((each) => each.written).join(', ')})`)
  }
  const given = [...(receiver === null ? [] : [receiver]), ...args].map((each) => compileNode(each, scope, noted))
  if (given.length !== declared.takes.length || given.some(({ shape }, at) => declared.takes[at]?.includes(shape.kind) !== true)) return fail(node, `it is written ${declared.written}, not with ${given.map(({ shape }) => told(shape)).join(' and ')},`)
  const code = declared.compile(given)
  return typeof code === 'string' ? fail(node, code) : { shape: declared.gives, code, literal: undefined }
}

function comprehension(node: ASTNode, macro: (typeof macros)[number], over: Compiled, args: readonly ASTNode[], { variables }: Scope, noted: Noted): Compiled {
  const [named, predicate] = args
  if (named?.op !== 'id' || predicate === undefined || args.length !== 2) return fail(node, `it is written list.${macro}(each, condition)`)
  if (over.shape.kind !== 'list' && over.shape.kind !== 'map') return fail(node, `"${macro}" goes through a list or a map, not ${told(over.shape)},`)
  if (sectionShape(named.args) !== undefined || variables.has(named.args)) return fail(named, `"${named.args}" is named twice`)
  const slot = variables.size
  if (slot >= MAX_NESTED) return fail(node, `lists are gone through ${MAX_NESTED} deep at most; this one is`)
  const shape = over.shape.kind === 'list' ? over.shape.of : text
  const inside = compileNode(predicate, { variables: new Map([...variables, [named.args, { slot, shape }]]) }, noted)
  return { shape: macro === 'filter' ? over.shape.kind === 'list' ? over.shape : { kind: 'list', of: text } : bool, literal: undefined, code: goThrough(macro, over.code, slot, of(predicate, inside, 'bool').code) }
}
