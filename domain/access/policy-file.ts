// The gateway administrator's YAML, as a closed schema: which services exist, and who may reach them. Reading text and matching are done beside it.
import ipaddr from 'ipaddr.js'
import { z } from 'zod'
import { hostName, line, port } from '../../protocol/text.ts'

const address = z.union([z.ipv4(), z.ipv6()], { error: 'must be an IP address' })
const suffix = z.string().regex(/^\*\./, 'must begin with *.').refine((text) => hostName.safeParse(text.slice(2)).success, 'must be *. and a host name')
/** An exact host, `*.suffix` (the names below it, not itself), one address, or a range in CIDR notation. */
const hostPattern = z.union([hostName, suffix, address, z.string().refine((text) => ipaddr.isValidCIDR(text), 'must be a range like 10.0.0.0/8')], {
  error: 'must be a host name in lower case, *.suffix, an IP address or a range like 10.0.0.0/8',
})
const portRange = z.union([
  port,
  z.string().regex(/^\d{1,5}-\d{1,5}$/).refine((text) => {
    const [from = 0, to = 0] = text.split('-').map(Number)
    return from >= 1 && to <= 65535 && from <= to
  }),
], { error: 'must be a port or a range like "8000-8100"' })

const seconds = z.number().int().min(1).max(31_536_000)
const stale = z.strictObject({
  /** Seconds without word from the EMS until what is known counts as stale. */
  after: seconds.default(180),
  /** `deny` refuses and cuts; `hold` keeps open sessions, and becomes `deny` after `holdFor` seconds. */
  // oxlint-disable-next-line no-thenable -- the word that administrators write; a string is not callable, so nothing can await it
  then: z.enum(['deny', 'hold']).default('deny'),
  holdFor: seconds.optional(),
}).refine((value) => (value.then === 'hold') === (value.holdFor !== undefined), { path: ['holdFor'], error: 'stands with `then: hold`, and only there' })

const common = {
  name: line(64),
  match: z.array(hostPattern).min(1).max(256),
  /** Addresses that would be refused (loopback, link-local, the gateway's own …) but are right for this service. */
  addresses: z.array(address).max(64).default([]),
  stale: stale.prefault({}),
  /** Refuse devices whose agent has no open channel to the EMS. */
  requireOnline: z.boolean().default(false),
}
const targetUrl = z.url({ protocol: /^https?$/, error: 'must be a URL like http://10.0.0.5:8080' }).refine((text) => {
  // Refinements run after a failed format too.
  if (!URL.canParse(text)) return false
  const { pathname, search, hash, username } = new URL(text)
  return pathname === '/' && search === '' && hash === '' && username === ''
}, 'must have neither path, query nor user')
const hostAndPort = z.string().regex(/^(\[[0-9a-f:.]+\]|[a-z0-9.-]+):\d{1,5}$/, 'must be host:port').refine((text) => URL.canParse(`http://${text}`), 'must be host:port')

const tcpService = z.strictObject({
  ...common, protocol: z.literal('tcp'), ports: z.array(portRange).min(1).max(64),
  /** Where to connect, when not to the host and port that were asked for. */
  upstream: hostAndPort.optional(),
})
const httpsService = z.strictObject({
  ...common, protocol: z.literal('https'), ports: z.array(portRange).max(64).default([]), upstream: targetUrl,
  /** Trusts this CA (PEM) for the upstream's own certificate, beside none other. */
  upstreamCa: z.string().max(65_536).optional(),
})
const service = z.discriminatedUnion('protocol', [tcpService, httpsService])

const tagList = z.array(line(128)).max(64).default([])
const noPeople = z.never({ error: 'needs verified identity, which this version does not have; decide by tags' }).optional()
const policy = z.strictObject({
  name: line(128),
  enabled: z.boolean().default(true),
  services: z.array(line(64)).min(1).max(256),
  tags: z.strictObject({ all: tagList, any: tagList, none: tagList }).prefault({}),
  action: z.enum(['allow', 'deny']),
  users: noPeople,
  groups: noPeople,
})

const refuseDoubles = (names: readonly string[], kind: string, context: z.RefinementCtx) => {
  names.forEach((name, index) => {
    if (names.indexOf(name) !== index) context.addIssue({ code: 'custom', path: [kind, index, 'name'], message: `another one above is named "${name}" too` })
  })
}

/** The whole file. Policies are ordered: the first that matches decides; none that matches denies. */
export const policyFile = z.strictObject({ services: z.array(service).max(1000), policies: z.array(policy).max(1000) }).superRefine((file, context) => {
  const names = file.services.map(({ name }) => name)
  refuseDoubles(names, 'services', context)
  refuseDoubles(file.policies.map(({ name }) => name), 'policies', context)
  file.policies.forEach(({ services }, index) => services.forEach((name, at) => {
    if (!names.includes(name)) context.addIssue({ code: 'custom', path: ['policies', index, 'services', at], message: `no service is named "${name}"` })
  }))
})
export type PolicyFile = z.output<typeof policyFile>

/** JSON schema (draft 2020-12) of the file, for editors. What refers to another part of the file is checked by reading it, not by this. */
export const policyFileSchema = (): unknown => z.toJSONSchema(policyFile, { io: 'input', unrepresentable: 'any' })
