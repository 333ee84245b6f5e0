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
      ...(mend === null ? [] : [['mend', decision.uid === null ? mend : mend.replace('UID', decision.uid)] as const]),
      ['endpoint', decision.uid ?? 'not known'],
      ['certificate', decision.certificateSerial ?? 'none'],
      ...(decision.user === undefined ? [] : [['user', `${decision.user.name}, by ${decision.user.issuer}`] as const]),
      ['service', decision.service ?? 'none is declared'],
      ['policy', decision.policy ?? 'none matched'],
      ['gateway', decision.gateway],
      ['source', decision.country === undefined ? decision.source : `${decision.source}, ${decision.country}`],
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
export function describeTag({ tag, state, validUntil, ruleSets, assigned, shadow, outbreak: bad }: TagExplanation, now: number): string[] {
  const outbreak = bad === true
  return [
    `Tag "${tag}" is ${state}${validUntil === null ? '' : ` until ${at(validUntil)}${assigned === undefined ? ' at most, without a new report' : ''}`}`,
    ...(shadow === undefined ? [] : [`  shadow: would be ${shadow} if its report-only rule sets were enforced`]),
    ...whoSet(assigned, ruleSets.length, now),
    ...ruleSets.flatMap((ruleSet) => [
      `  ${ruleSet.shadow === true ? 'report-only ' : ''}rule set "${ruleSet.name}" is ${ruleSet.value}${ruleSet.standsUntil === undefined ? '' : `, as before the rules were edited, until ${at(ruleSet.standsUntil)} or the agent's answer`}${ruleSet.conditions.length < 2 ? '' : `, by ${ruleSet.logic}`}${ruleSet.message === '' || (outbreak && ruleSet.value === 'false') ? '' : `: ${ruleSet.message}`}`,
      ...ruleSet.conditions.flatMap((condition, index) => describeCondition(condition, index + 1, outbreak, now)),
    ]),
  ]
}

/** Of a tag that is set. What has ended is said as well: it is why the tag is gone. */
function whoSet(assigned: TagExplanation['assigned'], givenBy: number, now: number): string[] {
  if (assigned === undefined) return givenBy === 0 ? ['  only rules give it, and no enabled rule set does'] : []
  if (assigned.length === 0) return ['  it is set by people or automation, not by rules, and nobody has set it here: cli tags set']
  return assigned.map(({ source, reason, at: since, until }) => {
    const end = until === null ? ', until it is cleared' : until > now ? `, until ${atAndAgo(until, now)}` : `; that ended ${atAndAgo(until, now)}`
    return `  set by ${source} on ${atAndAgo(since, now)}${reason === '' ? '' : ` because: ${reason}`}${end}`
  })
}

/** What nobody knows is never so already. */
const isMended = (value: ConditionExplanation['value'], negate: boolean, outbreak: boolean): boolean => value === (negate === outbreak ? 'true' : 'false')

function describeCondition({ type, negate, value, wanted, seen, section, factAt, provenance, mend }: ConditionExplanation, number: number, outbreak: boolean, now: number): string[] {
  const holds = value === (negate ? 'false' : 'true')
  const known = factAt === null ? 'nothing reported' : `${provenance ?? 'not known how'}, ${ago(factAt, now)}`
  return [
    `    ${holds ? '✓' : value === 'unknown' || value === 'unsupported' ? '?' : '✗'} ${number} ${type}`,
    `        wanted  ${wanted}`,
    `        seen    ${seen} (${section}: ${known})`,
    ...(isMended(value, negate, outbreak) ? [] : [`        mend    ${mend}`]),
  ]
}
