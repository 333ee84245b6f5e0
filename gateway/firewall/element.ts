// Elements of packet-filter sets: IPv4 addresses, IPv6 addresses, MACs; and the names of the sets that hold them.
import { tagName } from '../../protocol/rules.ts'

/** Family → nftables' type of the set. */
export const families = { ip4: 'ipv4_addr', ip6: 'ipv6_addr', mac: 'ether_addr' } as const
export type Family = keyof typeof families
export const familyNames = Object.keys(families) as Family[]

const mac = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/

/** The family of an address or MAC in normal form. */
export const familyOf = (element: string): Family => (mac.test(element) ? 'mac' : element.includes(':') ? 'ip6' : 'ip4')

/**
 * The name of a tag's set: letters and digits stand for themselves, anything else as `_` and two hex digits, `_` too.
 * So two tags never share a set, and no tag's name is ever read as part of nftables' language. Throws on what is no tag name.
 */
export function setName(family: Family, tag: string): string {
  return `${family}_${tagName.parse(tag).replaceAll(/[^A-Za-z0-9]/g, (sign) => `_${sign.charCodeAt(0).toString(16).padStart(2, '0')}`)}`
}

/** The tag and family behind a set's name; null when the set is none of ours. */
export function readSetName(name: string): { family: Family; tag: string } | null {
  const match = /^(ip4|ip6|mac)_((?:[A-Za-z0-9]|_[0-9a-f]{2})+)$/.exec(name)
  const tag = tagName.safeParse(match?.[2]?.replaceAll(/_([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))).data
  const family = familyNames.find((each) => each === match?.[1])
  // Only the one way to write it: `_41` for a letter would be a second name of the same set.
  return tag === undefined || family === undefined || setName(family, tag) !== name ? null : { family, tag }
}
