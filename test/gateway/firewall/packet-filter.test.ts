// The kernel's sets against everything that may happen to them: other people's changes, a silent EMS, lost authority, renamed tags, a broken nft.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { EndpointRecord } from '../../../domain/access/endpoint-record.ts'
import type { Commands } from '../../../gateway/firewall/commands.ts'
import { startFirewall, type Firewall, type FirewallOptions } from '../../../gateway/firewall/start.ts'
import { createMetrics } from '../../../gateway/metrics/metrics.ts'
import { systemTimers } from '../../../node/timers.ts'
import { slowness } from '../../pace.ts'
import { readableLog, until } from '../fabric/follower-under-test.ts'
import { FINANCE, HEALTHY, holdWorld, laptopRecord, uidOf, type HeldWorld } from './held-world.ts'
import { kernelSet, LAPTOP, makeNamespaces, whyNoNamespaces, type Namespaces } from './namespaces.ts'

let spaces: Namespaces
let world: HeldWorld
let firewall: Firewall | null = null
let logged: () => { event: string }[]

const laptop = (over: Partial<EndpointRecord> = {}) => laptopRecord(1, { addresses: [LAPTOP.ip4], macs: [LAPTOP.mac], ...over })
const nft = (...args: string[]) => spaces.inside(spaces.gateway, 'nft', ...args)
const set = (name: string) => kernelSet(spaces, name)
const holds = (name: string, elements: string[] | null) => until(`${name} to hold ${JSON.stringify(elements)}`, async () => JSON.stringify(await set(name)) === JSON.stringify(elements))
const neighbour = (address: string, mac: string, state = 'permanent') => spaces.inside(spaces.gateway, 'ip', 'neigh', 'replace', address, 'lladdr', mac, 'dev', 'lan', 'nud', state)

async function start(over: Partial<FirewallOptions> = {}): Promise<Firewall> {
  const { log, events } = readableLog()
  logged = events
  firewall = await startFirewall({
    world, client: null, serial: 'SPGW0123456789AB', commands: spaces.commands, filter: true, sightMs: 120_000, staleMs: 180_000, networks: () => [{ link: 'lan', cidr: '10.9.1.1/24' }],
    metrics: createMetrics(), timers: systemTimers, now: Date.now, log, ...over,
  })
  return firewall
}

beforeAll(async () => {
  if (whyNoNamespaces === null) spaces = await makeNamespaces()
})
afterAll(async () => {
  if (whyNoNamespaces === null) await spaces.remove()
})

describe.skipIf(whyNoNamespaces !== null)(`the sets of the packet filter${whyNoNamespaces === null ? '' : ` (${whyNoNamespaces})`}`, () => {
  beforeEach(async () => {
    world = holdWorld(Date.now())
    world.put(laptop())
    await spaces.inside(spaces.gateway, 'ip', 'neigh', 'flush', 'all', 'nud', 'permanent')
    await neighbour(LAPTOP.ip4, LAPTOP.mac)
  })
  afterEach(async () => {
    await firewall?.close()
    firewall = null
    await nft('flush', 'ruleset')
  })

  it('are one each for IPv4, IPv6 and MAC by tag, named in their comments, right when it has started', async () => {
    await start()
    expect(await set('ip4_healthy')).toEqual([LAPTOP.ip4])
    expect(await set('mac_healthy')).toEqual([LAPTOP.mac])
    expect(await set('ip6_healthy')).toEqual([])
    expect(await set('ip4_Finance_20_5fEU_5f')).toEqual([])
    expect(await nft('list', 'set', 'inet', 'sallyport', 'ip4_Finance_20_5fEU_5f')).toContain('comment "Finance _EU_"')
  })

  it('follow tags and claims at once', async () => {
    await start()
    world.put(laptop({ tags: new Map([[FINANCE, { validUntil: null }]]) }))
    await holds('ip4_healthy', [])
    await holds('ip4_Finance_20_5fEU_5f', [LAPTOP.ip4])
    world.put(laptop({ addresses: ['10.9.1.77'] }))
    await holds('ip4_Finance_20_5fEU_5f', [])
    await neighbour('10.9.1.77', LAPTOP.mac)
    await holds('ip4_healthy', ['10.9.1.77'])
  })

  it('hold an element no longer than its tag lasts, though nobody takes it out', async () => {
    await start()
    world.put(laptop({ tags: new Map([[HEALTHY, { validUntil: Date.now() + 300 }]]) }))
    await holds('ip4_healthy', [])
    expect(firewall?.addresses.elementsOf('ip4_healthy').get(LAPTOP.ip4) ?? 0).toBeLessThanOrEqual(Date.now())
  })

  it('are mended when somebody flushes them, deletes the table, adds or prolongs an element', async () => {
    await start()
    await nft('flush', 'set', 'inet', 'sallyport', 'ip4_healthy')
    await holds('ip4_healthy', [LAPTOP.ip4])
    await nft('delete', 'table', 'inet', 'sallyport')
    await holds('mac_healthy', [LAPTOP.mac])
    await nft('add', 'element', 'inet', 'sallyport', 'ip4_healthy', '{ 10.9.1.66, 127.0.0.1 timeout 1h }')
    await holds('ip4_healthy', [LAPTOP.ip4])
    await nft('delete element inet sallyport ip4_healthy { 10.9.1.2 }; add element inet sallyport ip4_healthy { 10.9.1.2 timeout 9h }')
    await until('the shorter time', async () => !(await nft('list', 'set', 'inet', 'sallyport', 'ip4_healthy')).includes('timeout 9h'))
    expect(logged().filter(({ event }) => event === 'filter-mended').length).toBeGreaterThanOrEqual(4)
  })

  it('leave alone what is not theirs in the table', async () => {
    await nft('add table inet sallyport; add set inet sallyport admins { type ipv4_addr; }; add element inet sallyport admins { 192.0.2.1 }')
    await start()
    world.put(laptop({ tags: new Map() }))
    await holds('ip4_healthy', [])
    expect(await set('admins')).toEqual(['192.0.2.1'])
  })

  it('are emptied when the EMS has been silent for too long, and filled when it speaks again', async () => {
    await start()
    expect(await set('ip4_healthy')).toEqual([LAPTOP.ip4])
    // It spoke last so long ago that the time is up in a moment, when nothing but the clock moves.
    world.change({ currentAt: Date.now() - 179_500 }, new Set())
    await holds('ip4_healthy', [])
    world.change({ currentAt: Date.now() }, new Set())
    await holds('ip4_healthy', [LAPTOP.ip4])
  })

  it('are emptied at once when this gateway loses its authority, and stay for the rules that use them', async () => {
    await start()
    const before = Date.now()
    world.forget()
    await holds('ip4_healthy', [])
    await holds('mac_healthy', [])
    const tookMs = Date.now() - before
    expect(tookMs).toBeLessThan(1_000 * await slowness())
  })

  it('go with their tag, unless a rule uses them: then they stay, empty', async () => {
    await start()
    await nft('add chain inet sallyport access; add rule inet sallyport access ip saddr @ip4_healthy accept')
    world.change({ tagNames: new Map([[HEALTHY, 'well']]) }, 'all')
    await holds('ip4_well', [LAPTOP.ip4])
    await holds('mac_healthy', null)
    expect(await set('ip4_healthy')).toEqual([])
  })

  it('are written by one transaction for many devices, and again only for what changed', async () => {
    const written: string[] = []
    const commands: Commands = {
      ...spaces.commands,
      run(program, args, input, started) {
        if (program === 'nft' && args[0] === '-f') written.push(input ?? '')
        return spaces.commands.run(program, args, input, started)
      },
    }
    const numbers = Array.from({ length: 500 }, (_, index) => index + 2)
    const of = (number: number, over: Partial<EndpointRecord> = {}) => {
      const low = number.toString(16).padStart(4, '0')
      return laptopRecord(number, { addresses: [`10.77.${number >> 8}.${number & 255}`], macs: [`02:00:00:00:${low.slice(0, 2)}:${low.slice(2)}`], ...over })
    }
    world.put(...numbers.map((number) => of(number)))
    const batch = numbers.map((number) => `neigh replace ${of(number).addresses[0]} lladdr ${of(number).macs[0]} dev lan nud permanent`)
    expect((await spaces.commands.run('ip', ['-batch', '-'], `${batch.join('\n')}\n`)).code).toBe(0)
    await start({ commands })
    expect(await set('ip4_healthy')).toHaveLength(501)
    expect(written).toHaveLength(1)
    world.put(of(100, { tags: new Map() }))
    await until('the removal', async () => (await set('ip4_healthy'))?.length === 500)
    expect(written).toHaveLength(2)
    expect(written[1]?.match(/10\.77\./g)).toHaveLength(2) // added and deleted, so that its absence would not matter
  })

  it('let a gateway not start that can not keep them', async () => {
    const failing: Commands = { ...spaces.commands, run: (program, args, input, started) => program === 'nft' ? Promise.resolve({ code: 1, output: '', errors: 'Operation not permitted' }) : spaces.commands.run(program, args, input, started) }
    await expect(start({ commands: failing })).rejects.toThrow('Operation not permitted')
    await nft('add table inet sallyport; add set inet sallyport ip4_healthy { type ipv6_addr; }')
    await expect(start()).rejects.toThrow('of another type stand under our names: ip4_healthy')
  })

  it('are right again after nft had failed for a while', async () => {
    let broken = false
    const commands: Commands = { ...spaces.commands, run: (program, args, input, started) => program === 'nft' && broken ? Promise.reject(new Error('nft can not be run')) : spaces.commands.run(program, args, input, started) }
    await start({ commands })
    broken = true
    world.put(laptop({ tags: new Map() }))
    await until('the failure', () => logged().some(({ event }) => event === 'filter-failed'))
    expect(await set('ip4_healthy')).toEqual([LAPTOP.ip4])
    broken = false
    await holds('ip4_healthy', [])
    await until('the word of it', () => logged().some(({ event }) => event === 'filter-recovered'))
  })

  it('hold the pair of a device that is found where it says it is, before it has sent a packet through', async () => {
    await spaces.inside(spaces.gateway, 'ip', 'neigh', 'del', LAPTOP.ip4, 'dev', 'lan')
    await start()
    expect(await set('ip4_healthy')).toEqual([])
    world.put(laptop({ hostName: 'woken' }))
    await holds('ip4_healthy', [LAPTOP.ip4])
    expect(uidOf(1)).toBe(firewall?.addresses.claims.claimantsOf(LAPTOP.ip4)[0]?.uid)
  })

  it('lose an entry that nothing confirms', async () => {
    await neighbour(LAPTOP.ip4, LAPTOP.mac, 'stale')
    await start({ sightMs: 400, networks: () => [], commands: { ...spaces.commands, run: (program, args, input, started) => args.includes('-batch') ? Promise.resolve({ code: 0, output: '', errors: '' }) : spaces.commands.run(program, args, input, started) } })
    await holds('ip4_healthy', [])
    await holds('mac_healthy', [])
  })
})
