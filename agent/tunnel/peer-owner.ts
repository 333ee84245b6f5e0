// Which user of this machine holds the other end of a loopback connection, and what it had dialled. Where it can't be told, the answer is null and nobody is served.
import { readFile } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { endianness } from 'node:os'
import ipaddr from 'ipaddr.js'

/** The states in which a process still holds the socket open: ESTABLISHED, FIN_WAIT1, FIN_WAIT2. An orphan shows uid 0, whoever made it. */
const held = new Set(['01', '04', '05'])

export interface End { readonly address: string; readonly port: number }

/** `address:port` as /proc/net/tcp writes it: each 32-bit word of the address in the machine's byte order. */
function procAddress(bytes: number[], port: number): string {
  const words = Array.from({ length: bytes.length / 4 }, (_, word) => bytes.slice(word * 4, word * 4 + 4))
  const hex = words.flatMap((word) => (endianness() === 'LE' ? word.toReversed() : word)).map((byte) => byte.toString(16).padStart(2, '0')).join('')
  return `${hex}:${port.toString(16).padStart(4, '0')}`.toUpperCase()
}

/** How an address and port may stand in the tables. A program with an AF_INET6 socket reaches an IPv4 address too, and stands in tcp6 with a mapped one. */
function spellings({ address, port }: End): string[] {
  const parsed = ipaddr.process(address)
  const mapped = parsed instanceof ipaddr.IPv4 ? parsed.toIPv4MappedAddress() : parsed
  return [...new Set([procAddress(parsed.toByteArray(), port), procAddress(mapped.toByteArray(), port)])]
}

/** The address and port of a spelling. */
function endOf(spelling: string): End | null {
  const [, hex = '', port = ''] = /^([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4})$/.exec(spelling) ?? []
  if (hex === '') return null
  const words = Array.from({ length: hex.length / 8 }, (_, word) => [...Buffer.from(hex.slice(word * 8, word * 8 + 8), 'hex')])
  return { address: ipaddr.process(ipaddr.fromByteArray(words.flatMap((word) => (endianness() === 'LE' ? word.toReversed() : word))).toString()).toString(), port: Number.parseInt(port, 16) }
}

interface Row { readonly remote: string; readonly uid: number }
/** Rows of sockets that a process holds open, by a piece of their text that begins with the local end. */
function heldRows(tables: readonly string[], piece: string): Row[] {
  const rows: Row[] = []
  for (const table of tables) {
    for (let at = table.indexOf(piece); at !== -1; at = table.indexOf(piece, at + 1)) {
      const end = table.indexOf('\n', at)
      const [, remote = '', state, , , , uid, , inode] = table.slice(at + 1, end === -1 ? undefined : end).trim().split(/\s+/)
      if (held.has(state ?? '') && inode !== undefined && inode !== '0' && /^\d+$/.test(uid ?? '')) rows.push({ remote, uid: Number(uid) })
    }
  }
  return rows
}

/**
 * Finds the owner in the text of /proc/net/tcp and tcp6.
 * @param tables the texts of both tables
 * @param peer the client's end, ours the end that we accepted
 * @returns the uid; null when no entry, or entries of several users, answer to it
 */
export function ownerIn(tables: string[], peer: End, ours: End): number | null {
  const pairs = spellings(peer).flatMap((local) => spellings(ours).map((remote) => ` ${local} ${remote} `))
  const owners = new Set(pairs.flatMap((pair) => heldRows(tables, pair).map(({ uid }) => uid)))
  const [owner] = owners
  return owners.size === 1 && owner !== undefined ? owner : null
}

/** What a program of this machine dialled, and whose it is. */
export interface Dialled extends End { readonly uid: number }

/**
 * Finds what the holder of a socket dialled, which is not where the packet filter has led it: its own row keeps that.
 * @param peer the client's end of a connection that we accepted
 * @param mayBe a port may lead to several destinations at once; those that can't be meant are left out
 * @returns null when no socket, or several, answer to it
 */
export function dialledIn(tables: readonly string[], peer: End, mayBe: (dialled: Dialled) => boolean): Dialled | null {
  const rows = spellings(peer).flatMap((local) => heldRows(tables, `: ${local} `))
  const found = rows.flatMap(({ remote, uid }) => {
    const end = endOf(remote)
    return end === null ? [] : [{ ...end, uid }]
  }).filter(mayBe)
  const [dialled] = found
  return found.length === 1 && dialled !== undefined ? dialled : null
}

/** The kernel's tables. tcp6 is absent where IPv6 is off; a table that can't be read holds no entry, and no entry means no service. */
export async function tcpTables(): Promise<string[]> {
  const tables = await Promise.allSettled([readFile('/proc/net/tcp', 'latin1'), readFile('/proc/net/tcp6', 'latin1')])
  return tables.flatMap((table) => (table.status === 'fulfilled' ? [table.value] : []))
}

/**
 * The uid of the process that opened a socket which we accepted on loopback.
 * @returns null when it can't be told: the peer is gone, the table can't be read, or this is not Linux
 */
export async function peerOwner(socket: Socket): Promise<number | null> {
  const { remoteAddress, remotePort, localAddress, localPort } = socket
  if (process.platform !== 'linux' || remoteAddress === undefined || remotePort === undefined || localAddress === undefined || localPort === undefined) return null
  return ownerIn(await tcpTables(), { address: remoteAddress, port: remotePort }, { address: localAddress, port: localPort })
}
