// One service as the gateway's administrator writes it, as a closed schema. What it becomes is in service.ts.
import ipaddr from 'ipaddr.js'
import { z } from 'zod'
import { hostName, line, port } from '../../protocol/text.ts'
import { sshEntry } from './ssh-service.ts'

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
/** At most eight segments of unreserved characters: what can be written in two ways would be decided in two ways. */
const pathPrefix = z.string().max(256).regex(/^\/([A-Za-z0-9_.~-]+(\/[A-Za-z0-9_.~-]+){0,7}\/?)?$/, 'must be a path prefix like /wiki, of unreserved characters')
  .refine((text) => !text.split('/').some((segment) => segment === '.' || segment === '..'), 'must not climb')
/** A file beside the policies, or anywhere by its whole path. */
export const filePath = line(4096)

export const seconds = z.number().int().min(1).max(31_536_000)
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

const tunnelled = {
  ...common, ports: z.array(portRange).min(1).max(64),
  /** Where to connect, when not to the host and port that were asked for. */
  upstream: hostAndPort.optional(),
}
/** `bulk` tells agents to carry it over a connection of its own. */
const traffic = z.enum(['interactive', 'bulk']).default('interactive')
/** Seconds without a datagram after which a session ends. Agents let go after 300 by themselves. */
const idleSeconds = seconds.default(120)
const tcpService = z.strictObject({ ...tunnelled, protocol: z.literal('tcp'), traffic, ssh: sshEntry.optional() })
const udpService = z.strictObject({ ...tunnelled, protocol: z.literal('udp'), idleSeconds })
/** The same places by both, like DNS. */
const tcpAndUdpService = z.strictObject({ ...tunnelled, protocol: z.literal('tcp+udp'), traffic, idleSeconds })

const upstreamTls = z.strictObject({
  /** Trusts this CA (PEM) for the upstream's own certificate, beside none other. */
  ca: z.string().max(65_536).optional(),
  /** The name that the upstream's certificate must bear, when it is not the host of its URL. */
  name: hostName.optional(),
  /** The gateway's own certificate for the upstream, PEM files. */
  certificateFile: filePath.optional(),
  keyFile: filePath.optional(),
}).refine((value) => (value.certificateFile === undefined) === (value.keyFile === undefined), { path: ['keyFile'], error: 'stands with certificateFile, and only there' })

const health = z.strictObject({
  /** Asked by GET; an answer of 200 to 399 is well. */
  path: z.string().max(256).regex(/^\/[\x21-\x7e]*$/, 'must be a path'),
  every: z.number().min(0.1).max(3_600).default(10),
  within: z.number().min(0.05).max(60).default(2),
})
const limits = z.strictObject({
  /** The most bytes in a request's body. */
  requestBytes: z.number().int().min(0).max(2 ** 50).default(2 ** 30),
  /** Seconds within which a request must be in whole. */
  requestSeconds: seconds.default(3_600),
  /** Seconds of silence after which upstream or client counts as gone. Event streams need their own heartbeat within; websockets have theirs. */
  silenceSeconds: seconds.default(300),
})
const httpsService = z.strictObject({
  ...common, protocol: z.literal('https'), ports: z.array(portRange).max(64).default([]),
  /** Path prefixes, told apart by whole segments; the longest wins. */
  paths: z.array(pathPrefix).min(1).max(64).default(['/']),
  /** One, or several among which the least busy well one is taken. */
  upstream: z.union([targetUrl, z.array(targetUrl).min(1).max(32)]),
  upstreamTls: upstreamTls.prefault({}),
  health: health.optional(),
  limits: limits.prefault({}),
  /** Whether somebody without a device may reach it, where `noCertificate` takes such at all. */
  anonymous: z.boolean().default(false),
})
export const serviceEntry = z.discriminatedUnion('protocol', [tcpService, udpService, tcpAndUdpService, httpsService])
