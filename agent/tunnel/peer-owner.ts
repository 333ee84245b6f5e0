// Which user of this machine holds the other end of a loopback connection. Where it can't be told, the answer is null and nobody is served.
import { readFile } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { endianness } from 'node:os'
import ipaddr from 'ipaddr.js'

/** The states in which a process still holds the socket open: ESTABLISHED, FIN_WAIT1, FIN_WAIT2. An orphan shows uid 0, whoever made it. */
const held = new Set(['01', '04', '05'])

/** `address:port` as /proc/net/tcp writes it: each 32-bit word of the address in the machine's byte order. */
function procAddress(bytes: number[], port: number): string {
  const words = Array.from({ length: bytes.length / 4 }, (_, word) => bytes.slice(word * 4, word * 4 + 4))
  const hex = words.flatMap((word) => (endianness() === 'LE' ? word.toReversed() : word)).map((byte) => byte.toString(16).padStart(2, '0')).join('')
  return `${hex}:${port.toString(16).padStart(4, '0')}`.toUpperCase()
}

/**
 * Finds the owner in the text of /proc/net/tcp and tcp6.
 * @param tables the texts of both tables
 * @param peer the client's end, ours the end that we accepted
 * @returns the uid; null when no entry, or entries of several users, answer to it
 */
export function ownerIn(tables: string[], peer: { address: string; port: number }, ours: { address: string; port: number }): number | null {
  const spellings = ({ address, port }: { address: string; port: number }): string[] => {
    const parsed = ipaddr.process(address)
    const mapped = parsed instanceof ipaddr.IPv4 ? parsed.toIPv4MappedAddress() : parsed
    // A client with an AF_INET6 socket reaches 127.0.0.1 too, and stands in tcp6 with a mapped address.
    return [...new Set([procAddress(parsed.toByteArray(), port), procAddress(mapped.toByteArray(), port)])]
  }
  const wanted = spellings(peer).flatMap((local) => spellings(ours).map((remote) => ` ${local} ${remote} `))
  const owners = new Set<number>()
  for (const table of tables) {
    for (const pair of wanted) {
      for (let at = table.indexOf(pair); at !== -1; at = table.indexOf(pair, at + 1)) {
        const end = table.indexOf('\n', at)
        const [, , state, , , , uid, , inode] = table.slice(at + 1, end === -1 ? undefined : end).trim().split(/\s+/)
        if (held.has(state ?? '') && inode !== undefined && inode !== '0' && /^\d+$/.test(uid ?? '')) owners.add(Number(uid))
      }
    }
  }
  const [owner] = owners
  return owners.size === 1 && owner !== undefined ? owner : null
}

/**
 * The uid of the process that opened a socket which we accepted on loopback.
 * @returns null when it can't be told: the peer is gone, the table can't be read, or this is not Linux
 */
export async function peerOwner(socket: Socket): Promise<number | null> {
  const { remoteAddress, remotePort, localAddress, localPort } = socket
  if (process.platform !== 'linux' || remoteAddress === undefined || remotePort === undefined || localAddress === undefined || localPort === undefined) return null
  const tables = await Promise.allSettled([readFile('/proc/net/tcp', 'latin1'), readFile('/proc/net/tcp6', 'latin1')])
  return ownerIn(
    // tcp6 is absent where IPv6 is off; a table that can't be read holds no entry, and no entry means no service.
    tables.flatMap((table) => (table.status === 'fulfilled' ? [table.value] : [])),
    { address: remoteAddress, port: remotePort }, { address: localAddress, port: localPort },
  )
}
