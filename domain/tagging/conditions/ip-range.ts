// An address of an interface that is up lies in a range. It says where the device claims to be, not where it was seen.
import ipaddr from 'ipaddr.js'
import { z } from 'zod'
import type { Sections } from '../../../protocol/facts.ts'
import { conditionType } from '../condition-type.ts'

const schema = z.strictObject({ ranges: z.array(z.union([z.cidrv4(), z.cidrv6()])).min(1).max(256) })

type Range = readonly [network: ipaddr.IPv4 | ipaddr.IPv6, bits: number]
/** A range of IPv4-mapped addresses is the IPv4 range: addresses are brought to that form too. */
function parseRange(text: string): Range {
  const [network, bits] = ipaddr.parseCIDR(text)
  return network instanceof ipaddr.IPv6 && network.isIPv4MappedAddress() && bits >= 96 ? [network.toIPv4Address(), bits - 96] : [network, bits]
}
const within = (address: ipaddr.IPv4 | ipaddr.IPv6, [network, bits]: Range): boolean => address.kind() === network.kind() && address.match(network, bits)
const some = (texts: readonly string[], most: number): string => texts.slice(0, most).join(', ') + (texts.length > most ? ` and ${texts.length - most} more` : '')

export const ipRange = conditionType<z.infer<typeof schema>>({
  type: 'ip-range', schema, os: ['linux', 'windows', 'macos'], side: 'ems', section: 'network',
  evaluate({ ranges }, fact) {
    const addresses = (fact.value as Sections['network']).interfaces.flatMap((each) => each.addresses.map(({ ip }) => ip))
    // Parsed once each: 2,048 addresses against 256 ranges are a report that anybody enrolled may send.
    const parsed = ranges.map(parseRange)
    const found = addresses.find((ip) => {
      const address = ipaddr.process(ip)
      return parsed.some((range) => within(address, range))
    })
    return { value: found === undefined ? 'false' : 'true', seen: found ?? (some(addresses, 8) || 'no address'), validUntil: null }
  },
  wanted: ({ ranges }) => `an address in ${some(ranges, 8)}`,
  mend: ({ ranges }, negate) => `${negate ? 'Leave the networks' : 'Connect to a network'} in ${some(ranges, 8)}.`,
})
