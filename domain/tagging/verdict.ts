// The verdict of one condition for one endpoint: a missing fact is unknown, an unsupported system never passes, and so is what is not known as the rule demands.
import { emsSections, type Fact, type Facts, type OsType, type SectionName } from '../../protocol/facts.ts'
import type { CompiledCondition } from './compile.ts'
import type { Finding, TagsNow, Verdict } from './condition-type.ts'
import { not, type Timed } from './logic.ts'

/** Where nothing is known of tags. */
export const noTags: TagsNow = () => ({ value: 'unknown', validUntil: null })

/** Before its NOT. A condition that fails on these facts is unknown: it must not take the other conditions of the endpoint with it. */
export function verdictOf(condition: CompiledCondition, os: OsType, facts: Facts, now: number, tags: TagsNow = noTags): Verdict {
  const { type, sections } = condition
  const read = sections.flatMap((section) => facts[section] ?? [])
  const rests = {
    section: sections.find((section) => facts[section] === undefined) ?? sections[0] ?? 'tags' as const,
    factAt: read.length === 0 ? null : Math.min(...read.map(({ at }) => at)), provenance: read.length === 0 ? null : read.every(({ provenance }) => provenance === 'proved') ? 'proved' as const : 'claimed' as const,
  }
  if (!type.os.includes(os)) return { value: 'unsupported', seen: `not supported on ${os}`, validUntil: null, ...rests }
  if (read.length < sections.length) return { value: 'unknown', seen: missingOf(condition) ?? (rests.section in emsSections ? 'nobody has said anything of it yet' : 'not reported yet'), validUntil: null, ...rests }
  try {
    return demanded(condition, { ...rests, ...findingOf(condition, facts, now, tags) }, read, now)
  } catch (cause) {
    return { value: 'unknown', seen: 'what was reported can not be worked out', validUntil: null, failure: cause instanceof Error ? cause.message : String(cause), ...rests }
  }
}

const missingOf = ({ type, params }: CompiledCondition): string | null => (type.side === 'ems' ? type.missing?.(params) ?? null : null)

function findingOf({ type, params, key, sections }: CompiledCondition, facts: Facts, now: number, tags: TagsNow): Finding {
  switch (type.side) {
    case 'ems': return type.evaluate(params, facts[sections[0] as SectionName] as Fact, { now, facts })
    case 'tags': return type.evaluate(params, tags)
    case 'agent': {
      const answer = facts.verdicts?.value.answers[key ?? '']
      return answer === undefined ? { value: 'unknown', seen: 'the agent has not answered yet', validUntil: null } : { value: answer.value, seen: answer.seen, validUntil: null, factAt: answer.at }
    }
  }
}

/** What every condition may demand of its fact. An answer's own date is the agent's word: its age counts from when the EMS took it. */
function demanded({ type, proved, notOlderThanSeconds }: CompiledCondition, verdict: Verdict, read: readonly Fact[], now: number): Verdict {
  if (proved && verdict.provenance !== 'proved') {
    return { ...verdict, value: 'unknown', seen: `${verdict.seen}, claimed and not proved`, validUntil: null, unmet: 'What a device says of itself proves nothing; this rule wants it from the EMS, an identity provider or another system.' }
  }
  if (notOlderThanSeconds === null) return verdict
  const at = type.side === 'agent' ? Math.min(...read.map((fact) => fact.at)) : verdict.factAt
  const ends = at === null ? null : Math.min(at, now) + notOlderThanSeconds * 1000
  if (ends !== null && ends > now) return { ...verdict, validUntil: Math.min(verdict.validUntil ?? ends, ends) }
  return { ...verdict, value: 'unknown', seen: `${verdict.seen}, known longer than ${notOlderThanSeconds} s ago`, validUntil: null, unmet: 'Have it looked at or told anew.' }
}

/** What the logic sees of it: unsupported counts as unknown, negated or not. */
export const truthOf = ({ value, validUntil }: Pick<Finding, 'value' | 'validUntil'>, negate: boolean): Timed => {
  const truth: Timed = { value: value === 'unsupported' ? 'unknown' : value, validUntil }
  return negate ? not(truth) : truth
}
