// Decisions and tags explained, as lines: what was wanted, what was seen, how old that is, how it is known, how to mend it.
import type { Decision, DecisionExplanation } from '../protocol/decisions.ts'
import type { ConditionExplanation, TagExplanation } from '../protocol/rules.ts'
import { ago, at, atAndAgo } from './instants.ts'
import { fields } from './printer.ts'
import { reasonTexts } from './reasons.ts'

/** @param now ms */
export function describeDecision({ decision, tags }: DecisionExplanation, now: number): string[] {
  return [...decisionLines(decision, now), ...tagsThen(decision, tags), ...tags.flatMap((tag) => ['', ...describeTag(tag, now)])]
}

function decisionLines(decision: Decision, now: number): string[] {
  const { means, mend } = reasonTexts[decision.reason]
  const outcome = decision.allowed ? 'Allowed' : decision.event === 'recheck' ? 'Cut' : 'Refused'
  return [
    `${outcome}: ${decision.destination || 'no destination'} (${decision.protocol}), ${atAndAgo(decision.at, now)}`,
    ...fields([
      ['why', `${decision.code} ${decision.reason}: ${means}`],
      ...(mend === null ? [] : [['mend', mend] as const]),
      ['endpoint', decision.uid ?? 'not known'],
      ['certificate', decision.certificateSerial ?? 'none'],
      ['service', decision.service ?? 'none is declared'],
      ['policy', decision.policy ?? 'none matched'],
      ['gateway', decision.gateway],
      ['source', decision.source],
      ['known then', decision.snapshotAgeMs === null ? 'nothing: the EMS had never been heard' : `revision ${decision.revision}, confirmed ${(decision.snapshotAgeMs / 1000).toFixed(1)} s before`],
      ...(decision.validUntil === null ? [] : [['valid until', at(decision.validUntil)] as const]),
      ...(decision.shadow === undefined ? [] : [['report-only', `the policy "${decision.shadow.policy}" would have ${decision.shadow.allowed ? 'allowed' : 'refused'} it: ${decision.shadow.code} ${decision.shadow.reason}`] as const]),
      ...(decision.session === null ? [] : [['let in by', decision.session] as const]),
    ]),
  ]
}

/** How the tags stood at that moment; said also where it is otherwise now, since that is why asking again may end otherwise. */
const tagsThen = ({ tags }: Decision, explained: readonly TagExplanation[]): string[] => tags.map(({ uid, name, state }) => {
  const now = explained.find(({ tagUid }) => tagUid === uid)?.state
  return `  tag "${name}" was ${state} then${now === undefined ? '; no enabled rule set gives it now' : now === state ? '' : `, is ${now} now`}`
})

/** @param now ms */
export function describeTag({ tag, state, validUntil, ruleSets }: TagExplanation, now: number): string[] {
  return [
    `Tag "${tag}" is ${state}${validUntil === null ? '' : ` until ${at(validUntil)} at most, without a new report`}`,
    ...ruleSets.flatMap((ruleSet) => [
      `  rule set "${ruleSet.name}" is ${ruleSet.value}${ruleSet.conditions.length < 2 ? '' : `, by ${ruleSet.logic}`}${ruleSet.message === '' ? '' : `: ${ruleSet.message}`}`,
      ...ruleSet.conditions.flatMap((condition, index) => describeCondition(condition, index + 1, now)),
    ]),
  ]
}

function describeCondition({ type, negate, value, wanted, seen, section, factAt, provenance, mend }: ConditionExplanation, number: number, now: number): string[] {
  const holds = value === (negate ? 'false' : 'true')
  const known = factAt === null ? 'nothing reported' : `${provenance ?? 'not known how'}, ${ago(factAt, now)}`
  return [
    `    ${holds ? '✓' : value === 'unknown' || value === 'unsupported' ? '?' : '✗'} ${number} ${type}`,
    `        wanted  ${wanted}`,
    `        seen    ${seen} (${section}: ${known})`,
    ...(holds ? [] : [`        mend    ${mend}`]),
  ]
}
