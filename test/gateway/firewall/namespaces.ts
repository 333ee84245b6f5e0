// Network namespaces for one test: a laptop, a gateway that routes, and a server, joined by real links. Whatever runs in them sees the real kernel.
import { execFile, execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { promisify } from 'node:util'
import { systemCommands } from '../../../gateway/firewall/commands.ts'

const execute = promisify(execFile)

const answers = (program: string, ...args: string[]): boolean => {
  try {
    execFileSync(program, args, { stdio: 'ignore' })
    return true
  } catch {
    return false // not installed, or not allowed: the tests that need it say so
  }
}
/** Why network namespaces and nftables can't be used here; null when they can. */
export const whyNoNamespaces: string | null = (() => {
  if (process.getuid?.() !== 0) return 'needs root for network namespaces'
  if (!answers('ip', '-V')) return 'needs iproute2'
  if (!answers('nft', '--version')) return 'needs nftables'
  const probe = `probe-${randomBytes(3).toString('hex')}`
  const works = answers('ip', 'netns', 'add', probe) && answers('ip', 'netns', 'exec', probe, 'nft', 'list', 'ruleset')
  answers('ip', 'netns', 'del', probe)
  return works ? null : 'the kernel gives no network namespace with nftables'
})()

export const LAPTOP = { ip4: '10.9.1.2', ip6: 'fd09:1::2', mac: '02:00:00:00:01:02' }
export const SPARE_MAC = '02:00:00:00:01:99'
export const SERVER = { ip4: '10.9.2.2', ip6: 'fd09:2::2' }
export const GATEWAY_ADDRESS = { laptopSide: '10.9.1.1', serverSide: '10.9.2.1' }

export interface Namespaces {
  readonly laptop: string
  readonly gateway: string
  readonly server: string
  /** Runs a command in one of them; rejects when it fails. @returns its standard output */
  inside(name: string, ...command: string[]): Promise<string>
  /** The gateway's programs, run in its namespace. */
  readonly commands: ReturnType<typeof systemCommands>
  remove(): Promise<void>
}

/** Laptop 10.9.1.2 – gateway – server 10.9.2.2, and the same in IPv6. The gateway forwards; each side routes through it. */
export async function makeNamespaces(): Promise<Namespaces> {
  const mark = randomBytes(3).toString('hex')
  const [laptop, gateway, server] = [`laptop-${mark}`, `gateway-${mark}`, `server-${mark}`]
  const ip = (...args: string[]) => execute('ip', args)
  const inside = async (name: string, ...command: string[]) => (await execute('ip', ['netns', 'exec', name, ...command])).stdout
  for (const name of [laptop, gateway, server]) {
    await ip('netns', 'add', name)
    // Duplicate address detection would make every address wait for a second.
    await inside(name, 'sysctl', '-qw', 'net.ipv6.conf.default.accept_dad=0', 'net.ipv6.conf.all.accept_dad=0')
    await ip('-n', name, 'link', 'set', 'lo', 'up')
  }
  await ip('link', 'add', 'lan', 'netns', gateway, 'address', '02:00:00:00:01:01', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', laptop, 'address', LAPTOP.mac)
  await ip('link', 'add', 'dmz', 'netns', gateway, 'address', '02:00:00:00:02:01', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', server, 'address', '02:00:00:00:02:02')
  const sides = [[gateway, 'lan', '10.9.1.1', 'fd09:1::1'], [laptop, 'eth0', LAPTOP.ip4, LAPTOP.ip6], [gateway, 'dmz', '10.9.2.1', 'fd09:2::1'], [server, 'eth0', SERVER.ip4, SERVER.ip6]] as const
  for (const [name, link, ip4, ip6] of sides) {
    await ip('-n', name, 'addr', 'add', `${ip4}/24`, 'dev', link)
    await ip('-n', name, 'addr', 'add', `${ip6}/64`, 'dev', link)
    await ip('-n', name, 'link', 'set', link, 'up')
  }
  // Three questions without an answer, a second apart, would be a long time for a test.
  await inside(gateway, 'sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1', 'net.ipv4.neigh.lan.retrans_time_ms=100', 'net.ipv6.neigh.lan.retrans_time_ms=100')
  for (const [name, ip4, ip6] of [[laptop, '10.9.1.1', 'fd09:1::1'], [server, '10.9.2.1', 'fd09:2::1']] as const) {
    await ip('-n', name, 'route', 'add', 'default', 'via', ip4)
    await ip('-n', name, '-6', 'route', 'add', 'default', 'via', ip6)
  }
  return {
    laptop, gateway, server, inside, commands: systemCommands(['ip', 'netns', 'exec', gateway]),
    async remove() {
      for (const name of [laptop, gateway, server]) await ip('netns', 'del', name)
    },
  }
}

/** Elements of a set in the kernel; null when there is no such set. */
export async function kernelSet({ inside, gateway }: Namespaces, set: string): Promise<string[] | null> {
  const listed = await inside(gateway, 'nft', '-j', 'list', 'table', 'inet', 'sallyport').catch(() => '{"nftables":[]}')
  const { nftables } = JSON.parse(listed) as { nftables: { set?: { name: string; elem?: (string | { elem: { val: string } })[] } }[] }
  const found = nftables.find((entry) => entry.set?.name === set)?.set
  return found === undefined ? null : (found.elem ?? []).map((each) => (typeof each === 'string' ? each : each.elem.val)).sort()
}
