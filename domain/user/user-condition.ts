// Whether the user whom an identity provider vouched for is one who is asked for, and until when that stands. What a device says of its user has no say here.
import type { VerifiedUser } from '../../protocol/identity.ts'
import { folded } from './folded.ts'

/** What is asked of a verified user; what is null is not asked. */
export interface UserCondition {
  /** Any of them, as written: a subject is compared to the letter, because to its issuer two cases are two people. What has an `@` is an e-mail. */
  readonly users: ReadonlySet<string> | null
  /** The same, folded: an e-mail is compared without case. */
  readonly emails: ReadonlySet<string>
  /** Any of them, to the letter. */
  readonly groups: ReadonlySet<string> | null
  readonly issuer: string | null
  /** ms since the person proved it. */
  readonly withinMs: number | null
}

interface Written { readonly users?: readonly string[] | undefined; readonly groups?: readonly string[] | undefined; readonly issuer?: string | undefined; readonly authenticatedWithinSeconds?: number | undefined }
export const userCondition = ({ users, groups, issuer, authenticatedWithinSeconds: seconds }: Written): UserCondition => ({
  users: users === undefined ? null : new Set(users), emails: new Set(users?.map(folded)), groups: groups === undefined ? null : new Set(groups),
  issuer: issuer ?? null, withinMs: seconds === undefined ? null : seconds * 1000,
})

/** `open`: what is not known, when the value is unknown. `until`: ms, when it could change without news; Infinity: never. */
export interface UserReading { readonly value: 'true' | 'false' | 'unknown'; readonly open: 'expired' | 'email' | 'groups' | null; readonly until: number }

/** A proof that lies further ahead of us was dated by another clock, and how old it is can't be told. */
const MAX_AHEAD_MS = 60_000

/** Whether what was vouched for counts no more. */
export const hasExpired = ({ expiresAt }: VerifiedUser, now: number): boolean => expiresAt !== null && now >= expiresAt

function isNamed({ users, emails }: UserCondition, { subject, email }: VerifiedUser): UserReading['value'] {
  if (users === null || (email !== undefined && emails.has(folded(email)))) return 'true'
  // Some providers let people choose their subject: one that reads like an e-mail, which nobody verified, is not certainly the person whose it is.
  if (users.has(subject)) return subject.includes('@') ? 'unknown' : 'true'
  // An e-mail that is not told may be the one that is asked for.
  return email === undefined && [...users].some((user) => user.includes('@')) ? 'unknown' : 'false'
}

function isMember(groups: ReadonlySet<string>, own: readonly string[]): boolean {
  for (const group of own) if (groups.has(group)) return true
  return false
}

/**
 * Holds a condition against a verified user. What is false is so whatever else is not known; an expired one says nothing about who is there now.
 * @param now ms
 * @param provedAt ms, where that is known better than by the provider's word
 */
export function readUser(condition: UserCondition, user: VerifiedUser, now: number, provedAt = user.authenticatedAt): UserReading {
  const { groups, issuer, withinMs } = condition
  const until = Math.min(user.expiresAt ?? Infinity, withinMs === null ? Infinity : provedAt + withinMs)
  if (now >= until || (withinMs !== null && provedAt > now + MAX_AHEAD_MS)) return { value: 'unknown', open: 'expired', until: Infinity }
  const named = isNamed(condition, user)
  if (named === 'false' || (issuer !== null && issuer !== user.issuer)) return { value: 'false', open: null, until }
  if (groups !== null && user.groups !== undefined && !isMember(groups, user.groups)) return { value: 'false', open: null, until }
  if (named === 'unknown') return { value: 'unknown', open: 'email', until }
  return groups !== null && user.groups === undefined ? { value: 'unknown', open: 'groups', until } : { value: 'true', open: null, until }
}
