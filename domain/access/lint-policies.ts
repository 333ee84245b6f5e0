// What is allowed in a policy file and still is likely a mistake: rules that never decide, rules without posture, tags that nobody has. A sentence each.
import type { UserCondition } from '../user/user-condition.ts'
import type { Policies } from './policies.ts'
import type { Policy } from './policy.ts'
import type { Service } from './service.ts'
import type { SshService } from './ssh-service.ts'

const within = (some: readonly string[], all: readonly string[]): boolean => some.every((each) => all.includes(each))

const inside = (some: ReadonlySet<string> | null, all: ReadonlySet<string> | null): boolean => all === null || (some !== null && [...some].every((each) => all.has(each)))
const asksMore = (some: UserCondition, all: UserCondition): boolean => inside(some.users, all.users) && inside(some.groups, all.groups)
  && (all.issuer === null || all.issuer === some.issuer) && (all.withinMs === null || (some.withinMs !== null && some.withinMs <= all.withinMs))

/** Whether the user is always one for `earlier` who is one for `later`. One that denies matches whom nobody vouched for as well, and so must the earlier one. */
function coversUsers(earlier: Policy, later: Policy): boolean {
  if (earlier.user === null) return true
  if (later.user === null || !asksMore(later.user, earlier.user)) return false
  return later.action === 'allow' || (earlier.action === 'deny' && asksMore(earlier.user, later.user))
}

/** Whether `earlier` matches whenever `later` does. */
function covers(earlier: Policy, later: Policy): boolean {
  const met = { any: earlier.any.length === 0 || earlier.any.some((name) => later.all.includes(name)) || (later.any.length > 0 && within(later.any, earlier.any)) }
  const { ownership, onFabric, online } = earlier.device
  return within(earlier.all, later.all) && within(earlier.none, later.none) && met.any && coversUsers(earlier, later)
    && (ownership === undefined || (later.device.ownership !== undefined && within(later.device.ownership, ownership)))
    && (onFabric === undefined || onFabric === later.device.onFabric) && (online === undefined || online === later.device.online)
    && (earlier.countries === null || (later.countries !== null && within([...later.countries], [...earlier.countries])))
    && (earlier.hours === null || earlier.hours === later.hours)
    && (earlier.until === null || (later.until !== null && later.until <= earlier.until))
}

const hasPosture = ({ all, any, none }: Policy): boolean => all.length + any.length + none.length > 0

function lintService(service: Service, policies: readonly Policy[]): string[] {
  const enforced = policies.filter(({ mode }) => mode === 'enforce')
  const sentences = enforced.length === 0 ? [`No policy is in force for the service "${service.name}": nobody reaches it.`] : []
  enforced.forEach((policy, position) => {
    const earlier = enforced.slice(0, position).find((each) => covers(each, policy))
    if (earlier !== undefined) sentences.push(`Policy "${policy.name}" never decides for the service "${service.name}": "${earlier.name}" above it matches whenever it does.`)
    if (policy.action === 'allow' && !service.anonymous && !hasPosture(policy)) sentences.push(`Policy "${policy.name}" lets devices to the service "${service.name}" whatever their posture: it names no tag.`)
  })
  return sentences
}

/** What a host, or the certificates for it, could be held to and is not. */
function lintSsh({ name, ssh }: Service): string[] {
  if (ssh === null) return []
  return [
    ...(ssh.hostKeys === null ? [`The service "${name}" lists no ssh.hostKeys: whatever host answers there is taken for the right one.`] : []),
    ...(ssh.sourceAddresses.length === 0 ? [`The service "${name}" names no ssh.sourceAddresses: until they end, its certificates are good from everywhere, not through this gateway alone.`] : []),
  ]
}

/** Whether one list holds more than another, where one without entries holds all. */
const isWider = (some: readonly string[], all: readonly string[]): boolean => all.length > 0 && (some.length === 0 || !within(some, all))

/** Whether a certificate for `one` opens more at the hosts of `two` than one for `two`. */
function givesMore(one: SshService, two: SshService): boolean {
  return one.principal !== two.principal || !within(one.principals, two.principals) || !within(one.extensions, two.extensions) || one.certificateMs > two.certificateMs
    || (two.forceCommand !== null && one.forceCommand !== two.forceCommand) || isWider(one.sourceAddresses, two.sourceAddresses)
    || isWider([...one.issuers], [...two.issuers]) || isWider([...one.emailDomains], [...two.emailDomains])
}

/** SSH has no certificate for one host alone: what one service withholds, another may give. */
function lintSshTogether(services: readonly Service[]): string[] {
  return services.flatMap(({ name, ssh }) => {
    const more = ssh === null ? undefined : services.find((each) => each.ssh !== null && givesMore(each.ssh, ssh))
    return more === undefined ? [] : [`Whoever reaches the services "${more.name}" and "${name}" may use a certificate for "${more.name}" at the hosts of "${name}", which gives less: one CA signs for both.`]
  })
}

/** Places (host pattern, port span and path) that an earlier service has declared already. */
function lintPlaces(services: readonly Service[]): string[] {
  const taken = new Map<string, string>()
  return services.flatMap((service) => {
    const { hosts, suffixes, ranges, ports, paths, protocol, name } = service
    const patterns = [...hosts, ...suffixes.map((suffix) => `*${suffix}`), ...ranges.map(([network, bits]) => `${network.toString()}/${bits}`)]
    const places = patterns.flatMap((pattern) => (ports.length === 0 ? [[1, 65_535]] : ports).flatMap(([from, to]) => paths.map((path) => ({ text: `${pattern}:${from === to ? from : `${from}-${to}`}${path}${protocol === 'udp' ? ' by UDP' : ''}`, key: `${protocol} ${pattern} ${from}-${to} ${path}` }))))
    const doubled = places.filter(({ key }) => taken.has(key))
    for (const { key } of places) if (!taken.has(key)) taken.set(key, name)
    return doubled.map(({ text, key }) => `The service "${name}" is never found at ${text}: "${taken.get(key) ?? ''}" above it is declared there.`)
  })
}

/**
 * Lints what {@link Policies} were compiled.
 * @param tagsByName the tags that the EMS has told; null: not known here
 * @param now ms
 */
export function lintPolicies(policies: Policies, { tagsByName, now }: { readonly tagsByName: ReadonlyMap<string, unknown> | null; readonly now: number }): string[] {
  const sentences = new Set([...lintPlaces(policies.services), ...lintSshTogether(policies.services)])
  for (const service of policies.services) {
    const those = policies.byService.get(service.name)?.policies ?? []
    for (const sentence of [...lintService(service, those), ...lintSsh(service)]) sentences.add(sentence)
    for (const { name, until, all, any, none, countries, user } of those) {
      if (until !== null && until <= now) sentences.add(`Policy "${name}" ended on ${new Date(until).toISOString()}.`)
      if (countries !== null && policies.geo.databaseFile === null) sentences.add(`Policy "${name}" names countries, but no geo.databaseFile says where addresses are: it lets nobody in.`)
      const subject = user?.issuer === null ? [...user.users ?? []].find((each) => !each.includes('@')) : undefined
      if (subject !== undefined) sentences.add(`Policy "${name}" names the subject "${subject}" but no issuer: another identity provider may call somebody else so.`)
      for (const tag of [...all, ...any, ...none]) if (tagsByName?.has(tag) === false) sentences.add(`Policy "${name}" uses the tag "${tag}", which the EMS does not know.`)
    }
    if (service.anonymous && policies.noCertificate.mode === 'block') sentences.add(`The service "${service.name}" is anonymous, but noCertificate blocks whoever shows no certificate.`)
  }
  return [...sentences]
}
