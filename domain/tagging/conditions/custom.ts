// A condition written as an expression over all facts (CEL). What it does not find is unknown, negated or not; what takes too long too.
import { z } from 'zod'
import type { Fact, Facts, SectionName, Sections } from '../../../protocol/facts.ts'
import { line } from '../../../protocol/text.ts'
import { fabricAt } from '../../policy/on-fabric.ts'
import { conditionType } from '../condition-type.ts'
import { runCode, TooMuchWork, UNKNOWN } from '../expression/code.ts'
import { compileExpression, MAX_SOURCE, type Expression } from '../expression/compile.ts'
import { stands } from '../signals.ts'

const expression = z.string().min(1).max(MAX_SOURCE).transform((source, context): Expression => {
  const compiled = compileExpression(source)
  if (compiled.ok) return compiled.expression
  context.addIssue({ code: 'custom', message: compiled.detail })
  return z.NEVER
})
const schema = z.strictObject({ expression, /** For people: what it asks, and what to do about it. */ wanted: line(200).optional(), mend: line(200).optional() })
interface Params { readonly expression: Expression; readonly wanted?: string | undefined; readonly mend?: string | undefined }

const MOST_SHOWN = 6

/** Sections as the expression sees them: what has expired is unknown, and what will expire is due. */
function standing(sections: readonly SectionName[], facts: Facts, now: number): { readonly seen: Record<string, unknown>; readonly dues: number[] } {
  const dues: number[] = []
  const unlessExpired = <T extends { readonly expiresAt: number | null }>(value: T): T | typeof UNKNOWN => {
    if (!stands(value, now)) return UNKNOWN
    if (value.expiresAt !== null) dues.push(value.expiresAt)
    return value
  }
  const seen = Object.fromEntries(sections.map((section): [string, unknown] => {
    const { value } = facts[section] as Fact
    if (section === 'identity') return [section, unlessExpired(value as Sections['identity'])]
    if (section === 'fabric') {
      const { on, ends } = fabricAt(value as Sections['fabric'], now)
      if (ends !== null) dues.push(ends)
      return [section, on === null ? UNKNOWN : { ...value as Sections['fabric'], on }]
    }
    if (section !== 'sandbox' && section !== 'threats' && section !== 'scores') return [section, value]
    const { sources } = value as Sections['scores']
    return [section, { sources: Object.fromEntries(Object.entries(sources).map(([source, told]) => [source, unlessExpired(told)])) }]
  }))
  return { seen, dues }
}

function shown({ paths }: Expression, seen: Record<string, unknown>, now: number): string {
  const told = paths.slice(0, MOST_SHOWN).map(({ path, code }) => {
    const { value } = runCode(code, seen, [], now)
    return `${path} is ${value === UNKNOWN ? 'unknown' : JSON.stringify(value).slice(0, 60)}`
  })
  return told.join(', ') + (paths.length > MOST_SHOWN ? ', …' : '')
}
const short = ({ source }: Expression): string => `"${source.replaceAll(/\s+/g, ' ').slice(0, 120)}"`

export const custom = conditionType<Params>({
  type: 'custom', schema: schema as unknown as z.ZodType<Params>, os: ['linux', 'windows', 'macos'], side: 'ems', section: { by: (params) => params.expression.sections },
  evaluate(params, _, { now, facts }) {
    const { seen, dues } = standing(params.expression.sections, facts, now)
    try {
      const { value, validUntil } = runCode(params.expression.code, seen, dues, now)
      return { value: value === true ? 'true' : value === false ? 'false' : 'unknown', seen: shown(params.expression, seen, now) || `the expression is ${value === UNKNOWN ? 'unknown' : JSON.stringify(value)}`, validUntil }
    } catch (cause) {
      if (cause instanceof TooMuchWork) return { value: 'unknown', seen: `the expression takes ${cause.message} on what this device reports`, validUntil: null }
      throw cause
    }
  },
  wanted: ({ expression: own, wanted }) => wanted ?? `the expression ${short(own)} holds`,
  mend: ({ expression: own, mend }, negate) => mend ?? `Bring about that it holds${negate ? ' no longer' : ''}: ${short(own)}.`,
})
