// Whether a rule set can be taken: every condition by its type, every OS supported, the logic well formed. Errors name the exact place.
import canonicalize from 'canonicalize'
import type { OsType } from '../../protocol/facts.ts'
import type { OsRules, RuleSet, RuleSetInput } from '../../protocol/rules.ts'
import { namedIn, parseLogic } from './logic.ts'
import { readCondition } from './registry.ts'

export interface PlacedError { readonly pointer: string; readonly detail: string }

/** An empty list: it can be taken. Pointers are RFC 6901, into the rule set. */
export function checkRuleSet(input: RuleSetInput): PlacedError[] {
  return Object.entries(input.rules).flatMap(([os, rules]) => (rules === undefined ? [] : checkOs(os as OsType, rules)))
}

function checkOs(os: OsType, rules: OsRules): PlacedError[] {
  const errors = rules.conditions.flatMap((condition, index): PlacedError[] => {
    const pointer = `/rules/${os}/conditions/${index}`
    const read = readCondition(condition)
    if (!read.ok) return read.errors.map(({ path, detail }) => ({ pointer: [pointer, ...path.map((part) => String(part).replaceAll('~', '~0').replaceAll('/', '~1'))].join('/'), detail }))
    return read.type.os.includes(os) ? [] : [{ pointer: `${pointer}/type`, detail: `${read.type.type} is not supported on ${os}` }]
  })
  if (rules.logic === undefined) return errors
  const parsed = parseLogic(rules.logic, rules.conditions.length)
  if (!parsed.ok) return [...errors, { pointer: `/rules/${os}/logic`, detail: parsed.detail }]
  // A condition that was added and forgotten in the logic would ask for nothing, and its author would believe that it does.
  const named = namedIn(parsed.logic)
  return [...errors, ...rules.conditions.flatMap((_, index) => (named.has(index) ? [] : [{ pointer: `/rules/${os}/conditions/${index}`, detail: `condition ${index + 1} is not in the logic, so it would decide nothing` }]))]
}

/** What decides, as one text: an edit that leaves it as it is (a name, a comment, a message, the order of members, how the logic is written) changes no verdict. */
export const meaningOf = ({ tagUid, enabled, mode, rules }: RuleSet): string =>
  canonicalize({ tagUid, enabled, mode, rules: Object.fromEntries(Object.entries(rules).map(([os, each]) => [os, { conditions: each?.conditions, logic: each === undefined ? null : treeOf(each) }])) }) ?? ''

function treeOf({ conditions, logic }: OsRules): unknown {
  const parsed = parseLogic(logic ?? conditions.map((_, index) => index + 1).join(' and '), conditions.length)
  return parsed.ok ? parsed.logic : logic
}

/** ms: until when verdicts from before an edit may stand while agents owe answers; null: they may not, for what they gave (nothing yet, another tag, a report) is not what the rule set gives now. */
export const standsUntil = (before: RuleSet | null, after: RuleSet, now: number): number | null =>
  (before === null || !before.enabled || before.tagUid !== after.tagUid || before.mode !== after.mode || after.transitionSeconds === 0 ? null : now + after.transitionSeconds * 1000)
/** The systems that a rule set decides about. */
export const systemsOf = ({ enabled, rules }: Pick<RuleSet, 'enabled' | 'rules'>): OsType[] => (enabled ? Object.keys(rules) as OsType[] : [])
