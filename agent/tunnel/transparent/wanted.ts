// What of a profile programs reach without settings: exact names and ranges, each with its ports. Wildcards are not among it: whichever
// names they stand for, the machine's hosts file can't list them.
import ipaddr from 'ipaddr.js'
import type { ProfileSettings } from '../../../protocol/profile.ts'

export interface PortRange { readonly from: number; readonly to: number }
export interface Wanted {
  readonly names: ReadonlyMap<string, readonly PortRange[]>
  /** By CIDR range; addresses are ranges of one. */
  readonly ranges: ReadonlyMap<string, readonly PortRange[]>
  /** What stays with PAC and SOCKS, and why. */
  readonly left: readonly string[]
}

/** Sorted, and joined where they overlap or touch: nft takes no two ranges of a set that do. */
export function joined(ports: readonly PortRange[]): PortRange[] {
  const found: PortRange[] = []
  for (const { from, to } of [...ports].sort((a, b) => a.from - b.from)) {
    const last = found.at(-1)
    if (last !== undefined && from <= last.to + 1) found[found.length - 1] = { from: last.from, to: Math.max(last.to, to) }
    else found.push({ from, to })
  }
  return found
}

/** What is left of some ports without others, each of which is one of them or a range of theirs. */
export const less = (ports: readonly PortRange[], others: readonly PortRange[]): PortRange[] => joined(others).reduce<PortRange[]>((left, { from, to }) => left.flatMap((each) => (to < each.from || from > each.to
  ? [each] : [{ from: each.from, to: from - 1 }, { from: to + 1, to: each.to }].filter((rest) => rest.from <= rest.to))), [...ports])

/**
 * @param own names that the agent itself must reach (its gateways, its EMS): led to the agent, it would ask itself
 */
export function wantedOf({ destinations }: Pick<ProfileSettings, 'destinations'>, own: ReadonlySet<string>): Wanted {
  const names = new Map<string, PortRange[]>()
  const ranges = new Map<string, PortRange[]>()
  const left: string[] = []
  for (const { match, ports } of destinations) {
    const isAddress = ipaddr.isValid(match)
    const pairs = ports.map((port) => (typeof port === 'number' ? { from: port, to: port } : port))
    if (match.startsWith('*.')) left.push(`${match} (a wildcard)`)
    else if (!isAddress && (own.has(match) || match === 'localhost')) left.push(`${match} (the agent itself must reach it)`)
    else if (match.includes('/') || isAddress) {
      const key = isAddress ? `${match}/${ipaddr.parse(match).kind() === 'ipv4' ? 32 : 128}` : match
      ranges.set(key, joined([...ranges.get(key) ?? [], ...pairs]))
    } else names.set(match, joined([...names.get(match) ?? [], ...pairs]))
  }
  return { names, ranges, left }
}
