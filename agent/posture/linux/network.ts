// Where the machine is connected: interfaces that are up, default gateways, DNS servers. A disconnected adapter is no location.
import { networkInterfaces, type NetworkInterfaceInfo } from 'node:os'
import { isIP } from 'node:net'
import { join } from 'node:path'
import type { Sections } from '../../../protocol/facts.ts'
import { asLine, readText } from '../read.ts'

type Network = Sections['network']
const NO_MAC = '00:00:00:00:00:00'

/** Interfaces of the system without loopback; `isUp` says which of them are connected. */
export function connected(interfaces: NodeJS.Dict<NetworkInterfaceInfo[]>, isUp: (name: string) => boolean): Network['interfaces'] {
  return Object.entries(interfaces).flatMap(([name, all]) => {
    const addresses = (all ?? []).filter(({ internal }) => !internal)
    if (addresses.length === 0 || !isUp(name)) return []
    const mac = addresses[0]?.mac.toLowerCase()
    return [{
      name: asLine(name, 64) || '?', ...(mac === undefined || mac === NO_MAC ? {} : { mac }),
      // Temporary IPv6 addresses come in any order: sorted, so that nothing looks changed.
      addresses: addresses.map(({ address, cidr }) => ({ ip: address.split('%')[0] ?? address, prefix: Number(cidr?.split('/')[1] ?? 0) })).sort((a, b) => (a.ip < b.ip ? -1 : 1)).slice(0, 32),
    }]
  }).sort((a, b) => (a.name < b.name ? -1 : 1)).slice(0, 64)
}

/** Default routes of /proc/net/route: destination and mask zero, flags up and gateway (RTF_UP|RTF_GATEWAY). Addresses are little-endian hex. */
export function parseRoutes(text: string): { ip: string; interface: string }[] {
  return text.split('\n').slice(1).flatMap((row) => {
    const [name, destination, gateway, flags, , , , mask] = row.split(/\s+/)
    if (name === undefined || destination !== '00000000' || mask !== '00000000' || (Number.parseInt(flags ?? '0', 16) & 3) !== 3 || !/^[0-9A-F]{8}$/.test(gateway ?? '')) return []
    return [{ ip: (gateway?.match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16)).reverse().join('.'), interface: asLine(name, 64) || '?' }]
  })
}

/** `ip → mac` of /proc/net/arp, complete entries only. */
export const parseArp = (text: string): Map<string, string> => new Map(text.split('\n').slice(1).flatMap((row) => {
  const [ip, , flags, mac] = row.split(/\s+/)
  return ip === undefined || mac === undefined || flags === '0x0' || mac === NO_MAC || !/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(mac) ? [] : [[ip, mac] as const]
}))

/** Name servers of resolv.conf(5). */
export const parseResolv = (text: string): string[] => [...new Set(text.split('\n').flatMap((row) => {
  const ip = /^\s*nameserver\s+([^\s%#;]+)/.exec(row)?.[1] ?? ''
  return isIP(ip) === 0 ? [] : [ip]
}))].slice(0, 16)

/** @param root where the machine's file system begins */
export async function linuxNetwork(root: string, interfaces = networkInterfaces()): Promise<Network> {
  const states = new Map(await Promise.all(Object.keys(interfaces).map(async (name) => [name, (await readText(join(root, 'sys/class/net', name, 'operstate')))?.trim()] as const)))
  const arp = parseArp(await readText(join(root, 'proc/net/arp')) ?? '')
  const macOf = (ip: string) => { const mac = arp.get(ip); return mac === undefined ? {} : { mac } }
  return {
    // Tunnels and some virtual adapters never say `up`: `unknown` is how the kernel says that they work.
    interfaces: connected(interfaces, (name) => ['up', 'unknown', undefined].includes(states.get(name))),
    defaultGateways: parseRoutes(await readText(join(root, 'proc/net/route')) ?? '').map((route) => ({ ip: route.ip, ...macOf(route.ip), interface: route.interface })).slice(0, 16),
    dnsServers: parseResolv(await readText(join(root, 'etc/resolv.conf')) ?? ''),
  }
}
