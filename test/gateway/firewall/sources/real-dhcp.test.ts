// A real DHCP server and a real client in network namespaces: the pair that was leased enters the kernel's set of its tag on a gateway that shares no link with either.
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemCommands } from '../../../../gateway/firewall/commands.ts'
import { sightSources } from '../../../../gateway/firewall/sources/sources-file.ts'
import { startFirewall, type Firewall } from '../../../../gateway/firewall/start.ts'
import { createMetrics } from '../../../../gateway/metrics/metrics.ts'
import { silentLog } from '../../../../node/logging.ts'
import { systemTimers } from '../../../../node/timers.ts'
import { until } from '../../fabric/follower-under-test.ts'
import { holdWorld, laptopRecord } from '../held-world.ts'
import { kernelSet, whyNoNamespaces, type Namespaces } from '../namespaces.ts'

const execute = promisify(execFile)
const MAC = '02:00:00:00:07:02'
const [DNSMASQ, UDHCPC] = ['/usr/sbin/dnsmasq', '/usr/sbin/udhcpc']
const missing = [...(whyNoNamespaces === null ? [] : [whyNoNamespaces]), ...(existsSync(DNSMASQ) ? [] : ['needs Debian\'s dnsmasq-base']), ...(existsSync(UDHCPC) ? [] : ['needs Debian\'s udhcpc'])]

describe.skipIf(missing.length > 0)(`leases of a real DHCP server${missing.length > 0 ? ` (${missing.join(', ')})` : ''}`, () => {
  const mark = randomBytes(3).toString('hex')
  const [server, client, gateway] = [`dhcp-${mark}`, `client-${mark}`, `gate-${mark}`]
  const inside = async (name: string, ...command: string[]) => (await execute('ip', ['netns', 'exec', name, ...command])).stdout
  const running: ChildProcess[] = []
  let directory: string
  let firewall: Firewall
  const world = holdWorld(Date.now())
  const leases = () => join(directory, 'leases')
  const set = (family: string) => kernelSet({ inside, gateway } as unknown as Namespaces, `${family}_healthy`)

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'dhcp-'))
    for (const name of [server, client, gateway]) await execute('ip', ['netns', 'add', name])
    await execute('ip', ['link', 'add', 'eth0', 'netns', server, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', client, 'address', MAC])
    await execute('ip', ['-n', server, 'addr', 'add', '10.97.1.1/24', 'dev', 'eth0'])
    for (const name of [server, client]) await execute('ip', ['-n', name, 'link', 'set', 'eth0', 'up'])
    await writeFile(leases(), '')
    running.push(spawn('ip', ['netns', 'exec', server, DNSMASQ, '--keep-in-foreground', '--conf-file=/dev/null', '--port=0', '--interface=eth0', '--dhcp-authoritative', '--no-ping', '--user=root',
      '--pid-file=', '--dhcp-range=10.97.1.50,10.97.1.60,1h', `--dhcp-leasefile=${leases()}`], { stdio: 'ignore' }))
    firewall = await startFirewall({
      world, client: null, serial: 'SPGW0123456789AB', commands: systemCommands(['ip', 'netns', 'exec', gateway]), filter: true, sightMs: 120_000, staleMs: 3_600_000,
      sources: sightSources.parse({ leases: [{ format: 'dnsmasq', file: leases() }] }), networks: () => [], metrics: createMetrics(), timers: systemTimers, now: Date.now, log: silentLog(),
    })
  })
  afterAll(async () => {
    await firewall?.close()
    for (const child of running) {
      const ended = once(child, 'exit')
      if (child.exitCode === null && child.kill('SIGKILL')) await ended
    }
    for (const name of [server, client, gateway]) await execute('ip', ['netns', 'del', name])
    await rm(directory, { recursive: true, force: true })
  })

  it('bring address and MAC into the sets of the tag of the device that claims both, and out again when it gives the address back', async () => {
    // A release comes from the address itself, so the client must wear it.
    const script = join(directory, 'script')
    await writeFile(script, '#!/bin/sh\n[ "$1" != bound ] || ip addr add "$ip/24" dev "$interface"\n', { mode: 0o755 })
    const dhcp = spawn('ip', ['netns', 'exec', client, UDHCPC, '--foreground', '--interface=eth0', `--script=${script}`, '--release'], { stdio: 'ignore' })
    running.push(dhcp)
    const address = await until('a lease', async () => / 02:00:00:00:07:02 (10\.97\.1\.\d+) /.exec(await readFile(leases(), 'utf8'))?.[1])
    expect(await set('ip4')).toEqual([])
    // Only what the device itself says is its own is looked at.
    world.put(laptopRecord(1, { addresses: [address], macs: ['02:00:00:00:07:99'] }))
    await until('the lease to be read', () => firewall.addresses.told.at(address, Date.now()).length > 0)
    expect(await set('ip4')).toEqual([])
    world.put(laptopRecord(1, { addresses: [address], macs: [MAC] }))
    await until('the set', async () => JSON.stringify([await set('ip4'), await set('mac')]) === JSON.stringify([[address], [MAC]]))
    await until('the client to wear it', async () => (await inside(client, 'ip', 'addr')).includes(`${address}/24`))
    const ended = once(dhcp, 'exit')
    dhcp.kill('SIGTERM')
    await ended
    await until('empty sets', async () => JSON.stringify([await set('ip4'), await set('mac')]) === '[[],[]]')
  })
})
