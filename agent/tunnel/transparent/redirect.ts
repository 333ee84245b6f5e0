// Leads the enrolled user's own connections to protected addresses to a listener of the agent, by an nftables table of its own, and keeps
// everything else off the addresses of names.
//
// What was dialled is read from the client's own row of /proc/net/tcp, which also tells whose it is: the client is on this machine, and
// translation changes packets, never its socket. The other ways ask for more than Node and every kernel have: SO_ORIGINAL_DST and
// IP_TRANSPARENT (TPROXY) are socket options that Node does not set, /proc/net/nf_conntrack is compiled out of many kernels and as long
// as the machine is busy, and a port of its own for each address does not fit ranges.
//
// The agent's own connections to gateways are left alone because the agent runs as another user than the one who is redirected.
import type { Socket } from 'node:net'
import ipaddr from 'ipaddr.js'
import { listen, type Listener } from '../listener.ts'
import { dialledIn, tcpTables, type End } from '../peer-owner.ts'
import type { TunnelLog } from '../tunnel-log.ts'
import { isOfNames, namesRange } from './loopback-addresses.ts'
import type { Nft } from './nft.ts'
import type { PortRange } from './wanted.ts'

export const TABLE = 'inet sallyport_agent'
/** No error where there is none: it is made first. */
const removal = `add table ${TABLE}\ndelete table ${TABLE}\n`
const transact = (nft: Nft, text: string) => nft(['-f', '-'], text)
/** Takes away what an earlier agent has left. */
export const removeTable = (nft: Nft): Promise<string | null> => transact(nft, removal)

export interface Filtered {
  /** What is redirected, by CIDR range. */
  readonly redirected: ReadonlyMap<string, readonly PortRange[]>
  /** Addresses of names, and the ports that have a listener there. */
  readonly listened: ReadonlyMap<string, readonly PortRange[]>
}

export interface Redirect {
  /** @returns why it can't be had; null: the kernel redirects just this */
  put(wanted: Filtered): Promise<string | null>
  /** Whether the kernel holds a table of this agent. */
  stands(): boolean
  /** Takes the table away; open connections stay as they are. */
  close(): Promise<string | null>
}

const portSet = (ports: readonly PortRange[]): string => `{ ${ports.map(({ from, to }) => (from === to ? from : `${from}-${to}`)).join(', ')} }`
const isLoopback = (address: string): boolean => ipaddr.parse(address).range() === 'loopback'

/**
 * The whole table as one transaction: the kernel has the old one or the new one, never none.
 * @param port of the listener, by family; a family without one is left alone
 */
export function tableText({ uid, port, wanted }: { uid: number; port: { ip?: number; ip6?: number }; wanted: Filtered }): string {
  const rules = [...wanted.redirected].flatMap(([range, ports]) => {
    const family = ipaddr.parseCIDR(range)[0].kind() === 'ipv4' ? 'ip' : 'ip6'
    const own = isOfNames(range.split('/')[0] ?? '') && range.endsWith('/32')
    const rule = `    ${family} daddr ${range} tcp dport ${portSet(ports)} redirect to :${port[family]}`
    return port[family] === undefined ? [] : [{ own, rule }]
  })
  const text = (own: boolean) => rules.filter((each) => each.own === own).map(({ rule }) => rule)
  return [
    `${removal}table ${TABLE} {`, '  chain protected {', ...text(true),
    // What this machine says to itself is nobody's business, however wide a range is.
    '    ip daddr 127.0.0.0/8 return', '    ip6 daddr ::1 return', ...text(false), '  }',
    // Before the place of other programs' rules (-100): what is protected must not depend on theirs.
    '  chain output {', '    type nat hook output priority -110; policy accept;', `    meta skuid ${uid} meta l4proto tcp jump protected`, '  }',
    // Behind the redirection. A server that listens on every address would else answer under a protected name: to other users, and on ports
    // that are not protected. Such a name leads to what is protected or nowhere.
    '  chain names {', '    type filter hook output priority 0; policy accept;',
    ...[...wanted.listened].filter(([, ports]) => ports.length > 0).map(([address, ports]) => `    ip daddr ${address} tcp dport ${portSet(ports)} accept`),
    ...wanted.listened.size > 0 ? [`    ip daddr ${namesRange} meta l4proto tcp reject with tcp reset`, `    ip daddr ${namesRange} reject`] : [],
    '  }', '}', '',
  ].join('\n')
}

/**
 * Redirects one user's connections.
 * @param isWanted whether somebody who dialled this means the listener
 * @param serve gets each admitted socket, paused, and what was dialled
 */
export function createRedirect({ ownerUid, nft, isWanted, serve, log }: {
  ownerUid: number; nft: Nft; isWanted: (dialled: End) => boolean; serve: (socket: Socket, dialled: End) => void; log: TunnelLog
}): Redirect {
  const listeners = new Map<'ip' | 'ip6', Listener>()
  const dialled = new WeakMap<Socket, End>()
  /** What the kernel was given; null: nothing. */
  let given: string | null = null

  async function ownerOf(socket: Socket): Promise<number | null> {
    const { remoteAddress: address, remotePort: port } = socket
    if (address === undefined || port === undefined) return null
    const found = dialledIn(await tcpTables(), { address, port }, (each) => each.uid === ownerUid && (isOfNames(each.address) || !isLoopback(each.address)) && isWanted(each))
    if (found === null) return null
    dialled.set(socket, found)
    return found.uid
  }
  const take = (socket: Socket) => {
    const end = dialled.get(socket)
    if (end === undefined) socket.destroy()
    else serve(socket, end)
  }
  async function open(family: 'ip' | 'ip6', host: string): Promise<void> {
    if (!listeners.has(family)) listeners.set(family, await listen({ host, port: 0, ownerUid, ownerOf, log, serve: take }))
  }
  async function takeAway(): Promise<string | null> {
    const reason = given === null ? null : await removeTable(nft)
    if (reason === null) given = null
    return reason
  }

  return {
    async put(wanted) {
      if (wanted.redirected.size + wanted.listened.size === 0) return await takeAway()
      // No ::1 where IPv6 is off; then nobody can dial an IPv6 address either.
      await open('ip', '127.0.0.1')
      await open('ip6', '::1').catch((cause: NodeJS.ErrnoException) => {
        if (cause.code !== 'EADDRNOTAVAIL' && cause.code !== 'EAFNOSUPPORT') throw cause
      })
      const port = Object.fromEntries([...listeners].map(([family, listener]) => [family, listener.port]))
      const text = tableText({ uid: ownerUid, port, wanted })
      if (text === given) {
        if (await nft(['list', 'chain', ...TABLE.split(' '), 'output']) === null) return null
        log.warn({ event: 'redirect_repaired' }, 'Another program took the agent\'s table out of the packet filter; it is there again')
      }
      const reason = await transact(nft, text)
      if (reason === null) given = text
      return reason
    },
    stands: () => given !== null,
    async close() {
      const reason = await takeAway()
      const open = [...listeners.values()]
      listeners.clear()
      await Promise.all(open.map((listener) => listener.close()))
      return reason
    },
  }
}
