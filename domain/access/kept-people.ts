// What a TLS session keeps of its device's user: where the policies of one service ask for that user, and what was read last. Names are slow to look up for every decision.
import type { VerifiedUser } from '../../protocol/identity.ts'
import { readUser, type UserReading } from '../user/user-condition.ts'
import type { Policy } from './policy.ts'
import type { ServicePolicies } from './policy-index.ts'

export interface KeptPeople {
  readonly index: ServicePolicies
  /** Rows of the index in which the user stands. */
  readonly rows: readonly Int32Array[]
  /** Of the policy that was read last, where it is known. */
  policy: Policy | null
  reading: UserReading | null
  until: number
}

/** Looks a user up. Whoever is not told to be one of those that a policy allows is not let in by it, whether another or unknown. */
export function peopleIn(index: ServicePolicies, user: VerifiedUser | undefined): KeptPeople {
  const { byUser, byGroup } = index
  const rows = user === undefined ? [] : [byUser.get(user.subject), byUser.get(user.email?.toLowerCase() ?? ''), ...(user.groups ?? []).map((group) => byGroup.get(group))]
  return { index, rows: rows.filter((each) => each !== undefined), policy: null, reading: null, until: -Infinity }
}

const nobody: UserReading = { value: 'unknown', open: 'expired', until: Infinity }

/** What a policy's condition is for the user; null: it has none. What is not known is asked anew each time, what is known until it ends. */
export function readPerson(policy: Policy, user: VerifiedUser | undefined, kept: KeptPeople | null, now: number): UserReading | null {
  if (policy.user === null) return null
  if (user === undefined) return nobody
  if (kept?.policy === policy && kept.reading !== null && now < kept.until) return kept.reading
  const reading = readUser(policy.user, user, now)
  if (kept !== null && reading.value !== 'unknown') {
    kept.policy = policy
    kept.reading = reading
    kept.until = reading.until
  }
  return reading
}
