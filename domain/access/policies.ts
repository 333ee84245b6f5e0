// Services and policies in the form that decisions are taken from: matchers made, names resolved. It is replaced whole on reload.
import ipaddr from 'ipaddr.js'
import type { PolicyFile } from './policy-file.ts'

export interface Service {
  readonly name: string
  readonly protocol: 'tcp' | 'https'
  readonly hosts: ReadonlySet<string>
  /** Each begins with a dot. */
  readonly suffixes: readonly string[]
  readonly ranges: readonly (readonly [ipaddr.IPv4 | ipaddr.IPv6, number])[]
  /** Inclusive; none: every port. */
  readonly ports: readonly (readonly [number, number])[]
  readonly upstream: { readonly secure: boolean; readonly host: string; readonly port: number; readonly ca: string | null } | null
  /** Addresses that are dialled although they are special, in normal form. */
  readonly addresses: ReadonlySet<string>
  readonly stale: { readonly afterMs: number; readonly holdMs: number }
  readonly requireOnline: boolean
}

export interface Policy {
  readonly name: string
  readonly action: 'allow' | 'deny'
  readonly all: readonly string[]
  readonly any: readonly string[]
  readonly none: readonly string[]
}

export interface Policies {
  readonly services: readonly Service[]
  /** Enabled policies of each service, in their order. */
  readonly byService: ReadonlyMap<string, readonly Policy[]>
}

type Target = { readonly name: string } | { readonly address: ipaddr.IPv4 | ipaddr.IPv6 }

/** An address in normal form, IPv4 inside IPv6 taken out; null when it is none. */
export function normalAddress(text: string): string | null {
  return ipaddr.IPv4.isValidFourPartDecimal(text) || ipaddr.IPv6.isValid(text) ? ipaddr.process(text).toString() : null
}

/** A host as asked for: lower case, no final dot, an address in normal form. */
export function normalHost(text: string): string {
  const bare = text.startsWith('[') && text.endsWith(']') ? text.slice(1, -1) : text
  return normalAddress(bare) ?? bare.toLowerCase().replace(/\.$/, '')
}

const range = (pattern: string): readonly [ipaddr.IPv4 | ipaddr.IPv6, number] => {
  const [network, bits] = ipaddr.parseCIDR(pattern)
  // An IPv4 range written inside IPv6 must meet addresses that were taken out of it.
  return network.kind() === 'ipv6' && (network as ipaddr.IPv6).isIPv4MappedAddress() && bits >= 96 ? [(network as ipaddr.IPv6).toIPv4Address(), bits - 96] : [network, bits]
}

const portPair = (value: number | string): readonly [number, number] => {
  if (typeof value === 'number') return [value, value]
  const [from = 0, to = 0] = value.split('-').map(Number)
  return [from, to]
}

function upstreamOf(service: PolicyFile['services'][number]): Service['upstream'] {
  if (service.upstream === undefined) return null
  const url = new URL(service.protocol === 'tcp' ? `http://${service.upstream}` : service.upstream)
  const secure = url.protocol === 'https:'
  const ca = service.protocol === 'https' ? service.upstreamCa ?? null : null
  return { secure, host: normalHost(url.hostname), port: url.port === '' ? (secure ? 443 : 80) : Number(url.port), ca }
}

function compileService(service: PolicyFile['services'][number]): Service {
  const ranges = service.match.filter((pattern) => pattern.includes('/'))
  const suffixes = service.match.filter((pattern) => pattern.startsWith('*.'))
  const hosts = service.match.filter((pattern) => !pattern.includes('/') && !pattern.startsWith('*.'))
  const upstream = upstreamOf(service)
  // An upstream written as an address is a very address that the administrator listed.
  const listed = [...service.addresses, ...(upstream !== null && normalAddress(upstream.host) !== null ? [upstream.host] : [])]
  return {
    name: service.name, protocol: service.protocol, hosts: new Set(hosts.map(normalHost)), suffixes: suffixes.map((pattern) => pattern.slice(1)), ranges: ranges.map(range),
    ports: service.ports.map(portPair), upstream, addresses: new Set(listed.map(normalHost)),
    stale: { afterMs: service.stale.after * 1000, holdMs: (service.stale.holdFor ?? 0) * 1000 }, requireOnline: service.requireOnline,
  }
}

/** Makes the matchers of a file that the schema has accepted. */
export function compilePolicies(file: PolicyFile): Policies {
  const enabled = file.policies.filter((policy) => policy.enabled)
  return {
    services: file.services.map(compileService),
    byService: new Map(file.services.map(({ name }) => [
      name, enabled.filter((policy) => policy.services.includes(name)).map(({ name, action, tags }) => ({ name, action, ...tags })),
    ])),
  }
}

function hostMatches(service: Service, host: string, target: Target): boolean {
  if (service.hosts.has(host)) return true
  if ('name' in target) return service.suffixes.some((suffix) => target.name.endsWith(suffix) && target.name.length > suffix.length)
  return service.ranges.some(([network, bits]) => network.kind() === target.address.kind() && target.address.match(network, bits))
}

/** The first declared service for a destination; null: there is none, and nothing undeclared is reached. Names never match ranges. */
export function findService(policies: Policies, protocol: 'tcp' | 'https', host: string, port: number): Service | null {
  const normal = normalHost(host)
  const target: Target = normalAddress(normal) === null ? { name: normal } : { address: ipaddr.process(normal) }
  return policies.services.find((service) => service.protocol === protocol
    && (service.ports.length === 0 || service.ports.some(([from, to]) => port >= from && port <= to))
    && hostMatches(service, normal, target)) ?? null
}

/** Tag names that policies use and the EMS has never told: likely misspelt. A sentence each. */
export function lintPolicies(policies: Policies, tagsByName: ReadonlyMap<string, unknown>): string[] {
  const sentences = new Set<string>()
  for (const policy of [...policies.byService.values()].flat()) {
    for (const name of [...policy.all, ...policy.any, ...policy.none]) {
      if (!tagsByName.has(name)) sentences.add(`Policy "${policy.name}" uses the tag "${name}", which the EMS does not know.`)
    }
  }
  return [...sentences]
}
