// The functions of expressions. There is no has(): a fact that is not there is unknown, and asking whether it is would make it a `false`.
import { compilePattern, type Pattern } from '../text-match.ts'
import { severity } from '../../../protocol/facts.ts'
import { versionHolds } from '../dotted-version.ts'
import { UNKNOWN, type Code, type Value } from './code.ts'
import type { Shape } from './shape.ts'

type Kind = Shape['kind']
export interface Argument { readonly shape: Shape; readonly code: Code; /** Its value where it is written out; else undefined. */ readonly literal: unknown }
export interface FactFunction {
  /** Of the receiver where it has one, then of the arguments. */
  readonly takes: readonly (readonly Kind[])[]
  readonly method: boolean
  readonly gives: Shape
  readonly written: string
  /** Compiles a call; a text: why it can't be. */
  compile(args: readonly Argument[]): Code | string
}

const bool: Shape = { kind: 'bool' }
const order = severity.options
/** Nothing is worked out of what is not known. */
const strict = (args: readonly Argument[], work: (values: readonly (string | number | boolean | object)[], run: Parameters<Code>[0]) => Value): Code => (run) => {
  run.spend(1)
  const values: (string | number | boolean | object)[] = []
  for (const { code } of args) {
    const value = code(run)
    if (value === UNKNOWN) return UNKNOWN
    values.push(value)
  }
  return work(values, run)
}
/** Of texts alone. */
const onTexts = (args: readonly Argument[], work: (one: string, other: string, run: Parameters<Code>[0]) => Value): Code => strict(args, ([one, other = ''], run) => {
  if (typeof one !== 'string' || typeof other !== 'string') return UNKNOWN
  run.spend(one.length / 16)
  return work(one, other, run)
})
const onText = (written: string, work: (text: string, other: string) => boolean): FactFunction => ({
  takes: [['string'], ['string']], method: true, gives: bool, written,
  compile: (args) => onTexts(args, work),
})

export const functions: Readonly<Record<string, FactFunction>> = {
  startsWith: onText('text.startsWith(text)', (text, other) => text.startsWith(other)),
  endsWith: onText('text.endsWith(text)', (text, other) => text.endsWith(other)),
  contains: onText('text.contains(text)', (text, other) => text.includes(other)),
  lowerAscii: {
    takes: [['string']], method: true, gives: { kind: 'string', options: null }, written: 'text.lowerAscii()',
    compile: (args) => onTexts(args, (text) => text.replace(/[A-Z]/g, (letter) => letter.toLowerCase())),
  },
  matches: {
    takes: [['string'], ['string']], method: true, gives: bool, written: 'text.matches("pattern")',
    compile(args) {
      const pattern = args[1]?.literal
      if (typeof pattern !== 'string') return 'the pattern must be written out'
      const compiled: Pattern | string = compilePattern(pattern)
      if (typeof compiled === 'string') return compiled
      return onTexts(args, (text, _, run) => {
        run.spend(text.length * compiled.programSize() / 8)
        return compiled.matcher(text).find()
      })
    },
  },
  size: { takes: [['string', 'list', 'map']], method: false, gives: { kind: 'number' }, written: 'size(list)', compile: (args) => strict(args, ([of]) => (typeof of === 'string' || Array.isArray(of) ? of.length : Object.keys(of ?? {}).length)) },
  versionAtLeast: {
    takes: [['string'], ['string']], method: false, gives: bool, written: 'versionAtLeast(version, "12.8")',
    compile: (args) => onTexts(args, (version, least) => versionHolds(version, '>=', least) ?? UNKNOWN),
  },
  severityAtLeast: {
    takes: [['string'], ['string']], method: false, gives: bool, written: 'severityAtLeast(severity, "high")',
    compile(args) {
      const least = order.findIndex((each) => each === args[1]?.literal)
      if (least < 1) return `the severity must be written out, as one of ${order.slice(1).join(', ')}`
      return strict(args, ([own]) => {
        const at = order.findIndex((each) => each === own)
        return at < 1 ? UNKNOWN : at >= least
      })
    },
  },
  within: {
    takes: [['number'], ['number']], method: false, gives: bool, written: 'within(instant, seconds)',
    compile: (args) => strict(args, ([at, seconds], run) => {
      // A date in the future, by lie or by wrong clock, would never grow old.
      if (Number(at) > run.now) {
        run.due(Number(at))
        return UNKNOWN
      }
      const ends = Number(at) + Number(seconds) * 1000
      if (ends <= run.now) return false
      run.due(ends)
      return true
    }),
  },
}
