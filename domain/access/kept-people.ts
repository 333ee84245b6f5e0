// What a TLS session keeps of its device's user: where the policies of one service ask for that user, and what was read last. Names are slow to look up for every decision.
import type { VerifiedUser } from '../../protocol/identity.ts'
import { readUser, type UserReading } from '../user/user-condition.ts'
import type { Policy } from './policy.ts'
import type { ServicePolicies } from './policy-index.ts'

export interface KeptPeople {
  readonly index: ServicePolicies
  /** Rows of the index in which the user stands. */
  readonly rows: readonly Int32Array[]
  read: { readonly policy: Policy; readonly reading: UserReading } | null
}

/** Looks a user up. Whoever is not told to be one of those that a policy allows is not let in by it, whether another or unknown. */
export function peopleIn(index: ServicePolicies, user: VerifiedUser | undefined): KeptPeople {
  const { byUser, byGroup } = index
  const rows = user === undefined ? [] : [byUser.get(user.subject), byUser.get(user.email?.toLowerCase() ?? ''), ...(user.groups ?? []).map((group) => byGroup.get(group))]
  return { index, rows: rows.filter((each) => each !== undefined), read: null }
}

const nobody: UserReading = { value: 'unknown', open: 'expired', until: Infinity }

/** What a policy's condition is for the user; null: it has none. What is not known is asked anew each time, what is known until it ends. */
export function readPerson(policy: Policy, user: VerifiedUser | undefined, kept: KeptPeople | null, now: number): UserReading | null {
  if (policy.user === null) return null
  if (user === undefined) return nobody
  if (kept?.read?.policy === policy && now < kept.read.reading.until) return kept.read.reading
  const reading = readUser(policy.user, user, now)
  if (kept !== null && reading.value !== 'unknown') kept.read = { policy, reading }
  return reading
}
