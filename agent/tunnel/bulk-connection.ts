// One connection to a gateway that speaks HTTP/1.1 and is asked for one tunnel: the stream has its TCP and TLS to itself.
import type { TLSSocket } from 'node:tls'
import { gatewayTlsName } from '../../protocol/certificates.ts'
import type { GatewayAddress } from '../../protocol/profile.ts'
import type { Timers } from '../../node/timers.ts'
import { readBody, readHead, type AnswerHead } from './answer-head.ts'
import { dialGateway, type Resolve } from './dial-gateway.ts'
import { connectLimitMs } from './gateway-session.ts'
import { startTls, stillHolds, type Resumable, type TunnelIdentity } from './gateway-tls.ts'
import type { Revocations } from './revocations.ts'

export interface BulkConnection {
  /** Paused; has an 'error' listener for its whole life. Its `reset` breaks it off so that the gateway takes nothing for complete. */
  readonly socket: TLSSocket & { reset: () => void }
  /** Where on this machine it begins. */
  readonly localAddress: string
  /** Asks the gateway for something small: a connection that was quiet for long is kept, and one that is dead is found out. @returns whether it still serves */
  prime(): Promise<boolean>
}

/** Longer than any answer to {@link BulkConnection.prime}. */
const primeLimitBytes = 65_536
const primeLimitMs = 5_000
/** The gateway's own page that everybody may read. */
const smallPage = '/.well-known/sallyport/jwks.json'

async function prime(socket: TLSSocket, host: string, timers: Timers): Promise<boolean> {
  const stop = timers.after(primeLimitMs, () => socket.destroy(new Error('no answer in time')))
  socket.write(`GET ${smallPage} HTTP/1.1\r\nHost: ${host}\r\n\r\n`)
  const head: AnswerHead | null = await readHead(socket)
  if (head !== null) await readBody(socket, head, primeLimitBytes)
  stop()
  // Whoever closes after this answer takes no tunnel; a body beyond the limit would be read as the next answer.
  return head !== null && socket.writable && head.headers.get('connection')?.toLowerCase() !== 'close' && Number(head.headers.get('content-length') ?? Infinity) < primeLimitBytes
}

/**
 * Opens one and has it answer once: under TLS 1.3 only that shows that the gateway takes our certificate.
 * @param resumes a TLS session of the same gateway, identity and authorities
 * @param onSession told of each session that the gateway lets us resume
 * @throws Error when it can't be had
 */
export async function openBulkConnection({ address, identity, authorities, revocations, timers, now, resumes, onSession, resolve }: {
  address: GatewayAddress; identity: TunnelIdentity; authorities: string[]; revocations: Revocations; timers: Timers; now: () => number
  resumes: Resumable | null; onSession: (resumable: Resumable) => void; resolve?: Resolve | undefined
}): Promise<BulkConnection> {
  const raw = await dialGateway({ host: address.host, port: address.port, limitMs: connectLimitMs, timers, resolve })
  let tls: TLSSocket
  const old = resumes !== null && stillHolds(address.serial, resumes.proof, revocations, now()) ? resumes : undefined
  let proof = old?.proof
  try {
    tls = startTls(raw, { serial: address.serial, identity, authorities, revocations, protocol: 'http/1.1', session: old?.session, onProved: (fresh) => { proof = fresh } })
  } catch (error) {
    // A certificate or a key that can't be read.
    raw.destroy()
    throw error
  }
  let failure = new Error('the gateway closed the connection')
  // Stays for the whole life of the socket: an 'error' without a listener ends the agent.
  tls.on('error', (error: Error) => {
    failure = error
  })
  tls.on('session', (session) => {
    if (proof !== undefined) onSession({ session, proof })
  })
  const stopListening = revocations.onChange(() => {
    if (proof !== undefined && revocations.refuses(address.serial, proof.certificateSerial)) raw.resetAndDestroy()
  })
  const { promise: closed, reject } = Promise.withResolvers<never>()
  tls.once('close', () => {
    stopListening()
    reject(failure)
  })
  const socket = Object.assign(tls, { reset: () => { raw.resetAndDestroy() } })
  const stop = timers.after(connectLimitMs, () => tls.destroy(new Error(`no connection within ${connectLimitMs} ms`)))
  const secured = new Promise<void>((done) => {
    tls.once('secureConnect', done)
  })
  try {
    await Promise.race([secured, closed])
    if (!await Promise.race([prime(tls, gatewayTlsName(address.serial), timers), closed])) throw new Error('it takes no HTTP/1.1')
  } catch (error) {
    tls.destroy()
    throw error
  } finally {
    stop()
  }
  return { socket, localAddress: raw.localAddress ?? '', prime: () => prime(tls, gatewayTlsName(address.serial), timers) }
}
