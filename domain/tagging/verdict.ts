// The verdict of one condition for one endpoint: a missing fact is unknown, an unsupported system never passes.
import type { Facts, OsType, Sections } from '../../protocol/facts.ts'
import type { CompiledCondition } from './compile.ts'
import type { Verdict } from './condition-type.ts'
import { not, type Timed } from './logic.ts'

/** Before its NOT. A condition that fails on these facts is unknown: it must not take the other conditions of the endpoint with it. */
export function verdictOf(condition: CompiledCondition, os: OsType, facts: Facts, now: number): Verdict {
  const { type, params, key } = condition
  const fact = facts[type.section]
  const rests = { section: type.section, factAt: fact?.at ?? null, provenance: fact?.provenance ?? null }
  if (!type.os.includes(os)) return { value: 'unsupported', seen: `not supported on ${os}`, validUntil: null, ...rests }
  if (fact === undefined) return { value: 'unknown', seen: 'not reported yet', validUntil: null, ...rests }
  if (type.side === 'ems') {
    try {
      return { ...type.evaluate(params, fact, { now, facts }), ...rests }
    } catch (cause) {
      return { value: 'unknown', seen: 'what was reported can not be worked out', validUntil: null, failure: cause instanceof Error ? cause.message : String(cause), ...rests }
    }
  }
  const answer = (fact.value as Sections['verdicts']).answers[key ?? '']
  if (answer === undefined) return { value: 'unknown', seen: 'the agent has not answered yet', validUntil: null, ...rests }
  return { value: answer.value, seen: answer.seen, validUntil: null, ...rests, factAt: answer.at }
}

/** What the logic sees of it: unsupported counts as unknown, negated or not. */
export const truthOf = ({ value, validUntil }: Verdict, negate: boolean): Timed => {
  const truth: Timed = { value: value === 'unsupported' ? 'unknown' : value, validUntil }
  return negate ? not(truth) : truth
}
