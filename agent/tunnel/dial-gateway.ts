// Dials a gateway: all addresses of its name, a quarter of a second apart, and the first that answers wins (RFC 8305). It speaks no TLS.
import { lookup } from 'node:dns/promises'
import { connect, isIP, type Socket } from 'node:net'
import type { Timers } from '../../node/timers.ts'

/** Addresses of a name, as the system's resolver orders them. */
export type Resolve = (host: string) => Promise<string[]>

// Node's own (autoSelectFamily) gives up an address when it tries the next: on a line slower than its patience only the last one counts.
const staggerMs = 250
const maxAddresses = 8

export const systemResolve: Resolve = async (host) => (await lookup(host, { all: true, verbatim: true })).map(({ address }) => address)

/** Families in turn, each in its given order: a broken IPv6 costs one step, not as many as there are addresses. */
function interleaved(addresses: readonly string[]): string[] {
  const first = isIP(addresses[0] ?? '')
  const [same, other] = [addresses.filter((each) => isIP(each) === first), addresses.filter((each) => isIP(each) !== first)]
  return same.flatMap((address, index) => [address, ...other.slice(index, index + 1)]).concat(other.slice(same.length))
}

/**
 * Connects by TCP to whichever address answers first; the others are dropped.
 * @returns a socket with probes of its own, so that a path which died under it is noticed
 * @throws Error of the last address when none can be reached within `limitMs`
 */
export async function dialGateway({ host, port, limitMs, timers, resolve = systemResolve }: {
  host: string; port: number; limitMs: number; timers: Timers; resolve?: Resolve | undefined
}): Promise<Socket> {
  const addresses = interleaved(isIP(host) === 0 ? await resolve(host) : [host]).slice(0, maxAddresses)
  const { promise, resolve: win, reject } = Promise.withResolvers<Socket>()
  const trying = new Set<Socket>()
  let failure = new Error(`${host} has no address`)
  let stopStagger = () => {}
  const finish = (won: Socket | null) => {
    stopWaiting()
    stopStagger()
    if (won === null) reject(failure)
    else win(won)
    for (const socket of trying) if (socket !== won) socket.destroy()
    trying.clear()
  }
  const stopWaiting = timers.after(limitMs, () => {
    failure = new Error(`no connection within ${limitMs} ms`)
    finish(null)
  })
  const tryNext = () => {
    stopStagger()
    const address = addresses.shift()
    if (address === undefined) {
      if (trying.size === 0) finish(null)
      return
    }
    // Node probes ten times, a second apart, once the line has been quiet for this long.
    const socket = connect({ host: address, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 15_000 })
    trying.add(socket)
    // Stays for the whole life of the socket: an 'error' without a listener ends the agent.
    socket.on('error', (error) => {
      failure = error
    })
    socket.once('connect', () => {
      if (trying.has(socket)) finish(socket)
    })
    socket.once('close', () => {
      if (trying.delete(socket)) tryNext()
    })
    stopStagger = timers.after(staggerMs, tryNext)
  }
  tryNext()
  return promise
}
