// Sources of sights as they change on disk, and what their word is worth beside the neighbour table: whose tags an address bears.
import { execFileSync } from 'node:child_process'
import { appendFile, mkdtemp, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemCommands } from '../../../../gateway/firewall/commands.ts'
import { runFirewallCommand } from '../../../../gateway/firewall/command-line.ts'
import { setName } from '../../../../gateway/firewall/element.ts'
import { NeighbourTable } from '../../../../gateway/firewall/neighbour-table.ts'
import { followSources } from '../../../../gateway/firewall/sources/follow-sources.ts'
import { openSources } from '../../../../gateway/firewall/sources/read-source.ts'
import { readSources, sourcesSchema } from '../../../../gateway/firewall/sources/sources-file.ts'
import { createTaggedAddresses } from '../../../../gateway/firewall/tagged-addresses.ts'
import { readableLog, until } from '../../fabric/follower-under-test.ts'
import { heldClock } from '../held-clock.ts'
import { holdWorld, laptopRecord, uidOf } from '../held-world.ts'

const NOW = 1_764_086_400_000
const [IP, MAC, OTHER] = ['10.9.1.102', '02:00:00:00:01:02', '02:00:00:00:01:99']
let directory: string
const closing: (() => void)[] = []
beforeEach(async () => { directory = await mkdtemp(join(tmpdir(), 'sights-')) })
afterEach(async () => {
  for (const close of closing.splice(0)) close()
  await rm(directory, { recursive: true, force: true })
})
const file = (name: string) => join(directory, name)

async function watching(yaml: string, ...records: ReturnType<typeof laptopRecord>[]) {
  const clock = heldClock(NOW)
  const world = holdWorld(NOW)
  world.put(...records)
  const { log, events } = readableLog()
  const read = readSources(yaml)
  if (!read.ok) throw new Error(read.errors.join())
  const table: NeighbourTable = new NeighbourTable((address, macs) => addresses.neighbourChanged(address, macs))
  const addresses = createTaggedAddresses({ world, neighbours: () => table, onSight: () => undefined, sightMs: 120_000, staleMs: 10_000_000, timers: clock.timers, now: clock.now, log })
  const following = await followSources({ sources: openSources(read.sources, { commands: systemCommands(), sightMs: 120_000 }), sights: addresses.told, timers: clock.timers, now: clock.now, log })
  closing.push(following.close, addresses.close)
  const healthy = (family: 'ip4' | 'mac' = 'ip4') => [...addresses.elementsOf(setName(family, 'healthy'))].flatMap(([element, end]) => (end > clock.now() ? [element] : [])).sort()
  const becomes = (wanted: string[]) => until(wanted.join(' and ') || 'nobody', async () => {
    clock.advance(1_000)
    await new Promise(setImmediate)
    return JSON.stringify(healthy()) === JSON.stringify(wanted)
  })
  return { clock, table, healthy, becomes, events, addresses }
}
const lease = (seconds: number, mac = MAC, ip = IP) => `${NOW / 1000 + seconds} ${mac} ${ip} * *\n`

describe('leases', () => {
  const sources = () => `leases: [{format: dnsmasq, file: ${file('leases')}}]`
  it('bring the pair that a device claims into the sets of its tags, as they come and go', async () => {
    await writeFile(file('leases'), lease(3_600) + lease(3_600, OTHER, '10.9.1.103'))
    const { healthy, becomes } = await watching(sources(), laptopRecord(1, { addresses: [IP, '10.9.1.103'], macs: [MAC] }))
    await becomes([IP])
    expect(healthy('mac')).toEqual([MAC])
    await writeFile(file('next'), '')
    await rename(file('next'), file('leases'))
    await becomes([])
    expect(healthy('mac')).toEqual([])
    await appendFile(file('leases'), lease(3_600))
    await becomes([IP])
  })
  it('end by themselves, also when nobody writes or the file goes, which is said once', async () => {
    await writeFile(file('leases'), lease(600))
    const { becomes, clock, events } = await watching(sources(), laptopRecord(1, { addresses: [IP], macs: [MAC] }))
    await becomes([IP])
    await rm(file('leases'))
    await until('the failure', async () => {
      clock.advance(1_000)
      await new Promise(setImmediate)
      return events().some(({ event }) => event === 'sight-source-failed')
    })
    await becomes([IP])
    clock.advance(600_000)
    await becomes([])
    expect(events().filter(({ event }) => event === 'sight-source-failed')).toHaveLength(1)
    await writeFile(file('leases'), lease(3_600))
    await becomes([IP])
    expect(events().some(({ event }) => event === 'sight-source-back')).toBe(true)
  })
  it.each(['a pipe', 'a device', 'a directory'])('are not read where %s stands instead of the file, and nobody waits for it', async (what) => {
    await writeFile(file('leases'), lease(600))
    const { becomes, clock, events } = await watching(sources(), laptopRecord(1, { addresses: [IP], macs: [MAC] }))
    await becomes([IP])
    await rm(file('leases'))
    if (what === 'a pipe') execFileSync('mkfifo', [file('leases')])
    else await symlink(what === 'a device' ? '/dev/zero' : directory, file('leases'))
    await until('the failure', async () => {
      clock.advance(1_000)
      await new Promise(setImmediate)
      return events().some((said) => said.event === 'sight-source-failed' && /regular file|EISDIR/.test(JSON.stringify(said)))
    })
    await rm(file('leases'))
    await writeFile(file('leases'), '')
    await becomes([])
  })
  it('are worth nothing where another MAC answers', async () => {
    await writeFile(file('leases'), lease(3_600))
    const { becomes, table, clock } = await watching(sources(), laptopRecord(1, { addresses: [IP], macs: [MAC] }))
    await becomes([IP])
    table.apply({ address: IP, link: 'lan', mac: OTHER, state: 'REACHABLE' }, clock.now())
    await becomes([])
  })
})

describe('clients of a VPN', () => {
  const sources = () => `vpn: [{name: office, file: ${file('clients')}}, {name: other, command: [/bin/cat, ${file('others')}], everySeconds: 5}]`
  beforeEach(async () => {
    await Promise.all(['clients', 'others'].map((name) => writeFile(file(name), '')))
  })
  const list = async (name: string, text: string, at = NOW) => {
    await writeFile(file(name), text)
    await utimes(file(name), at / 1000, at / 1000)
  }
  it('bear the tags of the device that the server knows, or of whoever claims the address', async () => {
    await list('clients', `10.8.0.2 ${uidOf(1)} ${NOW / 1000 + 3_600}\n`)
    await list('others', '10.8.0.3\n')
    const { becomes } = await watching(sources(), laptopRecord(1), laptopRecord(2, { addresses: ['10.8.0.3'] }))
    await becomes(['10.8.0.2', '10.8.0.3'])
    await list('clients', '', NOW + 1_000)
    await becomes(['10.8.0.3'])
  })
  it('whom nobody knows bear nothing, whoever else claims that address', async () => {
    await list('clients', `10.8.0.2 ${uidOf(9)}\n10.8.0.4 ${uidOf(1)}\n`)
    const { becomes } = await watching(sources(), laptopRecord(1), laptopRecord(2, { addresses: ['10.8.0.2'] }))
    await becomes(['10.8.0.4'])
  })
  it('of a server that died end when its list is older than a sight', async () => {
    await list('clients', `10.8.0.2 ${uidOf(1)}\n`)
    const { becomes, clock } = await watching(sources(), laptopRecord(1))
    await becomes(['10.8.0.2'])
    clock.advance(120_000)
    await becomes([])
  })
})

describe('the file that names them', () => {
  it.each([
    ['leases: [{format: dnsmasq, file: leases}]', 'leases.0.file must be a whole path, from /'],
    ['leases: [{format: bind, file: /x}]', 'leases.0.format'],
    ['wireguard: [{interface: "wg0; rm"}]', 'wireguard.0.interface must be the name of an interface'],
    ['wireguard: [{interface: wg0, peers: {x: y}}]', 'wireguard.0.peers'],
    ['leases: [{format: kea, file: /x}, {format: kea, file: /x}]', 'leases.1 is named above already'],
    ['vpn: [{name: a, command: []}]', 'vpn.0'],
    ['vpns: []', 'vpns'],
    ['leases: [', 'Flow sequence'],
  ])('is refused whole for %s', (yaml, wanted) => {
    const read = readSources(yaml)
    expect(read.ok ? '' : read.errors.join()).toContain(wanted)
  })
  it('has a schema, and is checked with what each source tells', async () => {
    expect(JSON.stringify(sourcesSchema())).toContain('isc-dhcpd')
    await writeFile(file('leases'), `${Math.floor(Date.now() / 1000) + 600} ${MAC} ${IP} * *\nnonsense\n`)
    await writeFile(file('sights.yaml'), `leases: [{format: dnsmasq, file: ${file('leases')}}, {format: kea, file: ${file('none.csv')}}]`)
    const said: string[] = []
    const run = () => runFirewallCommand({ verb: 'firewall-check', file: file('sights.yaml'), json: false }, { print: (text) => said.push(text), tell: (text) => said.push(text), now: Date.now })
    expect(await run()).toBe(1)
    expect(said[0]).toBe(`dnsmasq ${file('leases')}: 1 addresses, 1 entries are no sight`)
    expect(said[1]).toContain('ENOENT')
  })
})
