// One HTTP/2 connection to one gateway over mutual TLS. It opens no stream and never retries.
import { connect, type ClientHttp2Session } from 'node:http2'
import type { GatewayAddress } from '../../protocol/profile.ts'
import type { Timers } from '../../node/timers.ts'
import { dialGateway, type Resolve } from './dial-gateway.ts'
import { revokedSentence, startTls, type TunnelIdentity } from './gateway-tls.ts'
import { noRevocations, type Revocations } from './revocations.ts'

export type { TunnelIdentity } from './gateway-tls.ts'

// 4 MB a stream keeps 400 Mbit/s at 80 ms; Node frees the connection's window at once, so that a slow stream holds up no other.
const streamWindow = 4 << 20
const connectionWindow = 16 << 20
export const connectLimitMs = 10_000
const pingEveryMs = 15_000
const pingLimitMs = 5_000

/** Pings for as long as the session lives: a gateway whose host vanished raises no event on an idle connection. */
function watch(session: ClientHttp2Session, timers: Timers): void {
  let stop = () => {}
  const ping = () => {
    // Between its destruction and its 'close' a session throws at a ping, and from a timer that ends the agent.
    if (session.destroyed) return
    stop = timers.after(pingLimitMs, () => session.destroy(new Error(`no answer to a ping in ${pingLimitMs} ms`)))
    const sent = session.ping((error) => {
      stop()
      if (error === null && !session.destroyed) stop = timers.after(pingEveryMs, ping)
    })
    // Refused only when too many are outstanding: the limit above then ends the session.
    if (!sent) session.destroy(new Error('the gateway answers no pings'))
  }
  stop = timers.after(pingEveryMs, ping)
  session.once('close', () => stop())
}

/** Asks once, out of turn, whether the far side is still there; ends the session when no answer comes in time. @returns whether it answered */
export function probeSession(session: ClientHttp2Session, limitMs: number, timers: Timers): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  if (session.destroyed) return Promise.resolve(false)
  const give = (alive: boolean) => {
    stop()
    resolve(alive)
    if (!alive && !session.destroyed) session.destroy(new Error('the way to the gateway is gone'))
  }
  const stop = timers.after(limitMs, () => give(false))
  session.once('close', () => give(false))
  if (!session.ping((error) => give(error === null))) give(false)
  return promise
}

/**
 * Connects to a gateway.
 * @returns the session once the gateway has accepted our certificate (under TLS 1.3 that shows only when its settings arrive)
 * @throws Error with a sentence for the user when it can't be reached or is not that gateway
 */
export async function openSession({ address, identity, authorities, timers, resolve: resolveName, revocations = noRevocations }: {
  address: GatewayAddress; identity: TunnelIdentity; authorities: string[]; timers: Timers; resolve?: Resolve | undefined; revocations?: Revocations | undefined
}): Promise<ClientHttp2Session> {
  if (authorities.length === 0) throw new Error('the EMS has introduced no certificate authority yet')
  const raw = await dialGateway({ host: address.host, port: address.port, limitMs: connectLimitMs, timers, resolve: resolveName })
  const { promise, resolve, reject } = Promise.withResolvers<ClientHttp2Session>()
  const host = address.host.includes(':') ? `[${address.host}]` : address.host
  let certificateSerial: string | null = null
  let session: ClientHttp2Session
  try {
    const socket = startTls(raw, { serial: address.serial, identity, authorities, revocations, protocol: 'h2', onProved: (proof) => { certificateSerial = proof.certificateSerial } })
    session = connect(`https://${host}:${address.port}`, {
      createConnection: () => socket,
      settings: { initialWindowSize: streamWindow, enablePush: false },
      // Node refuses new streams above this many MB of buffers; the default of 10 is three slow downloads.
      maxSessionMemory: 256,
    })
  } catch (error) {
    // A certificate or a key that can't be read.
    raw.destroy()
    throw error
  }
  const stopWaiting = timers.after(connectLimitMs, () => session.destroy(new Error(`no connection within ${connectLimitMs} ms`)))
  session.once('connect', () => session.setLocalWindowSize(connectionWindow))
  session.once('remoteSettings', () => {
    stopWaiting()
    watch(session, timers)
    resolve(session)
  })
  let failure = new Error('the gateway closed the connection')
  // Stays for the whole life of the session: an 'error' without a listener ends the agent.
  session.on('error', (error: Error) => {
    failure = error
  })
  // From before the handshake on: a list that comes between it and here is not missed.
  const stopListening = revocations.onChange(() => {
    if (certificateSerial !== null && !session.destroyed && revocations.refuses(address.serial, certificateSerial)) session.destroy(new Error(revokedSentence))
  })
  session.once('close', () => {
    stopListening()
    stopWaiting()
    reject(failure)
  })
  return promise
}
