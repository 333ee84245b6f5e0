// Who uses the device: as an identity provider vouched for it (`verified`), or as the device says, which is for display more than for doors.
import { z } from 'zod'
import type { Fact, Sections } from '../../../protocol/facts.ts'
import { line } from '../../../protocol/text.ts'
import { folded } from '../../user/folded.ts'
import { readUser, userCondition } from '../../user/user-condition.ts'
import { conditionType, type Finding } from '../condition-type.ts'

const schema = z.strictObject({
  verified: z.literal(true).optional(),
  /** Any of them: account or e-mail; of a verified user e-mail or subject. Compared without case, but a subject to the letter: to its issuer two cases are two people. */
  users: z.array(line(256)).min(1).max(256).optional(),
  /** Any of them, as the identity provider says; verified only. */
  groups: z.array(line(256)).min(1).max(64).optional(),
  issuer: line(256).optional(),
  /** The user proved it within so many seconds; verified only. */
  authenticatedWithinSeconds: z.number().int().min(60).max(31_536_000).optional(),
}).superRefine(({ verified, users, groups, issuer, authenticatedWithinSeconds }, context) => {
  const issue = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
  for (const [path, value] of Object.entries({ groups, issuer, authenticatedWithinSeconds })) if (value !== undefined && verified !== true) issue(path, 'needs "verified": true')
  if (verified !== true && users === undefined) issue('users', 'name users, or ask for any that is verified')
})
type Params = z.infer<typeof schema>

function verifiedUser(params: Params, fact: Fact, now: number): Finding {
  const identity = fact.value as Sections['identity']
  // A provider whose clock is ahead can't make it younger than the fact.
  const { value, open, until } = readUser(userCondition(params), identity, now, Math.min(identity.authenticatedAt, fact.at))
  const more = { expired: ', too long ago', groups: ', in groups that are not told', email: '' }
  return { value, seen: `${identity.email ?? identity.subject} by ${identity.issuer}${open === null ? '' : more[open]}`, validUntil: until === Infinity ? null : until, factAt: identity.authenticatedAt }
}
/** An e-mail that is not told may be the one that is asked for. */
const mayBe = (users: readonly string[], email: string | undefined): boolean => email === undefined && users.some((user) => user.includes('@'))
const isOne = (users: readonly string[], own: readonly (string | undefined)[]): boolean => {
  const names = own.flatMap((name) => (name === undefined || name === '' ? [] : [folded(name)]))
  return users.some((user) => names.includes(folded(user)))
}
const short = (all: readonly string[]): string => all.slice(0, 3).map((each) => each.slice(0, 40)).join(', ') + (all.length > 3 ? ` or ${all.length - 3} more` : '')
const wantedOf = ({ verified, users, groups }: Params): string => `${verified === true ? 'a verified user' : 'the user'}${users === undefined ? '' : ` ${short(users)}`}${groups === undefined ? '' : ` in ${short(groups)}`}`.slice(0, 190)

export const userIdentity = conditionType<Params>({
  type: 'user-identity', schema, os: ['linux', 'windows', 'macos'], side: 'ems', section: { by: ({ verified }) => [verified === true ? 'identity' : 'user'] },
  evaluate(params, fact, { now }) {
    if (params.verified === true) return verifiedUser(params, fact, now)
    const { account, email } = fact.value as Sections['user']
    const users = params.users ?? []
    return { value: isOne(users, [account, email]) ? 'true' : mayBe(users, email) ? 'unknown' : 'false', seen: email === undefined ? account : `${account}, ${email}`, validUntil: null }
  },
  wanted: wantedOf,
  missing: ({ verified }) => (verified === true ? 'nobody is signed in' : null),
  mend: (params, negate) => (params.verified === true ? negate ? `Sign in as another than ${wantedOf(params)}, or sign out: agent sign-in, agent sign-out.` : `Sign in as ${wantedOf(params)}: agent sign-in.`
    : negate ? `Log in as another than ${wantedOf(params)}.` : `Log in as ${wantedOf(params)}.`),
})
