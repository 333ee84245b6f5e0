// What the agent's commands say to people. Machines get JSON; nothing here is parsed by anybody.
import type { Decision } from '../protocol/decisions.ts'
import type { VerifiedUser } from '../protocol/identity.ts'
import type { TagExplanation } from '../protocol/rules.ts'
import { unprintable } from '../protocol/text.ts'
import type { AgentStatus, Explanation } from './local-status.ts'
import { signInHint } from './tunnel/denial.ts'

const MINUTE = 60_000
const ago = (at: number | null, now: number): string => {
  if (at === null) return 'never'
  const minutes = Math.floor(Math.max(0, now - at) / MINUTE)
  return minutes === 0 ? 'just now' : minutes < 120 ? `${minutes} min ago` : minutes < 2 * 1440 ? `${Math.floor(minutes / 60)} h ago` : `${Math.floor(minutes / 1440)} days ago`
}
const column = (name: string, value: string) => `${name.padEnd(12)} ${value}`
const unprintables = new RegExp(unprintable, 'gu')
/** Much of what is shown was said by others (names of files, processes and rules): none of it may speak to the terminal. */
const page = (lines: readonly string[]): string => lines.map((each) => each.replaceAll(unprintables, '\uFFFD')).join('\n')

const SHOWN = 12
const listed = (names: readonly string[]): string => (names.length > SHOWN ? `${names.slice(0, SHOWN).join(', ')} and ${names.length - SHOWN} more` : names.join(', '))
function describeTransparent(transparent: AgentStatus['transparent']): string[] {
  if (transparent === null) return []
  const { asked, served, lacking } = transparent
  return [column('transparent', asked ? listed(served) || 'nothing' : 'off (agent run --transparent, or the profile)'), ...lacking.map((each) => column('', `not ${each}`))]
}

/** Who is signed in, by whom, since when and until when. */
const describeSignedIn = ({ provider, user }: { provider: string; user: VerifiedUser }): string => {
  const name = user.email ?? user.subject
  return page([`${name}${user.name === undefined || user.name === '' || user.name === name ? '' : ` (${user.name})`} by ${provider}, since ${new Date(user.authenticatedAt).toISOString()}, ${user.expiresAt === null ? 'until you sign out' : `until ${new Date(user.expiresAt).toISOString()}`}`])
}
/** What a sign-in has come to. Nobody should learn of a missing address by a refusal. */
export const describeSignIn = (told: { provider: string; user: VerifiedUser }): string =>
  `Signed in as ${describeSignedIn(told)}.${told.user.email === undefined ? '\nThe provider told no e-mail address, or none that it has verified: what asks for one stays closed.' : ''}`
/** What policies ask for beside the name: a provider that does not tell it opens nothing to whoever is signed in. */
const describeTold = ({ email, groups }: VerifiedUser): string =>
  `${email === undefined ? 'no e-mail address that counts; ' : ''}${groups === undefined ? 'the provider tells no groups' : `groups: ${listed(groups) || 'none'}`}`
function signedInNow(identity: AgentStatus['identity']): string[] {
  switch (identity.state) {
    case 'somebody': return [column('signed in', describeSignedIn(identity)), column('', describeTold(identity.user))]
    case 'nobody': return [column('signed in', 'nobody is signed in (agent sign-in)')]
    default: return [column('signed in', 'not known: the EMS does not answer')]
  }
}

/** @param now ms */
export function describeStatus(status: AgentStatus, now: number): string {
  const { tunnel, profile, licence, tags, denials, troubles } = status
  const bySignIn = (tags ?? []).flatMap(({ tag, needsSignIn }) => (needsSignIn === true ? [tag] : []))
  return page([
    column('machine', `${status.uid}, managed by ${status.ems}`),
    ...signedInNow(status.identity),
    column('profile', profile === null ? 'none has been assigned' : `${profile.name}, by the policy "${profile.policy}"`),
    column('licence', licence === null ? 'not told' : licence.state),
    column('channel', status.channel),
    column('last report', ago(status.lastReportAt, now)),
    column('certificate', `until ${new Date(status.certificate.notAfter).toISOString()}`),
    ...(Math.abs(status.clockOffsetMs) < MINUTE ? [] : [column('clock', `this machine's is ${Math.round(Math.abs(status.clockOffsetMs) / MINUTE)} min ${status.clockOffsetMs > 0 ? 'behind' : 'ahead'}; the EMS's is used`)]),
    column('proxy', tunnel.running ? `HTTP 127.0.0.1:${tunnel.httpPort}, SOCKS5 127.0.0.1:${tunnel.socksPort}` : `not running: ${tunnel.reason}`),
    ...(status.pacUrl === null ? [] : [column('pac file', status.pacUrl)]),
    ...describeTransparent(status.transparent),
    column('tags', tags === null ? 'not known: the EMS does not answer' : tags.filter(({ state }) => state === 'present').map(({ tag }) => tag).join(', ') || 'none'),
    ...(tags ?? []).filter(({ state }) => state !== 'present').map(({ tag, state, needsSignIn }) => column('', `${tag}: ${state} (${needsSignIn === true ? 'agent sign-in; ' : ''}agent explain "${tag}")`)),
    ...denials.slice(0, 5).flatMap((denial) => [column('refused', `${denial.destination}, ${ago(denial.at, now)}: ${denial.message}`), ...[signInHint(denial, bySignIn)].flatMap((hint) => (hint === null ? [] : [column('', hint)])), ...(denial.decision === null ? [] : [column('', `agent explain ${denial.decision}`)])]),
    ...troubles.map(({ sentence, since }) => column('trouble', `${sentence} (since ${ago(since, now)})`)),
  ])
}

/** What the gateway said in words, where this agent was told, and what the person can do. */
function described(denial: Explanation['denial'], reason: string): string[] {
  const hint = signInHint({ reason, message: denial?.message ?? '', tags: [] })
  return [...(denial === null ? [] : [`  ${denial.message}`]), ...(hint === null ? [] : [`  ${hint}`])]
}

const describeDecision = (decision: Decision, denial: Explanation['denial'], now: number): string[] => [
  `${decision.allowed ? 'Allowed' : decision.event === 'recheck' ? 'Cut' : 'Refused'}: ${decision.destination} (${decision.code} ${decision.reason}), ${ago(decision.at, now)}`,
  ...(decision.allowed ? [] : described(denial, decision.reason)),
  ...(decision.policy === null ? [] : [`  by the policy "${decision.policy}" for the service "${decision.service ?? ''}"`]),
  ...(decision.user === undefined ? [] : [`  signed in was ${decision.user.name}`]),
  ...decision.tags.map(({ name, state }) => `  tag "${name}" was ${state}`),
]

function describeTag({ tag, state, validUntil, ruleSets, assigned, outbreak: bad }: TagExplanation, now: number): string[] {
  const outbreak = bad === true
  return [
    `Tag "${tag}": ${state}`,
    ...(assigned === undefined ? [] : [state === 'present' ? `  set by your administrators, ${validUntil === null ? 'until they clear it' : `until ${new Date(validUntil).toISOString()}`}` : '  only your administrators set it']),
    ...ruleSets.flatMap((ruleSet) => [
      `  rule set "${ruleSet.name}": ${ruleSet.value}${ruleSet.message === '' || (outbreak && ruleSet.value === 'false') ? '' : `. ${ruleSet.message}`}`,
      ...ruleSet.conditions.flatMap((condition) => {
        const holds = condition.value === (condition.negate ? 'false' : 'true')
        return [
          `    ${holds ? '✓' : '✗'} wanted: ${condition.wanted}`,
          `      seen:   ${condition.seen} (${condition.factAt === null ? 'not reported' : `${condition.provenance ?? 'not known how'}, ${ago(condition.factAt, now)}`})`,
          // Of an outbreak, what holds is what is to be mended; what nobody knows is to be mended in any case.
          ...(condition.value === (condition.negate === outbreak ? 'true' : 'false') ? [] : [`      mend:   ${condition.mend}${condition.section !== 'identity' || condition.mend.includes('agent sign-in') ? '' : ' (agent sign-in)'}`]),
        ]
      }),
    ]),
  ]
}

/** @param now ms */
export function describeExplanation({ denial, decision, tags }: Explanation, now: number): string {
  const refused = decision === null && denial !== null ? [`Refused: ${denial.destination} (${denial.code} ${denial.reason}), ${ago(denial.at, now)}`, ...described(denial, denial.reason)] : []
  return page([...(decision === null ? refused : describeDecision(decision, denial, now)), ...tags.flatMap((tag) => describeTag(tag, now))])
}
