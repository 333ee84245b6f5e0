// Keeps one connection to one gateway: opened when first needed, replaced when identity or address change, reopened after a loss.
import type { ClientHttp2Session } from 'node:http2'
import type { GatewayAddress } from '../../protocol/profile.ts'
import { createBulkConnections, type BulkConnections } from './bulk-connections.ts'
import type { Resolve } from './dial-gateway.ts'
import { patienceMs } from './failover.ts'
import { createHealth } from './gateway-health.ts'
import { openSession, probeSession, type TunnelIdentity } from './gateway-session.ts'
import type { Revocations } from './revocations.ts'
import type { Timers } from '../../node/timers.ts'
import type { TunnelLog } from './tunnel-log.ts'
import { withoutZone } from './watch-path.ts'

export interface LinkOptions {
  identity: () => TunnelIdentity
  authorities: () => string[]
  revocations?: Revocations | undefined
  /** Looks names of gateways up; the system unless said. */
  resolve?: Resolve | undefined
  timers: Timers
  now: () => number
  /** 0 ≤ x < 1, for jitter. */
  random: () => number
  log: TunnelLog
}

export interface GatewayLink {
  readonly serial: string
  /**
   * The connection to use for a new stream. Just after an attempt that failed there is none, unless the caller would rather wait for the next one: it has nobody else to ask.
   * @throws Error with a sentence when there is none
   */
  session(waits?: boolean): Promise<ClientHttp2Session>
  /** Connections of their own for streams that carry much. */
  readonly bulk: BulkConnections
  /** Whether new streams had better go to another gateway. */
  isHeld(): boolean
  /** It can't judge now: others are asked first for a while. */
  rest(): void
  /**
   * The machine slept or changed its network: what does not answer a ping at once is dropped, and what was held is tried anew.
   * @param addresses those of this machine now: a connection from any other is dead
   */
  probe(addresses: ReadonlySet<string>): void
  /** Replaces the address; the connection to the old one is drained, not cut. */
  readdress(address: GatewayAddress): void
  /** Lets open streams finish and opens no new ones. */
  drain(): void
  /** Cuts every stream. */
  destroy(): void
}

/** It was not asked: the attempt before has only just failed. */
class JustFailed extends Error {}
/** What became of a request that no gateway has answered. `unanswered`: it was not looked at, and may be asked again. */
export const notServed = (cause: unknown): { kind: 'unanswered' | 'unreachable'; message: string } =>
  ({ kind: cause instanceof JustFailed ? 'unanswered' : 'unreachable', message: cause instanceof Error ? cause.message : String(cause) })

const firstDelayMs = 500
const longestDelayMs = 60_000
/** How long the answer to a ping may take after a sleep or a change of network. */
const probeLimitMs = 2_000

/** Makes the link to one gateway; it connects nowhere before it is asked to. */
export function createLink(first: GatewayAddress, options: LinkOptions): GatewayLink {
  const { identity, authorities, timers, now, random, log } = options
  let address = first
  let current: { session: ClientHttp2Session; basis: string } | null = null
  let opening: { promise: Promise<ClientHttp2Session>; basis: string } | null = null
  let failures = 0
  let lastFailure: { at: number; error: Error } | null = null
  let isSlow = false
  let closed = false
  let cancelReconnect = () => {}
  const all = new Set<ClientHttp2Session>()
  const health = createHealth({ timers, random })

  const basisNow = () => JSON.stringify([address, identity().certificatePem, authorities()])
  const bulk = createBulkConnections({ ...options, address: () => address, identity, authorities, basis: basisNow, timers, now, log })

  function reconnectLater(): void {
    cancelReconnect()
    if (closed) return
    // Full jitter: a gateway that restarts is not met by every laptop in the same second.
    const delayMs = firstDelayMs / 2 + random() * Math.min(longestDelayMs, firstDelayMs * 2 ** Math.min(failures, 10))
    cancelReconnect = timers.after(delayMs, reconnect)
  }
  function reconnect(): void {
    // Its failure has been noted, and the next attempt set, inside open().
    open().catch((error: Error) => log.info({ event: 'gateway_still_away', gateway: address.serial, cause: error.message }, 'The gateway still does not answer'))
  }

  function adopt(session: ClientHttp2Session, basis: string): void {
    if (current && !current.session.destroyed) current.session.close()
    current = { session, basis }
    all.add(session)
    failures = 0
    lastFailure = null
    health.connected()
    const leave = () => {
      if (current?.session !== session) return
      current = null
      health.away()
      reconnectLater()
    }
    // Open streams may end; new ones are not for a gateway that is about to stop.
    session.once('goaway', () => {
      log.info({ event: 'gateway_draining', gateway: address.serial }, 'The gateway takes no new streams over this connection')
      leave()
    })
    session.once('close', () => {
      all.delete(session)
      log.info({ event: 'gateway_disconnected', gateway: address.serial }, 'The connection to the gateway ended')
      leave()
    })
    log.info({ event: 'gateway_connected', gateway: address.serial }, 'Connected to the gateway')
  }

  async function open(): Promise<ClientHttp2Session> {
    const basis = basisNow()
    if (current && current.basis === basis && !current.session.closed && !current.session.destroyed) return current.session
    if (opening?.basis === basis) return opening.promise
    cancelReconnect()
    const stopSlow = timers.after(patienceMs, () => {
      isSlow = true
    })
    const promise = openSession({ ...options, address, identity: identity(), authorities: authorities() }).then(
      (session) => {
        if (closed) {
          session.destroy()
          throw new Error('the tunnel is closed')
        }
        adopt(session, basis)
        return session
      },
      (cause: Error) => {
        failures += 1
        lastFailure = { at: now(), error: cause }
        health.away()
        reconnectLater()
        throw cause
      },
    ).finally(() => {
      stopSlow()
      isSlow = false
      if (opening?.promise === promise) opening = null
    })
    opening = { promise, basis }
    return promise
  }

  return {
    serial: first.serial,
    bulk,
    async session(waits = false) {
      if (closed) throw new Error('the tunnel is closed')
      // A browser with fifty tabs must not become fifty attempts on a gateway that is down.
      const freshForMs = lastFailure === null ? 0 : lastFailure.at + firstDelayMs - now()
      if (lastFailure && freshForMs > 0) {
        if (!waits) throw new JustFailed(lastFailure.error.message)
        await new Promise<void>((resolve) => void timers.after(Math.min(freshForMs, firstDelayMs), resolve))
      }
      return open()
    },
    isHeld: () => isSlow || health.isHeld(),
    rest: health.rest,
    probe(addresses) {
      const wasAway = failures > 0
      failures = 0
      lastFailure = null
      health.forget()
      bulk.drop()
      bulk.leave(addresses)
      for (const session of all) {
        if (!session.destroyed && !addresses.has(withoutZone(session.socket.localAddress ?? ''))) session.destroy(new Error('the address that it began at is gone'))
        else probeSession(session, probeLimitMs, timers).then((alive) => {
          if (!alive) bulk.breakAll()
        }, (error: Error) => log.warn({ event: 'probe_failed', gateway: address.serial, cause: error.message }, 'A connection could not be probed'))
      }
      if (wasAway && !closed && opening === null) {
        cancelReconnect()
        reconnect()
      }
    },
    readdress(next) {
      address = next
      lastFailure = null
      failures = 0
      health.forget()
    },
    drain() {
      closed = true
      cancelReconnect()
      bulk.drop()
      for (const session of all) session.close()
    },
    destroy() {
      closed = true
      cancelReconnect()
      bulk.breakAll()
      for (const session of all) session.destroy()
    },
  }
}
