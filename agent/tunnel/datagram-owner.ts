// Which user of this machine holds a UDP port, and by which socket. Where it can't be told, the answer is null and nobody is served.
import { readFile } from 'node:fs/promises'

/** `sockets` names what is open at the port; as long as it stays the same, nobody else has held the port in between. */
export interface PortHolder { readonly uid: number; readonly sockets: string }

/**
 * Finds the holder of a port in the texts of /proc/net/udp and udp6. Whatever is bound to the port counts, at any address: a socket
 * may send from an address of this machine that it is not bound to (IP_PKTINFO).
 * @returns null when nobody, or several users, hold it
 */
export function holderIn(tables: readonly string[], port: number): PortHolder | null {
  const hex = port.toString(16).padStart(4, '0').toUpperCase()
  const row = new RegExp(`^\\s*\\d+: [0-9A-F]+:${hex} \\S+ \\S+ \\S+ \\S+ \\S+\\s+(\\d+)\\s+\\d+\\s+(\\d+) `, 'gm')
  const found = tables.flatMap((table) => [...table.matchAll(row)].map(([, uid, inode]) => ({ uid: Number(uid), inode })))
  const [first] = found
  // Inode 0: the process has gone, and the kernel shows user 0 whoever it was.
  if (first === undefined || found.some(({ uid, inode }) => uid !== first.uid || inode === '0')) return null
  return { uid: first.uid, sockets: found.map(({ inode }) => inode).sort().join() }
}

/** Who holds a UDP port of this machine now. @returns null when it can't be told, as on any system but Linux */
export async function portHolder(port: number): Promise<PortHolder | null> {
  if (process.platform !== 'linux') return null
  // udp6 is absent where IPv6 is off; without udp nothing is known.
  const [ipv4, ipv6] = await Promise.allSettled([readFile('/proc/net/udp', 'latin1'), readFile('/proc/net/udp6', 'latin1')])
  return ipv4.status === 'rejected' ? null : holderIn([ipv4.value, ipv6.status === 'fulfilled' ? ipv6.value : ''], port)
}
