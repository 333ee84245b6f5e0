// An endpoint as lines for people. Long lists of facts are cut: JSON has them whole.
import { verifiedUser } from '../protocol/identity.ts'
import type { listEndpoints, readEndpoint } from '../protocol/operations/admin.ts'
import type { Reply } from '../protocol/operation.ts'
import type { TagState } from '../protocol/rules.ts'
import { toYaml } from './definitions.ts'
import { ago, at, atAndAgo } from './instants.ts'
import { fields } from './printer.ts'

type Summary = Reply<typeof listEndpoints>['items'][number]
const MOST = 12

export const stateOf = ({ registered, online, flappingSince }: Pick<Summary, 'registered' | 'online' | 'flappingSince'>): string =>
  `${registered ? online ? 'online' : 'offline' : 'deregistered'}${flappingSince === null ? '' : ', flapping'}`

/** Names where they are known; `?` marks an unknown tag, which opens nothing. */
export const tagNames = (tags: readonly TagState[], names: ReadonlyMap<string, string>): string[] => tags.map(({ tagUid, state }) => `${names.get(tagUid) ?? tagUid}${state === 'unknown' ? '?' : ''}`)

function shortened(value: unknown): unknown {
  if (Array.isArray(value)) return [...value.slice(0, MOST).map(shortened), ...(value.length > MOST ? [`… ${value.length - MOST} more; --json has all`] : [])]
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, shortened(each)]))
}

/** Whom an identity provider vouched for: another thing than the user that the device names. */
function signedInOf({ signedInBy, facts }: Pick<Reply<typeof readEndpoint>, 'signedInBy' | 'facts'>, now: number): string {
  const read = verifiedUser.safeParse(facts.identity?.value)
  if (signedInBy === null || !read.success) return 'nobody'
  const { email, subject, name, authenticatedAt, expiresAt } = read.data
  const who = `${email ?? subject}${name === undefined || name === '' ? '' : ` (${name})`} by ${signedInBy}`
  return expiresAt !== null && expiresAt <= now ? `nobody; ${who} was, until ${atAndAgo(expiresAt, now)}` : `${who}, since ${atAndAgo(authenticatedAt, now)}, until ${expiresAt === null ? 'signed out' : at(expiresAt)}`
}

/** @param now ms */
export function describeEndpoint(endpoint: Reply<typeof readEndpoint>, names: ReadonlyMap<string, string>, now: number): string[] {
  const { tags, certificates, facts } = endpoint
  return [
    endpoint.hostName,
    ...fields([
      ['uid', endpoint.uid], ['state', stateOf(endpoint)], ['system', endpoint.os], ['agent', endpoint.agentVersion], ['user', endpoint.account || 'not reported'], ['signed in', signedInOf(endpoint, now)], ['group', endpoint.group || 'none'], ['ownership', endpoint.ownership ?? 'not said'], ['on-fabric', endpoint.onFabric ? 'yes' : 'no'],
      ['enrolled', atAndAgo(endpoint.enrolledAt, now)], ['last report', ago(endpoint.lastReportAt, now)],
      ['tags', tagNames(tags, names).join(', ') || 'none'],
      ...(endpoint.flappingSince === null ? [] : [['flapping', `since ${atAndAgo(endpoint.flappingSince, now)}: its tags changed more than 6 times in 10 minutes; ends after 10 quiet ones`] as const]),
    ]),
    '', 'certificates',
    ...(certificates.length === 0 ? ['  none'] : certificates.map(({ serial, purpose, user, notAfter }) => `  ${serial}  ${purpose}${user === '' ? '' : ` of ${user}`}, until ${at(notAfter)}`)),
    ...Object.entries(facts).flatMap(([section, fact]) => ['', `${section}, ${fact.provenance}, ${ago(fact.at, now)}`, ...toYaml(shortened(fact.value)).map((line) => `  ${line}`)]),
  ]
}
