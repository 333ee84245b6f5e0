// Keeps one connection to one gateway: opened when first needed, replaced when identity or address change, reopened after a loss.
import type { ClientHttp2Session } from 'node:http2'
import type { GatewayAddress } from '../../protocol/profile.ts'
import { openSession, type TunnelIdentity } from './gateway-session.ts'
import type { Revocations } from './revocations.ts'
import type { Timers } from '../../node/timers.ts'
import type { TunnelLog } from './tunnel-log.ts'

export interface LinkOptions {
  identity: () => TunnelIdentity
  authorities: () => string[]
  revocations?: Revocations | undefined
  timers: Timers
  now: () => number
  /** 0 ≤ x < 1, for jitter. */
  random: () => number
  log: TunnelLog
}

export interface GatewayLink {
  /** The connection to use for a new stream. @throws Error with a sentence when there is none */
  session(): Promise<ClientHttp2Session>
  /** Replaces the address; the connection to the old one is drained, not cut. */
  readdress(address: GatewayAddress): void
  /** Lets open streams finish and opens no new ones. */
  drain(): void
  /** Cuts every stream. */
  destroy(): void
}

const firstDelayMs = 500
const longestDelayMs = 60_000

/** Makes the link to one gateway; it connects nowhere before it is asked to. */
export function createLink(first: GatewayAddress, { identity, authorities, revocations, timers, now, random, log }: LinkOptions): GatewayLink {
  let address = first
  let current: { session: ClientHttp2Session; basis: string } | null = null
  let opening: { promise: Promise<ClientHttp2Session>; basis: string } | null = null
  let failures = 0
  let lastFailure: { at: number; error: Error } | null = null
  let closed = false
  let cancelReconnect = () => {}
  const all = new Set<ClientHttp2Session>()

  const basisNow = () => JSON.stringify([address, identity().certificatePem, authorities()])

  function reconnectLater(): void {
    cancelReconnect()
    if (closed) return
    // Full jitter: a gateway that restarts is not met by every laptop in the same second.
    const delayMs = firstDelayMs / 2 + random() * Math.min(longestDelayMs, firstDelayMs * 2 ** Math.min(failures, 10))
    cancelReconnect = timers.after(delayMs, () => {
      // Its failure has been noted, and the next attempt set, inside open().
      open().catch((error: Error) => log.info({ event: 'gateway_still_away', gateway: address.serial, cause: error.message }, 'The gateway still does not answer'))
    })
  }

  function adopt(session: ClientHttp2Session, basis: string): void {
    if (current && !current.session.destroyed) current.session.close()
    current = { session, basis }
    all.add(session)
    failures = 0
    lastFailure = null
    session.once('close', () => {
      all.delete(session)
      if (current?.session !== session) return
      current = null
      log.info({ event: 'gateway_disconnected', gateway: address.serial }, 'The connection to the gateway ended')
      reconnectLater()
    })
    log.info({ event: 'gateway_connected', gateway: address.serial }, 'Connected to the gateway')
  }

  async function open(): Promise<ClientHttp2Session> {
    const basis = basisNow()
    if (current && current.basis === basis && !current.session.closed && !current.session.destroyed) return current.session
    if (opening?.basis === basis) return opening.promise
    cancelReconnect()
    const promise = openSession({ address, identity: identity(), authorities: authorities(), revocations, timers }).then(
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
        reconnectLater()
        throw cause
      },
    ).finally(() => {
      if (opening?.promise === promise) opening = null
    })
    opening = { promise, basis }
    return promise
  }

  return {
    async session() {
      if (closed) throw new Error('the tunnel is closed')
      // A browser with fifty tabs must not become fifty attempts on a gateway that is down.
      if (lastFailure && now() - lastFailure.at < firstDelayMs) throw lastFailure.error
      return open()
    },
    readdress(next) {
      address = next
      lastFailure = null
      failures = 0
    },
    drain() {
      closed = true
      cancelReconnect()
      for (const session of all) session.close()
    },
    destroy() {
      closed = true
      cancelReconnect()
      for (const session of all) session.destroy()
    },
  }
}
