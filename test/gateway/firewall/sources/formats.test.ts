// What DHCP and VPN servers write, read by tables: real forms of each, and whatever a hostile client may get into them.
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readClientList } from '../../../../gateway/firewall/sources/client-list.ts'
import { readDnsmasqLeases } from '../../../../gateway/firewall/sources/dnsmasq.ts'
import { readIscLeases } from '../../../../gateway/firewall/sources/isc-dhcpd.ts'
import { readKeaLeases } from '../../../../gateway/firewall/sources/kea.ts'
import { LONGEST_MS, MAX_SIGHTS_OF_SOURCE, type Reading } from '../../../../gateway/firewall/sources/told-sight.ts'
import { readWireguard } from '../../../../gateway/firewall/sources/wireguard.ts'

const NOW = Date.parse('2025-11-25T16:00:00Z')
const sample = (name: string) => readFileSync(new URL(`./samples/${name}`, import.meta.url), 'utf8')
/** `ADDRESS MAC-or-UID seconds-left`, sorted, and what was left out. */
const shown = ({ sights, skipped }: Reading) => ({ sights: sights.map(({ address, mac, uid, until }) => `${address} ${mac ?? uid ?? '-'} ${(until - NOW) / 1000}`).sort(), skipped })

describe('leases', () => {
  it.each([
    ['dnsmasq', readDnsmasqLeases, 'dnsmasq.leases', ['10.9.1.102 02:00:00:00:01:02 3600', '10.9.1.103 02:00:00:00:01:03 1'], 2],
    ['ISC dhcpd', readIscLeases, 'dhcpd.leases', ['10.9.1.102 02:00:00:00:01:02 3600', '10.9.1.103 02:00:00:00:01:03 2600'], 1],
    ['Kea, DHCPv4', readKeaLeases, 'kea-leases4.csv', ['10.9.1.102 02:00:00:00:01:02 3600', '10.9.1.103 02:00:00:00:01:03 2600'], 2],
    ['Kea, DHCPv6', readKeaLeases, 'kea-leases6.csv', ['fd09:1::102 02:00:00:00:01:02 3600'], 2],
  ] as const)('of %s are the pairs that are in use, the last word of each address counting', (_name, read, file, sights, skipped) => {
    expect(shown(read(sample(file), NOW))).toEqual({ sights, skipped })
  })

  it.each([
    ['a lease that is over', readDnsmasqLeases, '1764086399 02:00:00:00:01:02 10.9.1.2 * *', 0],
    ['one for a month', readDnsmasqLeases, `${Math.floor((NOW + LONGEST_MS) / 1000) + 1} 02:00:00:00:01:02 10.9.1.2 * *`, 1],
    ['a group\'s MAC', readDnsmasqLeases, '1764090000 ff:ff:ff:ff:ff:ff 10.9.1.2 * *', 1],
    ['an address of no single device', readDnsmasqLeases, '1764090000 02:00:00:00:01:02 169.254.1.2 * *', 1],
    ['an octal address', readDnsmasqLeases, '1764090000 02:00:00:00:01:02 010.9.1.2 * *', 1],
    ['a number that is none', readDnsmasqLeases, '1e12 02:00:00:00:01:02 10.9.1.2 * *', 1],
    ['half a line', readDnsmasqLeases, '1764090000 02:00:00:00:01:02 10.9.1.2', 1],
    ['a line too long', readDnsmasqLeases, '1764090000 02:00:00:00:01:02 10.9.1.2 a b c', 1],
    ['half a block', readIscLeases, 'lease 10.9.1.2 {\n ends 2 2025/11/25 17:00:00;\n binding state active;\n hardware ethernet 02:00:00:00:01:02;\n', 0],
    ['a state within another block', readIscLeases, 'lease 10.9.1.2 { ends 2 2025/11/25 17:00:00; hardware ethernet 02:00:00:00:01:02; x { binding state active; } }', 0],
    ['a day that there is not', readIscLeases, 'lease 10.9.1.2 { ends 2 2025/13/45 17:00:00; binding state active; hardware ethernet 02:00:00:00:01:02; }', 1],
    ['a lease that was another\'s before, of a device without a MAC', readIscLeases, 'lease 10.9.1.2 { ends 2 2025/11/25 17:00:00; binding state active; hardware ethernet 02:00:00:00:01:02; }\nlease 10.9.1.2 { ends 2 2025/11/25 17:00:00; binding state active; uid "x"; }', 1],
    ['one that was another\'s before, without an end', readIscLeases, 'lease 10.9.1.2 { ends 2 2025/11/25 17:00:00; binding state active; hardware ethernet 02:00:00:00:01:02; }\nlease 10.9.1.2 { ends never; binding state active; hardware ethernet 02:00:00:00:01:03; }', 1],
    ['a quote that does not end', readIscLeases, 'lease 10.9.1.2 { client-hostname "x; ends 2 2025/11/25 17:00:00; binding state active; hardware ethernet 02:00:00:00:01:02; }', 0],
    ['CSV without names', readKeaLeases, '10.9.1.2,02:00:00:00:01:02,,3600,1764090000,1,0,0,,0,,0', 1],
    ['a comma that was not escaped', readKeaLeases, 'address,hwaddr,valid_lifetime,expire,hostname,state\n10.9.1.2,02:00:00:00:01:02,3600,1764090000,a,b,0', 1],
  ] as const)('are none: %s', (_name, read, text, skipped) => {
    expect(read(text, NOW)).toEqual({ sights: [], skipped })
  })

  it('are bounded, and no text makes them throw or run for long', () => {
    const many = Array.from({ length: MAX_SIGHTS_OF_SOURCE + 5 }, (_, n) => `1764090000 02:00:00:${(n >> 16).toString(16).padStart(2, '0')}:${((n >> 8) & 255).toString(16).padStart(2, '0')}:${(n & 255).toString(16).padStart(2, '0')} 10.${n >> 16}.${(n >> 8) & 255}.${n & 255} * *`).join('\n')
    const { sights, skipped } = readDnsmasqLeases(many, NOW)
    expect([sights.length, skipped]).toEqual([MAX_SIGHTS_OF_SOURCE, 5])
    for (const read of [readDnsmasqLeases, readIscLeases, readKeaLeases]) {
      fc.assert(fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.string({ unit: fc.constantFrom('lease ', '10.0.0.1 ', '{', '}', '"', '\\', ';', '#', '\n', ',', 'address,', 'ends never') })), (text) => {
        expect(Array.isArray(read(text, NOW).sights)).toBe(true)
      }))
      const before = process.cpuUsage()
      for (const text of ['"'.repeat(1 << 20), '\\'.repeat(1 << 20), 'lease 1 {'.repeat(1 << 16), '#'.repeat(1 << 20), '"\\'.repeat(1 << 19), ','.repeat(1 << 20)]) read(text, NOW)
      expect(process.cpuUsage(before).user / 1_000).toBeLessThan(5_000)
    }
  })
})

describe('peers of WireGuard', () => {
  const [one, two, three] = ['A', 'B', 'C'].map((letter) => `${letter.repeat(43)}=`)
  const uid = 'ab'.repeat(16)
  const read = (allowedIps: string, handshakes: string) => shown(readWireguard({ allowedIps, handshakes, link: 'wg0', uidOf: (key) => (key === one ? uid : null) }, NOW))
  it('are at their single addresses until three minutes after their handshake', () => {
    expect(read(`${one}\t10.8.0.2/32 fd08::2/128\n${two}\t10.8.0.3/32 10.50.0.0/24\n${three}\t(none)\n`, `${one}\t1764086400\n${two}\t1764086340\n${three}\t0\n`)).toEqual({ sights: [`10.8.0.2 ${uid} 180`, '10.8.0.3 - 120', `fd08::2 ${uid} 180`], skipped: 1 })
  })
  it.each([
    ['without a handshake', `${one}\t10.8.0.2/32\n`, `${one}\t0\n`, 0],
    ['with an old one', `${one}\t10.8.0.2/32\n`, `${one}\t1764086220\n`, 0],
    ['with what is no key', 'x\t10.8.0.2/32\n', 'x\t1764086400\n', 1],
    ['at loopback', `${one}\t127.0.0.1/32\n`, `${one}\t1764086400\n`, 1],
    ['of an IPv6 network', `${one}\tfd08::2/32\n`, `${one}\t1764086400\n`, 1],
  ])('are not, %s', (_name, allowedIps, handshakes, skipped) => {
    expect(read(allowedIps, handshakes)).toEqual({ sights: [], skipped })
  })
  it('whose handshake lies in the future count from now', () => {
    expect(read(`${two}\t10.8.0.3/32\n`, `${two}\t1764999999\n`).sights).toEqual(['10.8.0.3 - 180'])
  })
})

describe('a list of a VPN\'s clients', () => {
  const uid = 'cd'.repeat(16)
  it('tells addresses, UIDs and ends, line by line', () => {
    const text = `# made by a hook\n10.8.0.2 ${uid} 1764086460\n10.8.0.3   # somebody\n10.8.0.4 -\n::ffff:10.8.0.5 - 1764086430\nfd08::6 ${uid}\n\n10.8.0.7 UID\n10.8.0.8 - x\n10.8.0.9 - 1764086430 more\n; rm -rf\n`
    expect(shown(readClientList(text, 'office', NOW + 120_000, NOW))).toEqual({ sights: [`10.8.0.2 ${uid} 60`, '10.8.0.3 - 120', '10.8.0.4 - 120', '10.8.0.5 - 30', `fd08::6 ${uid} 120`], skipped: 4 })
  })
  it('takes nobody\'s word for an address that two lines name', () => {
    expect(shown(readClientList(`10.8.0.2 ${uid}\n10.8.0.2\n10.8.0.3\n10.8.0.2 ${uid}\n`, 'office', NOW + 1_000, NOW))).toEqual({ sights: ['10.8.0.3 - 1'], skipped: 2 })
  })
})
