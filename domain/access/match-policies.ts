// Finds the policy that decides: first match, implicit deny, and an unknown never opens anything. What report-only policies would have done is told beside it.
import type { Reason } from '../../protocol/decisions.ts'
import type { Policy, DecidingTag, Reading, Subject } from './policy.ts'
import { readPolicy } from './policy.ts'
import { markCandidates, type ServicePolicies } from './policy-index.ts'

/** What a report-only policy would have decided. */
export interface Shadow { readonly policy: string; readonly allowed: boolean; readonly reason: Reason }

export interface Match {
  readonly allowed: boolean
  readonly reason: Reason
  readonly policy: string | null
  readonly tags: readonly DecidingTag[]
  /** ms; Infinity: it can't change by time alone. */
  readonly until: number
  readonly shadow: Shadow | null
}

/** What a policy decides by its reading; null: it is passed over. One that denies does so on the unknown too, because it might match. */
function outcome({ action }: Policy, { value, reason, tags }: Reading): { readonly allowed: boolean; readonly reason: Reason } | null {
  if (action === 'allow') return value === 'true' ? { allowed: true, reason: 'allowed' } : null
  if (value === 'false') return null
  return { allowed: false, reason: value === 'unknown' ? reason : tags.length > 0 ? 'denied-by-tag' : 'denied-by-policy' }
}

/** Why nothing matched: what the first allowing policy lacked that has not run out; the first of all when each has. */
function nearest({ policies, allowing }: ServicePolicies, subject: Subject): Pick<Match, 'reason' | 'policy' | 'tags'> {
  const position = allowing.find((each) => (policies[each]?.until ?? Infinity) > subject.now) ?? allowing[0] ?? -1
  const policy = policies[position]
  if (policy === undefined || subject.record === null) return { reason: 'no-policy-matched', policy: null, tags: [] }
  const { reason, tags } = readPolicy(policy, subject)
  return { reason, policy: policy.name, tags }
}

const nobody: readonly Int32Array[] = []

/** The first enforced policy that matches decides. */
export function matchPolicies(index: ServicePolicies, subject: Subject): Match {
  const marked = markCandidates(index, subject.record, subject.people?.rows ?? nobody, subject.snapshot)
  let until = Infinity
  let shadow: Shadow | null = null
  for (let word = 0; word < marked.length; word++) {
    for (let bits = marked[word] ?? 0; bits !== 0; bits &= bits - 1) {
      const policy = index.policies[word * 32 + 31 - Math.clz32(bits & -bits)]
      if (policy === undefined || (policy.mode === 'report' && shadow !== null)) continue
      const reading = readPolicy(policy, subject)
      const decided = outcome(policy, reading)
      if (policy.mode === 'report') {
        if (decided !== null) shadow = { policy: policy.name, ...decided }
        continue
      }
      until = Math.min(until, reading.until)
      if (decided !== null) return { allowed: decided.allowed, reason: decided.reason, policy: policy.name, tags: reading.tags, until, shadow }
    }
  }
  const { reason, policy, tags } = nearest(index, subject)
  return { allowed: false, reason, policy, tags, until, shadow }
}
