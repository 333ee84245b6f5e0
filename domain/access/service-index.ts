// Finds the declared service for a destination without looking at the others: by exact host, suffix or range, then port, then path. Built at reload.
import type { IPv4, IPv6 } from 'ipaddr.js'
import { readHost, type Address } from './host.ts'
import { findByPath } from './request-path.ts'
import type { Service } from './service.ts'

/** Services of one host and port by path prefix. */
interface Route {
  readonly byPrefix: ReadonlyMap<string, Service>
  /** Most slashes in a prefix. */
  readonly deepest: number
}
/** Services of one host: `routes[n]` covers the ports from `starts[n]` to before `starts[n + 1]`. */
interface Ports { readonly starts: readonly number[]; readonly routes: readonly (Route | null)[] }
/** By prefix length, longest first; within one by the network's number. */
type Ranges = readonly { readonly bits: number; readonly networks: ReadonlyMap<number | bigint, Ports> }[]

interface ProtocolIndex { readonly hosts: ReadonlyMap<string, Ports>; readonly suffixes: ReadonlyMap<string, Ports>; readonly ipv4: Ranges; readonly ipv6: Ranges }
export type ServiceIndex = Readonly<Record<Service['protocol'], ProtocolIndex>>

const numberOf = (address: Address): number | bigint => address.kind() === 'ipv4'
  ? (address as IPv4).octets.reduce((number, octet) => number * 256 + octet, 0)
  : (address as IPv6).parts.reduce((number, part) => (number << 16n) | BigInt(part), 0n)
const networkOf = (address: number | bigint, bits: number): number | bigint => (typeof address === 'number' ? Math.floor(address / 2 ** (32 - bits)) : address >> BigInt(128 - bits))

const slashes = (text: string): number => text.split('/').length - 1

function routeOf(services: readonly Service[]): Route | null {
  const byPrefix = new Map<string, Service>()
  // Of two that declare the same, the first stands; the lint tells of the other.
  for (const service of services) for (const path of service.paths) if (!byPrefix.has(path)) byPrefix.set(path, service)
  return byPrefix.size === 0 ? null : { byPrefix, deepest: Math.max(...[...byPrefix.keys()].map(slashes)) }
}

function portsOf(services: readonly Service[]): Ports {
  const spans = services.flatMap((service, order) => (service.ports.length === 0 ? [[1, 65_535] as const] : service.ports).map(([from, to]) => ({ service, order, from, to })))
  const opening = Map.groupBy(spans, ({ from }) => from)
  const starts = [...new Set([0, ...spans.flatMap(({ from, to }) => [from, to + 1])])].sort((a, b) => a - b)
  let open: typeof spans = []
  const routes = starts.map((start) => {
    open = [...open.filter(({ to }) => to >= start), ...opening.get(start) ?? []].sort((a, b) => a.order - b.order)
    return routeOf(open.map(({ service }) => service))
  })
  return { starts, routes }
}

function group<K>(services: readonly Service[], keysOf: (service: Service) => Iterable<K>): Map<K, Ports> {
  const grouped = new Map<K, Service[]>()
  for (const service of services) {
    for (const key of new Set(keysOf(service))) {
      const those = grouped.get(key)
      if (those === undefined) grouped.set(key, [service])
      else those.push(service)
    }
  }
  return new Map([...grouped].map(([key, those]) => [key, portsOf(those)]))
}

function rangesOf(services: readonly Service[], kind: 'ipv4' | 'ipv6'): Ranges {
  const own = ({ ranges }: Service) => ranges.filter(([network]) => network.kind() === kind)
  const lengths = [...new Set(services.flatMap((service) => own(service).map(([, bits]) => bits)))].sort((a, b) => b - a)
  return lengths.map((bits) => ({ bits, networks: group(services, (service) => own(service).filter((range) => range[1] === bits).map(([network]) => networkOf(numberOf(network), bits))) }))
}

/** Indexes services; work per look-up depends on the host's length and the number of distinct prefix lengths, never on how many services there are. */
export function indexServices(services: readonly Service[]): ServiceIndex {
  const index = (protocol: Service['protocol']): ProtocolIndex => {
    const those = services.filter((service) => service.protocol === protocol)
    return { hosts: group(those, ({ hosts }) => hosts), suffixes: group(those, ({ suffixes }) => suffixes), ipv4: rangesOf(those, 'ipv4'), ipv6: rangesOf(those, 'ipv6') }
  }
  return { tcp: index('tcp'), udp: index('udp'), https: index('https') }
}

function routeAt(ports: Ports | undefined, port: number): Route | null {
  if (ports === undefined) return null
  const { starts, routes } = ports
  let [low, high] = [0, starts.length - 1]
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if ((starts[middle] ?? 0) <= port) low = middle
    else high = middle - 1
  }
  return routes[low] ?? null
}

/** The service with the longest prefix of `path`. */
function longest({ byPrefix, deepest }: Route, path: string): Service | null {
  const ends: number[] = []
  for (let at = path.indexOf('/', 1); at !== -1 && ends.length < deepest; at = path.indexOf('/', at + 1)) ends.push(at)
  if (ends.length < deepest) ends.push(path.length)
  for (const end of ends.reverse()) {
    const service = byPrefix.get(path.slice(0, end))
    if (service !== undefined) return service
  }
  return byPrefix.get('') ?? null
}

export type Found = { readonly kind: 'service'; readonly service: Service } | { readonly kind: 'none' | 'ambiguous-path' }
const none: Found = { kind: 'none' }

/** Behind exact hosts: suffixes before ranges, the longer before the shorter. */
function* wider({ suffixes, ipv4, ipv6 }: ProtocolIndex, host: string, address: Address | null): Generator<Ports | undefined> {
  if (address === null) {
    if (suffixes.size > 0) for (let dot = host.indexOf('.', 1); dot !== -1; dot = host.indexOf('.', dot + 1)) yield suffixes.get(host.slice(dot))
    return
  }
  const number = numberOf(address)
  for (const { bits, networks } of address.kind() === 'ipv4' ? ipv4 : ipv6) yield networks.get(networkOf(number, bits))
}

/** The service at a port and path of one host; null: there is none there. */
function found(ports: Ports | undefined, port: number, path: string): Found | null {
  const route = routeAt(ports, port)
  if (route === null) return null
  const service = route.deepest === 0 ? route.byPrefix.get('') : findByPath(path, (each) => longest(route, each))
  if (service === undefined) return { kind: 'ambiguous-path' }
  return service === null ? null : { kind: 'service', service }
}

/**
 * The declared service for a destination; nothing undeclared is reached, and names never match ranges.
 * @param path of the request, without query; `/` for TCP and UDP
 */
export function lookUpService(index: ServiceIndex, protocol: Service['protocol'], asked: string, port: number, path: string): Found {
  const { host, address } = readHost(asked)
  const exact = found(index[protocol].hosts.get(host), port, path)
  if (exact !== null) return exact
  for (const ports of wider(index[protocol], host, address)) {
    const by = found(ports, port, path)
    if (by !== null) return by
  }
  return none
}
