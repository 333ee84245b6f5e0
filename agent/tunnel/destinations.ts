// Which destinations are protected, and by which gateways; compiled once per profile. Names are matched as asked, never resolved.
import ipaddr from 'ipaddr.js'
import type { Destination } from '../../protocol/profile.ts'
import type { Target } from './target.ts'

/** The serials of the gateways that lead to a target, the preferred one first, or null: then the traffic is none of ours and goes direct. */
export type Destinations = (target: Target) => readonly string[] | null

interface Rule { ports: { from: number; to: number }[]; gateways: readonly string[] }

const append = (rules: Map<string, Rule[]>, key: string, rule: Rule): void => {
  const list = rules.get(key)
  if (list) list.push(rule)
  else rules.set(key, [rule])
}
const gatewaysFor = (rules: Rule[] | undefined, port: number): readonly string[] | null =>
  rules?.find(({ ports }) => ports.some(({ from, to }) => port >= from && port <= to))?.gateways ?? null

/** The first `bits` bits of an address as a key. */
function prefixKey(bytes: number[], bits: number): string {
  const masked = bytes.map((byte, index) => byte & (0xff << (8 - Math.min(8, Math.max(0, bits - index * 8)))) & 0xff)
  return `${bits}/${masked.join('.')}`
}

/**
 * Compiles the destinations of a profile. An exact name wins over a suffix, a longer suffix or prefix over a shorter one;
 * among equals the first that lists the port. `*.suffix` does not match the suffix itself.
 * @returns a lookup whose cost follows the number of labels and of distinct prefix lengths, not of destinations
 */
export function compileDestinations(destinations: Destination[]): Destinations {
  const names = new Map<string, Rule[]>()
  const suffixes = new Map<string, Rule[]>()
  const ranges = new Map<string, Rule[]>()
  const lengths = { ipv4: new Set<number>(), ipv6: new Set<number>() }
  for (const { match, ports, gateway, fallbacks = [] } of destinations) {
    const rule = { gateways: [gateway, ...fallbacks], ports: ports.map((port) => (typeof port === 'number' ? { from: port, to: port } : port)) }
    if (match.includes('/')) {
      const [address, bits] = ipaddr.parseCIDR(match)
      lengths[address.kind()].add(bits)
      append(ranges, prefixKey(address.toByteArray(), bits), rule)
    } else if (match.startsWith('*.')) append(suffixes, match.slice(2), rule)
    else append(names, ipaddr.isValid(match) ? ipaddr.process(match).toString() : match, rule)
  }
  const descending = { ipv4: [...lengths.ipv4].sort((a, b) => b - a), ipv6: [...lengths.ipv6].sort((a, b) => b - a) }

  return ({ host, port }) => {
    const exact = gatewaysFor(names.get(host), port)
    if (exact !== null) return exact
    if (ipaddr.isValid(host)) {
      const address = ipaddr.process(host)
      const bytes = address.toByteArray()
      for (const bits of descending[address.kind()]) {
        const gateways = gatewaysFor(ranges.get(prefixKey(bytes, bits)), port)
        if (gateways !== null) return gateways
      }
      return null
    }
    for (let dot = host.indexOf('.'); dot !== -1; dot = host.indexOf('.', dot + 1)) {
      const gateways = gatewaysFor(suffixes.get(host.slice(dot + 1)), port)
      if (gateways !== null) return gateways
    }
    return null
  }
}
