// Leases of dnsmasq: one a line, `ENDS MAC ADDRESS NAME CLIENT-ID`, the end in seconds of the epoch, 0 for never (dnsmasq(8), --dhcp-leasefile).
import { deviceAddress, deviceMac } from '../../../domain/access/device-address.ts'
import { epochMs, latest, type Reading, type ToldSight } from './told-sight.ts'

export function readDnsmasqLeases(text: string, now: number): Reading {
  const entries: [string, ToldSight][] = []
  let skipped = 0
  for (const line of text.split('\n')) {
    // The server's own identifier, before the leases of DHCPv6: these name an IAID, not a MAC.
    if (line === '' || line.startsWith('duid ')) continue
    const [ends, hardware = '', where = '', ...rest] = line.split(' ')
    if (where.includes(':') && rest.length === 2) continue
    const [until, mac, address] = [epochMs(ends), deviceMac(hardware), deviceAddress(where)]
    if (until === null || mac === null || address === null || rest.length !== 2) skipped++
    else entries.push([address, { address, mac, uid: null, link: 'dnsmasq', until }])
  }
  return latest(entries, skipped, now)
}
