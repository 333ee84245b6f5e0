// An address of an interface that is up lies in a range. It says where the device claims to be, not where it was seen.
import ipaddr from 'ipaddr.js'
import { z } from 'zod'
import type { Sections } from '../../../protocol/facts.ts'
import { conditionType } from '../condition-type.ts'

const schema = z.strictObject({ ranges: z.array(z.union([z.cidrv4(), z.cidrv6()])).min(1).max(256) })

const within = (ip: string, range: string): boolean => {
  const address = ipaddr.process(ip)
  const [network, bits] = ipaddr.parseCIDR(range)
  return address.kind() === network.kind() && address.match(network, bits)
}

export const ipRange = conditionType<z.infer<typeof schema>>({
  type: 'ip-range', schema, os: ['linux', 'windows', 'macos'], side: 'ems', section: 'network',
  evaluate({ ranges }, fact) {
    const addresses = (fact.value as Sections['network']).interfaces.flatMap((each) => each.addresses.map(({ ip }) => ip))
    const found = addresses.find((ip) => ranges.some((range) => within(ip, range)))
    return { value: found === undefined ? 'false' : 'true', seen: found ?? (addresses.slice(0, 8).join(', ') || 'no address'), validUntil: null }
  },
  wanted: ({ ranges }) => `an address in ${ranges.join(', ')}`,
  mend: ({ ranges }) => `Connect to a network in ${ranges.join(', ')}.`,
})
