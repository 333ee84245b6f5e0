// An endpoint's tags worked out from its facts: what of it is not yet stored. It writes nothing.
import { assignedStates, endsNext, readAssigned, tagChanges, withAssigned } from '../../domain/tagging/assigned.ts'
import { evaluateEndpoint, type Evaluation, type RuleVerdicts } from '../../domain/tagging/evaluate.ts'
import { readTagChanges, withChange } from '../../domain/tagging/flapping.ts'
import type { Facts, SectionName } from '../../protocol/facts.ts'
import type { TagState } from '../../protocol/rules.ts'
import type { EndpointRow } from '../../schema/endpoint.ts'
import { logEvent } from '../context.ts'
import { standingSince, touchedSince, type HeldRules } from './rules.ts'
import { withoutEnded } from './signed-in.ts'

type Stored = Pick<EndpointRow, 'uid' | 'os' | 'verdicts' | 'tags' | 'assigned' | 'nextDue' | 'tagChanges' | 'fabricUntil' | 'identityBy' | 'identityUntil'>
/** `tagChanges` only where it is not what is stored. */
export type Computed = Pick<EndpointRow, 'rulesRevision' | 'verdicts' | 'tags' | 'nextDue'> & { readonly tagChanges?: string }
export interface WorkedOut {
  readonly evaluation: Evaluation
  /** Tags that are new or not as they were, and tags that are gone. */
  readonly put: readonly TagState[]
  readonly gone: readonly string[]
  /** False: what is stored says the same, so that nothing needs to be written. */
  readonly differs: boolean
  /** What to store; written out when it is asked for. */
  readonly set: Computed
}

/**
 * @param through revision of the rules that the stored verdicts hold for; null: nothing has been worked out yet
 * @param renewed rule sets that are worked out again though nothing that they read has changed
 * @param changed sections whose facts are not those that the stored verdicts were worked out with; `all`: work out everything
 */
export function workOut(given: { endpoint: Stored; held: HeldRules; through: number | null; facts: Facts; changed: readonly SectionName[] | 'all'; renewed?: ReadonlySet<string>; now: number }): WorkedOut {
  const { endpoint, held, through, now } = given
  const facts = withoutEnded(endpoint, given.facts)
  const changed = facts === given.facts || given.changed === 'all' ? given.changed : [...given.changed, 'identity' as const]
  const touched = through === null ? 'all' : touchedSince(held, through)
  const previous = JSON.parse(endpoint.verdicts) as RuleVerdicts
  const [assigned, before] = [readAssigned(endpoint.assigned), JSON.parse(endpoint.tags) as TagState[]]
  const evaluation = evaluateEndpoint({
    rules: held.rules, facts, now, system: endpoint.os, bears: { set: assignedStates(assigned, now), before },
    // Where nobody knows what was edited, nothing from before stands.
    ...(touched === 'all' || through === null ? { changed: 'all', previous: {} } : { changed, touched, ...(given.renewed === undefined ? {} : { renewed: given.renewed }), standing: standingSince(held, through), previous }),
  })
  for (const { ruleSet, detail } of evaluation.failures) logEvent('rule-not-worked-out', { uid: endpoint.uid, ruleSet, detail })
  // No rule drops what is set, and what is set falls due with what rules gave.
  const tags = withAssigned(evaluation.tags, assigned, now)
  const ends = endsNext(assigned, now)
  // Whoever was signed out with the others of a provider stays due until that is written down and told.
  const dues = [ends, evaluation.nextDue, endpoint.fabricUntil, endpoint.identityUntil].filter((at) => at !== null)
  const nextDue = dues.length === 0 ? null : Math.min(...dues)
  const { put, gone } = tagChanges(before, tags)
  // What an administrator's edit changes is not the endpoint's doing.
  const flaps = touched !== 'all' && touched.size === 0 && (gone.length > 0 || put.some(({ tagUid, state }) => before.find((tag) => tag.tagUid === tagUid)?.state !== state))
  return {
    evaluation, put, gone, differs: put.length + gone.length > 0 || nextDue !== endpoint.nextDue || !sameVerdicts(previous, evaluation.verdicts),
    get set() { return { rulesRevision: held.rules.revision, verdicts: JSON.stringify(evaluation.verdicts), tags: JSON.stringify(tags), nextDue, ...(flaps ? { tagChanges: JSON.stringify(withChange(readTagChanges(endpoint.tagChanges), now)) } : {}) } },
  }
}

const sameVerdicts = (a: RuleVerdicts, b: RuleVerdicts) =>
  Object.keys(a).length === Object.keys(b).length && Object.entries(a).every(([id, { value, validUntil, owes, standsUntil }]) => {
    const other = b[id]
    return other?.value === value && other.validUntil === validUntil && other.owes === owes && other.standsUntil === standsUntil
  })
