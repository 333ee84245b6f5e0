// How fresh rules want what agents report: how soon an agent looks again, and what the EMS does when nothing has changed. An idle device costs nothing that no rule demands.
import { reportedName, type ReportedName, type SectionName } from '../../protocol/facts.ts'
import { LEAST_FRESH_SECONDS } from '../../protocol/rules.ts'
import type { RuleVerdicts } from './evaluate.ts'

/** Section → within how many seconds rules want it known: the least that any of them says. */
export type Demands = { readonly [S in ReportedName]?: number }
interface Demanding { readonly sections: readonly SectionName[]; readonly notOlderThanSeconds: number | null }
interface DemandingRuleSet { readonly ruleSet: { readonly id: string }; readonly conditions: readonly Demanding[] }

/** Parts of the time demanded. An agent looks again after LOOK_AFTER of it, LOOK_SPREAD later at most, and confirms; what is asked for anyway takes along what is older than ALONG_AFTER. */
export const LOOK_AFTER = 0.4
export const LOOK_SPREAD = 0.1
export const ALONG_AFTER = 0.25
/** A look that came sooner after the one before is worth no row: an agent decides what it says, not how often rows are written for it. */
const WORTH_AFTER = 0.2
/** A verdict that stands for longer than this part stays as it is, and nobody is told. Less than what is left when an agent confirms in time would wait for the next confirmation, and one lost report would cut sessions. */
const STRETCH_BELOW = 0.65

/** What rules demand of agents: what the EMS learns by itself or from others no agent can confirm. */
export function demandsOf(conditions: Iterable<Demanding>): Demands {
  const least = new Map<ReportedName, number>()
  for (const { sections, notOlderThanSeconds: seconds } of conditions) {
    if (seconds === null) continue
    const wanted = Math.max(LEAST_FRESH_SECONDS, seconds)
    for (const section of sections) {
      const own = reportedName.safeParse(section)
      if (own.success) least.set(own.data, Math.min(least.get(own.data) ?? wanted, wanted))
    }
  }
  return Object.fromEntries([...least].sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** Whether a look (ms) makes a section, last known at `knownAt`, so much fresher that it is written down. */
export const isWorthARow = (knownAt: number, lookedAt: number, seconds: number): boolean => lookedAt - knownAt >= seconds * 1000 * WORTH_AFTER

/**
 * Rule sets whose verdict a renewal of some sections has to move on: it falls due within part of the time that they demand, or nobody knows.
 * One that stands whatever becomes of those sections, and one that has time, stays as it is.
 * @param stored verdicts before
 */
export function toMoveOn(ruleSets: readonly DemandingRuleSet[], renewed: ReadonlySet<SectionName>, stored: RuleVerdicts, now: number): Set<string> {
  const moving = ruleSets.filter(({ ruleSet: { id }, conditions }) => {
    const demanded = conditions.flatMap(({ sections, notOlderThanSeconds: seconds }) => (seconds === null || !sections.some((section) => renewed.has(section)) ? [] : [seconds]))
    const before = stored[id]
    if (demanded.length === 0 || before === undefined) return false
    return before.value === 'unknown' || (before.validUntil !== null && before.validUntil - now < Math.min(...demanded) * 1000 * STRETCH_BELOW)
  })
  return new Set(moving.map(({ ruleSet: { id } }) => id))
}
