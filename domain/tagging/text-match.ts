// How a text is matched: exactly, by wildcards, or by a regular expression in an engine whose time grows with the text alone (RE2): no pattern can stop the EMS or an agent.
import { RE2JS } from 're2js'
import { z } from 'zod'
import { line } from '../../protocol/text.ts'

/** Longer patterns, and texts, are not worked on. */
const MAX_PATTERN = 512
const MAX_TEXT = 1_024
/** Instructions of a compiled pattern: `(a{1000}){9}` is short to write and long to run. */
const MAX_PROGRAM = 300

/** Exactly one of the three. `is`: the whole text. `like`: the whole text, `*` stands for any run and `?` for any one character. `matches`: RE2 syntax, found anywhere unless anchored. */
const written = z.strictObject({ is: line(1024).optional(), like: line(MAX_PATTERN).optional(), matches: line(MAX_PATTERN).optional() })

export interface TextMatch { readonly said: string; holds(text: string): boolean | null }

/** Parses to a matcher; null from it: the text is longer than is worked on. */
export const textMatch = written.transform(({ is, like, matches }, context): TextMatch => {
  const fail = (path: string[], message: string) => { context.addIssue({ code: 'custom', path, message }) }
  const bounded = (test: (text: string) => boolean) => (text: string) => (text.length > MAX_TEXT ? null : test(text))
  const never: TextMatch = { said: '', holds: () => null }
  if ([is, like, matches].filter((each) => each !== undefined).length !== 1) {
    fail([], 'name one of is, like and matches')
    return never
  }
  if (is !== undefined) return { said: `is "${is}"`, holds: bounded((text) => text === is) }
  if (like !== undefined) return { said: `is like "${like}"`, holds: bounded((text) => isLike(text, like)) }
  const compiled = compilePattern(matches ?? '')
  if (typeof compiled === 'string') {
    fail(['matches'], compiled)
    return never
  }
  return { said: `matches /${matches}/`, holds: bounded((text) => compiled.matcher(text).find()) }
})

export type Pattern = RE2JS
/** A pattern ready to run, or why it is none. */
export function compilePattern(pattern: string): Pattern | string {
  if (pattern.length > MAX_PATTERN) return `a pattern has at most ${MAX_PATTERN} characters`
  try {
    const compiled = RE2JS.compile(pattern)
    return compiled.programSize() > MAX_PROGRAM ? 'the pattern is too large once its repetitions are written out' : compiled
  } catch (cause) {
    return `no pattern of RE2: ${cause instanceof Error ? cause.message : String(cause)}`
  }
}

/** Wildcards without going back more than to the last `*`: at worst text times pattern. */
function isLike(text: string, pattern: string): boolean {
  let [at, in_, star, mark] = [0, 0, -1, 0]
  while (at < text.length) {
    if (in_ < pattern.length && pattern[in_] !== '*' && (pattern[in_] === '?' || pattern[in_] === text[at])) {
      at++
      in_++
    } else if (pattern[in_] === '*') {
      star = in_++
      mark = at
    } else if (star >= 0) {
      in_ = star + 1
      at = ++mark
    } else return false
  }
  while (pattern[in_] === '*') in_++
  return in_ === pattern.length
}
