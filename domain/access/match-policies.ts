// Finds the policy that decides, with three-valued tags: first match, implicit deny, and an unknown tag never opens anything.
import type { Reason } from '../../protocol/decisions.ts'
import { tagPresence, type EndpointRecord, type TagPresence } from './endpoint-record.ts'
import type { Policy } from './policies.ts'
import type { Snapshot } from './snapshot.ts'

/** A tag that decided, by the name that policies use; no UID when the EMS has never told of it. */
export interface DecidingTag { readonly uid: string | null; readonly name: string; readonly state: TagPresence }

interface Match { readonly allowed: boolean; readonly reason: Reason; readonly policy: string | null; readonly tags: readonly DecidingTag[]; readonly validUntil: number | null }

/** Reads tags by name and remembers the earliest instant at which any that was read could change by itself. */
function tagReader(record: EndpointRecord, snapshot: Snapshot, now: number) {
  let validUntil: number | null = null
  const until = (instant: number | null | undefined) => {
    // An instant that has passed changed what it could: it must not call for a recheck for ever.
    if (instant !== null && instant !== undefined && instant > now) validUntil = Math.min(validUntil ?? instant, instant)
  }
  const read = (name: string): DecidingTag => {
    const uids = snapshot.tagsByName.get(name) ?? []
    // A name that the EMS never told may be misspelt: were it absent, `none` would let everybody in.
    if (uids.length === 0) return { uid: null, name, state: 'unknown' }
    const states = uids.map((uid) => ({ uid, name, state: tagPresence(record, uid, now) }))
    for (const { uid, state } of states) until(state === 'unknown' ? record.unknownUntil : record.tags.get(uid)?.validUntil)
    const found = states.find(({ state }) => state === 'present') ?? states.find(({ state }) => state === 'unknown') ?? states[0]
    return found ?? { uid: null, name, state: 'unknown' }
  }
  return { read, validUntil: () => validUntil }
}

interface Read { readonly value: 'true' | 'false' | 'unknown'; readonly reason: Reason; readonly tags: readonly DecidingTag[] }

function evaluate({ all, any, none }: Policy, read: (name: string) => DecidingTag): Read {
  const [required, alternatives, forbidden] = [all.map(read), any.map(read), none.map(read)]
  const is = (state: TagPresence) => (tag: DecidingTag) => tag.state === state
  const present = forbidden.filter(is('present'))
  if (present.length > 0) return { value: 'false', reason: 'denied-by-tag', tags: present }
  const missing = required.filter(is('absent'))
  if (missing.length > 0) return { value: 'false', reason: 'tag-missing', tags: missing }
  const chosen = alternatives.filter(is('present'))
  if (alternatives.length > 0 && alternatives.every(is('absent'))) return { value: 'false', reason: 'tag-missing', tags: alternatives }
  const unknown = [...required, ...forbidden, ...(chosen.length > 0 ? [] : alternatives)].filter(is('unknown'))
  if (unknown.length > 0) return { value: 'unknown', reason: 'tag-unknown', tags: unknown }
  return { value: 'true', reason: 'allowed', tags: [...required, ...chosen, ...forbidden] }
}

/**
 * The first policy that matches decides. An allowing policy that hangs on an unknown tag is passed over; a denying one denies,
 * because it might match. When none matches, the reason is what the first allowing policy lacked.
 */
export function matchPolicies({ record, snapshot, policies, now }: { record: EndpointRecord; snapshot: Snapshot; policies: readonly Policy[]; now: number }): Match {
  const { read, validUntil } = tagReader(record, snapshot, now)
  let nearest: Match | null = null
  for (const policy of policies) {
    const { value, reason, tags } = evaluate(policy, read)
    const refusal = (why: Reason): Match => ({ allowed: false, reason: why, policy: policy.name, tags, validUntil: validUntil() })
    if (policy.action === 'allow') {
      if (value === 'true') return { allowed: true, reason: 'allowed', policy: policy.name, tags, validUntil: validUntil() }
      nearest ??= refusal(reason)
    } else if (value !== 'false') {
      return refusal(value === 'unknown' ? 'tag-unknown' : tags.length > 0 ? 'denied-by-tag' : 'denied-by-policy')
    }
  }
  return nearest ?? { allowed: false, reason: 'no-policy-matched', policy: null, tags: [], validUntil: validUntil() }
}
