// Whether a rule pack can be taken, and which of two versions is newer. Errors name the exact place.
import type { PackInput } from '../../protocol/packs.ts'
import { checkRuleSet, type PlacedError } from './rule-set.ts'

/** Every tag is given by a rule set, every rule set gives a tag of the pack, names stand once, and each rule set can be taken. */
export function checkPack({ tags, ruleSets }: PackInput): PlacedError[] {
  const given = new Set(ruleSets.map(({ tag }) => tag))
  const declared = new Set(tags.map(({ name }) => name))
  const twice = (names: readonly string[], at: string): PlacedError[] =>
    names.flatMap((name, index) => (names.indexOf(name) < index ? [{ pointer: `${at}/${index}/name`, detail: `another one above is named "${name}" too` }] : []))
  return [
    ...twice(tags.map(({ name }) => name), '/tags'), ...twice(ruleSets.map(({ name }) => name), '/ruleSets'),
    ...tags.flatMap(({ name }, index) => (given.has(name) ? [] : [{ pointer: `/tags/${index}/name`, detail: 'no rule set of the pack gives it' }])),
    ...ruleSets.flatMap((ruleSet, index) => [
      ...(declared.has(ruleSet.tag) ? [] : [{ pointer: `/ruleSets/${index}/tag`, detail: 'is not among the tags of the pack' }]),
      ...checkRuleSet(ruleSet).map(({ pointer, detail }) => ({ pointer: `/ruleSets/${index}${pointer}`, detail })),
    ]),
  ]
}

/** Negative: `a` is older. Numbers are compared one by one; a missing one counts as 0. */
export function packOrder(a: string, b: string): number {
  const [left, right] = [a.split('.').map(Number), b.split('.').map(Number)]
  for (let at = 0; at < Math.max(left.length, right.length); at++) {
    const difference = (left[at] ?? 0) - (right[at] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}
