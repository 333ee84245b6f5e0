// What all rule sets together may come to: beyond it agents would not be asked everything, and no report could be worked out.
import { asksAgents, tooMuchAsked } from '../../domain/tagging/agent-rules.ts'
import type { PlacedError } from '../../domain/tagging/rule-set.ts'
import { osType } from '../../protocol/facts.ts'
import type { RuleSetInput } from '../../protocol/rules.ts'
import { ruleSets } from '../../schema/rules.ts'
import type { Context } from '../context.ts'
import { readRuleSet } from './rules.ts'

/** Every isolate holds them all. */
export const MOST_RULE_SETS = 2_000

/**
 * Why these can't be taken beside those that are stored, each with its place; an empty list: they can.
 * @param without ids of those that they replace
 */
export async function beyondLimits({ db }: Pick<Context, 'db'>, added: readonly { readonly input: RuleSetInput; readonly pointer: string }[], without: readonly string[]): Promise<PlacedError[]> {
  const asking = osType.options.filter((os) => added.some(({ input }) => asksAgents(os, input)))
  if (asking.length === 0) {
    const others = await db.$count(ruleSets) - without.length
    return others + added.length > MOST_RULE_SETS ? [tooMany] : []
  }
  const others = (await db.select().from(ruleSets)).filter(({ id }) => !without.includes(id)).map(readRuleSet)
  if (others.length + added.length > MOST_RULE_SETS) return [tooMany]
  return asking.flatMap((os): PlacedError[] => {
    const detail = tooMuchAsked(os, [...others, ...added.map(({ input }) => input)])
    const pointer = added.find(({ input }) => asksAgents(os, input))?.pointer ?? ''
    return detail === null ? [] : [{ pointer: `${pointer}/rules/${os}/conditions`, detail }]
  })
}
const tooMany: PlacedError = { pointer: '', detail: `there would be more than ${MOST_RULE_SETS} rule sets` }
