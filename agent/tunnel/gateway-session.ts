// One HTTP/2 connection to one gateway over mutual TLS, and the proof that it is that gateway. It opens no stream and never retries.
import { connect, type ClientHttp2Session } from 'node:http2'
import { checkServerIdentity, type PeerCertificate } from 'node:tls'
import { gatewayTlsName, purposeOids } from '../../protocol/certificates.ts'
import type { GatewayAddress } from '../../protocol/profile.ts'
import type { Timers } from '../../node/timers.ts'
import { noRevocations, type Revocations } from './revocations.ts'

/** The agent's own certificate and key, PEM. */
export interface TunnelIdentity { certificatePem: string; privateKeyPem: string }

// 4 MB a stream keeps 400 Mbit/s at 80 ms; Node frees the connection's window at once, so that a slow stream holds up no other.
const streamWindow = 4 << 20
const connectionWindow = 16 << 20
const connectLimitMs = 10_000
const pingEveryMs = 15_000
const pingLimitMs = 5_000

const REVOKED = 'the EMS has revoked its certificate'

/** The gateway's name in its certificate (its serial, never a DNS name), that the certificate was issued to serve as one, and that it still holds. */
function checkGateway(serial: string, certificate: PeerCertificate, revocations: Revocations): Error | undefined {
  const wrongName = checkServerIdentity(gatewayTlsName(serial), certificate)
  if (wrongName) return wrongName
  if (!certificate.ext_key_usage?.includes(purposeOids.gateway)) return new Error('the certificate was not issued to a gateway')
  return revocations.refuses(serial, certificate.serialNumber) ? new Error(REVOKED) : undefined
}

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

/**
 * Connects to a gateway.
 * @returns the session once the gateway has accepted our certificate (under TLS 1.3 that shows only when its settings arrive)
 * @throws Error with a sentence for the user when it can't be reached or is not that gateway
 */
export function openSession({ address, identity, authorities, timers, revocations = noRevocations }: {
  address: GatewayAddress; identity: TunnelIdentity; authorities: string[]; timers: Timers; revocations?: Revocations | undefined
}): Promise<ClientHttp2Session> {
  const { promise, resolve, reject } = Promise.withResolvers<ClientHttp2Session>()
  if (authorities.length === 0) return Promise.reject(new Error('the EMS has introduced no certificate authority yet'))
  const host = address.host.includes(':') ? `[${address.host}]` : address.host
  let session: ClientHttp2Session
  let certificateSerial: string | null = null
  try {
    session = connect(`https://${host}:${address.port}`, {
      cert: identity.certificatePem, key: identity.privateKeyPem, ca: authorities, minVersion: 'TLSv1.3',
      servername: gatewayTlsName(address.serial),
      checkServerIdentity(_name, certificate) {
        certificateSerial = certificate.serialNumber
        return checkGateway(address.serial, certificate, revocations)
      },
      settings: { initialWindowSize: streamWindow, enablePush: false },
      // Node refuses new streams above this many MB of buffers; the default of 10 is three slow downloads.
      maxSessionMemory: 256,
    })
  } catch (error) {
    return Promise.reject(error instanceof Error ? error : new Error(String(error)))
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
    if (certificateSerial !== null && !session.destroyed && revocations.refuses(address.serial, certificateSerial)) session.destroy(new Error(REVOKED))
  })
  session.once('close', () => {
    stopListening()
    stopWaiting()
    reject(failure)
  })
  return promise
}
