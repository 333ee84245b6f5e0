// What the probes read on Linux, from texts of real tools and from a machine laid out as files.
import type { NetworkInterfaceInfo } from 'node:os'
import { afterEach, describe, expect, it } from 'vitest'
import { linuxHardware, meaningful } from '../../../agent/posture/linux/hardware.ts'
import { connected, linuxNetwork, parseArp, parseResolv, parseRoutes } from '../../../agent/posture/linux/network.ts'
import { linuxOs, parseOsRelease } from '../../../agent/posture/linux/os.ts'
import { linuxVulnerabilities, parseUpgrades } from '../../../agent/posture/linux/vulnerabilities.ts'
import { portableHardware, portableNetwork, portableOs } from '../../../agent/posture/portable.ts'
import { asLine, readCommand, readNames, readText } from '../../../agent/posture/read.ts'
import { sections } from '../../../protocol/facts.ts'
import { closeAll } from '../agent-under-test.ts'
import { machine } from './machine.ts'

afterEach(closeAll)

describe('vulnerabilities', () => {
  const upgrades = 'Inst openssl [3.0.1] (3.0.2 Debian-Security:12/stable-security [amd64])\nInst bash [5.1] (5.2 Debian:12.5/stable [amd64])\nInst new (1 Debian-Security:12 [amd64])\nConf openssl (x)\n'
  it('are installed packages with a newer version in a security archive', () => {
    expect(parseUpgrades(upgrades)).toEqual([{ id: 'update:openssl', name: 'openssl 3.0.1 has a security update: 3.0.2', severity: 'unrated', package: 'openssl' }])
  })
  it('are not known without package lists, and keep the time of the last change', async () => {
    let ms = 5
    expect(await linuxVulnerabilities(await machine({}), () => ms, () => Promise.resolve(''))()).toBeNull()
    const root = await machine({ 'var/lib/apt/lists/deb.debian.org_Packages': '' })
    let text: string | null = upgrades
    const scan = linuxVulnerabilities(root, () => ms, () => Promise.resolve(text))
    expect((await scan())?.scannedAt).toBe(5)
    ms = 9
    expect((await scan())?.scannedAt).toBe(5)
    text = ''
    expect(await scan()).toEqual({ scannedAt: 9, scanner: 'apt', found: [] })
    text = null
    expect(await scan()).toBeNull()
  })
})

describe('the network', () => {
  const info = (over: Partial<NetworkInterfaceInfo>): NetworkInterfaceInfo => ({ address: '10.0.0.5', netmask: '255.255.255.0', family: 'IPv4', mac: '02:00:00:00:00:01', internal: false, cidr: '10.0.0.5/24', ...over } as NetworkInterfaceInfo)
  it('is what is connected: no loopback, no adapter without a cable, in one order', async () => {
    const root = await machine({ 'sys/class/net/eth0/operstate': 'up\n', 'sys/class/net/eth1/operstate': 'down\n', 'sys/class/net/tun0/operstate': 'unknown\n', 'etc/resolv.conf': 'nameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver evil\n nameserver 10.0.0.1\n' })
    const found = await linuxNetwork(root, { tun0: [info({ mac: '00:00:00:00:00:00', address: 'fd00::2', family: 'IPv6', cidr: 'fd00::2/64' } as never)], eth1: [info({ address: '192.168.1.9' })], eth0: [info({ address: '10.0.0.6' }), info({})], lo: [info({ internal: true })], none: undefined })
    expect(sections.network.parse(found)).toEqual({
      interfaces: [{ name: 'eth0', mac: '02:00:00:00:00:01', addresses: [{ ip: '10.0.0.5', prefix: 24 }, { ip: '10.0.0.6', prefix: 24 }] }, { name: 'tun0', addresses: [{ ip: 'fd00::2', prefix: 64 }] }],
      defaultGateways: [], dnsServers: ['10.0.0.1', 'fe80::1'],
    })
  })
  it('with an interface of an odd name is reported all the same', () => {
    const odd = connected({ 'a\u0001b\u202e': [info({})], '\u0001': [info({})], ['🛜'.repeat(40)]: [info({})] }, () => true)
    expect(sections.network.safeParse({ interfaces: odd, defaultGateways: [], dnsServers: [] }).success).toBe(true)
    expect(odd.map(({ name }) => name.isWellFormed())).toEqual([true, true, true])
  })
  it('has its gateways from the kernel\'s tables', () => {
    expect(parseRoutes('Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\neth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\nx\t00000000\tZZ\t0003\t0\t0\t0\t00000000\n\n')).toEqual([{ ip: '10.0.0.1', interface: 'eth0' }])
    expect([...parseArp('IP address HW type Flags HW address Mask Device\n10.0.0.1 0x1 0x2 02:00:00:00:00:09 * eth0\n10.0.0.2 0x1 0x0 02:00:00:00:00:0a * eth0\n10.0.0.3 0x1 0x2 00:00:00:00:00:00 * eth0\nbad\n')]).toEqual([['10.0.0.1', '02:00:00:00:00:09']])
    expect(parseResolv('options ndots:5\n# nameserver 1.1.1.1\nnameserver 1.0.0.1 # two\n')).toEqual(['1.0.0.1'])
  })
})

describe('system and machine', () => {
  it('are what they state, without what makers never filled in', async () => {
    expect(Object.fromEntries(parseOsRelease('NAME="A \\"quoted\\" name"\nID=x\n# c\nVERSION_ID=\'7\'\nBAD LINE\n'))).toEqual({ NAME: 'A "quoted" name', ID: 'x', VERSION_ID: '7' })
    const debian = await linuxOs(await machine({ 'etc/os-release': 'NAME="Debian"\nID=debian\nVERSION_ID="12"\n', 'etc/debian_version': '12.11\n' }))
    expect([debian.name, debian.version]).toEqual(['Debian', '12.11'])
    expect((await linuxOs(await machine({ 'etc/os-release': 'ID=debian\n', 'etc/debian_version': 'forky/sid\n' }))).version).toBe('')
    expect(sections.os.parse(await linuxOs(await machine({}))).name).toBe('Linux')
    expect(['To be filled by O.E.M.', 'Default string', '0000000', 'System Serial Number', 'N/A', '', ' .', '123456789'].map(meaningful)).toEqual(['', '', '', '', '', '', '', ''])
    expect(meaningful(' PF1ABCDE\n')).toBe('PF1ABCDE')
    expect(sections.hardware.parse(await linuxHardware(await machine({ 'sys/class/dmi/id/product_serial': 'To be filled by O.E.M.\n', 'sys/class/dmi/id/board_serial': 'B-42\n' }))).serial).toBe('B-42')
    expect([sections.os.safeParse(portableOs()).success, sections.network.safeParse(portableNetwork()).success, sections.hardware.safeParse(portableHardware()).success]).toEqual([true, true, true])
  })
})

describe('reading', () => {
  it('takes what is not there, or not a file, for no answer, and cuts text without halving a character', async () => {
    expect([await readText('/nonexistent'), await readText('/'), await readNames('/etc/hostname')]).toEqual([null, null, null])
    expect(asLine('a\u0000b\u202ec\n', 10)).toBe('a b c')
    expect(asLine(`${'x'.repeat(9)}🛡️`, 10).isWellFormed()).toBe(true)
    expect(asLine('half \ud83d', 10)).toBe('half')
  })
  it('gives a command up that is missing, fails, says too much, takes too long or is called off', async () => {
    expect(await readCommand('no-such-command', [])).toBeNull()
    expect(await readCommand('false', [])).toBeNull()
    expect(await readCommand('sh', ['-c', 'head -c 20000000 /dev/zero'])).toBeNull()
    const begun = performance.now()
    expect(await readCommand('sleep', ['60'], 50)).toBeNull()
    const stop = new AbortController()
    const running = readCommand('sleep', ['60'], 60_000, stop.signal)
    stop.abort()
    expect(await running).toBeNull()
    expect(performance.now() - begun).toBeLessThan(30_000)
    // What may wait takes no time from the user's programs.
    expect(await readCommand('sh', ['-c', 'sleep 0.2; nice'])).toBe('19\n')
    expect(await readCommand('sh', ['-c', 'echo $PATH $LC_ALL $HOME'])).toBe('/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin C.UTF-8\n')
  })
})
