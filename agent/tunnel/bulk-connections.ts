// The connections of one gateway for streams that carry much: two kept ready while such streams come, more on demand up to a bound, none when they have ceased.
import type { GatewayAddress } from '../../protocol/profile.ts'
import type { Timers } from '../../node/timers.ts'
import { openBulkConnection, type BulkConnection } from './bulk-connection.ts'
import type { Resolve } from './dial-gateway.ts'
import type { Resumable, TunnelIdentity } from './gateway-tls.ts'
import { noRevocations, type Revocations } from './revocations.ts'
import type { TunnelLog } from './tunnel-log.ts'
import { withoutZone } from './watch-path.ts'

export interface BulkConnections {
  /** One for a stream of its own; null: as many are open as may be. @throws Error when the gateway gives none */
  take(): Promise<BulkConnection | null>
  /** Such a stream is to be expected: from now on two are kept ready for a while. */
  warm(): void
  /** Ends those that nobody uses. */
  drop(): void
  /** Ends those that begin at none of these addresses of this machine. */
  leave(addresses: ReadonlySet<string>): void
  /** Ends all: the way to the gateway is gone, or nobody may use it any more. */
  breakAll(): void
}

const keptReady = 2
/** A gateway takes 256 connections of one device, browsers among them. */
const mostAtOnce = 32
/** Below the minute after which a gateway ends a connection over which nothing is asked. */
const primeEveryMs = 40_000
/** How many of these may pass without such a stream. */
const primesUnused = 3

interface Options {
  address: () => GatewayAddress
  identity: () => TunnelIdentity
  authorities: () => string[]
  /** What a connection was made with; one that was made with anything else is not used. */
  basis: () => string
  revocations?: Revocations | undefined
  resolve?: Resolve | undefined
  timers: Timers
  now: () => number
  log: TunnelLog
}

interface Kept { readonly connection: BulkConnection; readonly basis: string; readonly spoil: () => void }

export function createBulkConnections({ address, identity, authorities, basis, revocations = noRevocations, resolve, timers, now, log }: Options): BulkConnections {
  const ready = new Set<Kept>()
  const open = new Set<BulkConnection>()
  let opening = 0
  /** Raised by {@link BulkConnections.drop}: what is being opened for later is not kept. */
  let generation = 0
  let unused = 0
  let ticket: { resumable: Resumable; basis: string } | null = null
  let cancelPrime = () => {}
  let isKeeping = false

  async function connect(): Promise<Kept> {
    const at = basis()
    opening += 1
    try {
      const connection = await openBulkConnection({
        address: address(), identity: identity(), authorities: authorities(), revocations, resolve, timers, now,
        resumes: ticket?.basis === at ? ticket.resumable : null,
        onSession: (resumable) => {
          ticket = { resumable, basis: at }
        },
      })
      open.add(connection)
      connection.socket.once('close', () => open.delete(connection))
      if (connection.socket.destroyed) open.delete(connection)
      return { connection, basis: at, spoil: () => { connection.socket.destroy() } }
    } finally {
      opening -= 1
    }
  }
  const end = (kept: Kept) => {
    ready.delete(kept)
    kept.spoil()
  }
  /** Lets one wait. It reads meanwhile, for only so it hears that the gateway has ended it; whatever else comes unasked spoils it too. */
  function keep(kept: Kept): void {
    const { connection: { socket }, spoil } = kept
    ready.add(kept)
    socket.on('data', spoil).on('end', spoil).resume()
    if (socket.destroyed) ready.delete(kept)
  }
  function pick(kept: Kept): BulkConnection {
    ready.delete(kept)
    kept.connection.socket.off('data', kept.spoil).off('end', kept.spoil).pause()
    return kept.connection
  }
  function takeReady(): BulkConnection | null {
    for (const kept of ready) {
      const { connection: { socket } } = kept
      if (kept.basis === basis() && !socket.destroyed && socket.writable) return pick(kept)
      end(kept)
    }
    return null
  }

  let refilling = 0
  let priming = 0
  function refill(): void {
    if (!isKeeping) return
    while (ready.size + refilling + priming < keptReady && open.size + opening < mostAtOnce) {
      const at = generation
      refilling += 1
      connect().then((kept) => {
        if (at !== generation || !isKeeping) {
          end(kept)
          return
        }
        kept.connection.socket.once('close', () => ready.delete(kept))
        keep(kept)
        log.info({ event: 'bulk_connection_ready', gateway: address().serial }, 'A connection of its own is ready for a stream that carries much')
      }, (error: Error) => {
        // Tried again with the next stream or the next look: a gateway that is down is the link's to find again.
        log.info({ event: 'bulk_connection_failed', gateway: address().serial, cause: error.message }, 'No connection could be kept ready at the gateway')
      }).finally(() => {
        refilling -= 1
      })
    }
  }

  function primeLater(): void {
    cancelPrime()
    cancelPrime = timers.after(primeEveryMs, () => {
      unused += 1
      if (unused > primesUnused) {
        isKeeping = false
        for (const kept of ready) end(kept)
        return
      }
      for (const kept of ready) {
        // Out of the row meanwhile: a tunnel is not asked for over a connection on which another answer is outstanding.
        priming += 1
        pick(kept).prime().then((serves) => {
          if (!serves || !isKeeping) return end(kept)
          keep(kept)
          log.info({ event: 'bulk_connection_serves', gateway: address().serial }, 'A connection that is kept ready still serves')
        }, () => end(kept)).finally(() => {
          priming -= 1
          refill()
        })
      }
      refill()
      primeLater()
    })
  }
  function warm(): void {
    unused = 0
    isKeeping = true
    primeLater()
    refill()
  }

  function drop(): void {
    generation += 1
    isKeeping = false
    cancelPrime()
    ticket = null
    for (const kept of ready) end(kept)
  }

  return {
    async take() {
      const own = takeReady() ?? (open.size + opening < mostAtOnce ? (await connect()).connection : null)
      warm()
      return own
    },
    warm,
    drop,
    leave(addresses) {
      for (const { socket, localAddress } of open) if (!addresses.has(withoutZone(localAddress))) socket.reset()
    },
    breakAll() {
      drop()
      for (const { socket } of open) socket.reset()
    },
  }
}
