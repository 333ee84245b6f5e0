// Whether a rule set may read the tags that it reads, beside the others as they are: each is there, and none is made of the tag that it gives.
import type { OsType } from '../../protocol/facts.ts'
import type { OsRules, RuleSet, RuleSetInput } from '../../protocol/rules.ts'
import { readCondition } from './registry.ts'
import type { PlacedError } from './rule-set.ts'
import { findCircle } from './tag-order.ts'

interface Reading { readonly os: OsType; readonly index: number; readonly tag: string }

/** Each tag that a rule set reads, by the place where it does. What can't be read, reads nothing. */
function readingsOf({ rules }: Pick<RuleSetInput, 'rules'>): Reading[] {
  return (Object.entries(rules) as [OsType, OsRules][]).flatMap(([os, { conditions }]) => conditions.flatMap((condition, index) => {
    const read = readCondition(condition)
    return read.ok && read.type.side === 'tags' ? read.type.tags(read.params).map((tag) => ({ os, index, tag })) : []
  }))
}
/** Names of the tags that a rule set reads. */
export const tagsReadBy = (ruleSet: Pick<RuleSetInput, 'rules'>): string[] => [...new Set(readingsOf(ruleSet).map(({ tag }) => tag))]
export const readsTags = (ruleSet: Pick<RuleSetInput, 'rules'>): boolean => readingsOf(ruleSet).length > 0

/**
 * @param ruleSets all there are, whatever they are switched to: one that is switched on later must close no circle
 * @param names of every tag there is
 * @param id of the rule set that it replaces; null: a new one
 */
export function checkTagsRead(given: { readonly input: RuleSetInput; readonly id: string | null; readonly ruleSets: readonly RuleSet[]; readonly names: ReadonlySet<string> }): PlacedError[] {
  const { input, id, ruleSets, names } = given
  const pointer = ({ os, index }: Reading) => `/rules/${os}/conditions/${index}/tag`
  return readingsOf(input).flatMap((reading): PlacedError[] => {
    if (reading.tag !== input.tag && !names.has(reading.tag)) return [{ pointer: pointer(reading), detail: `there is no tag "${reading.tag}"` }]
    // By system: a tag that is given on one and read on another makes no circle.
    const linked = (own: RuleSetInput, of: string | null) => ({ of, gives: own.tag, reads: readingsOf(own).filter(({ os }) => os === reading.os).map(({ tag }) => tag) })
    const others = ruleSets.filter((each) => each.id !== id && each.rules[reading.os] !== undefined).map((each) => linked(each, each.id))
    const circle = findCircle([{ of: id, gives: input.tag, reads: [reading.tag] }, ...others])
    return circle === null || !circle.includes(reading.tag) || !circle.includes(input.tag) ? [] : [{ pointer: pointer(reading), detail: `closes a circle of tags: ${circle.slice(0, 12).map((tag) => `"${tag}"`).join(' reads ')}${circle.length > 12 ? ' …' : ''}` }]
  })
}

/** The rule sets that would be left reading a tag that nobody gives any more. */
export function leftReading(tag: string, without: string, ruleSets: readonly RuleSet[]): RuleSet[] {
  if (ruleSets.some((each) => each.id !== without && each.tag === tag)) return []
  return ruleSets.filter((each) => each.id !== without && readingsOf(each).some((reading) => reading.tag === tag))
}
