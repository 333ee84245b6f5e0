// The gateway's listener: TLS, HTTP/2 and HTTP/1.1 on one port, with what bounds a stranger's connection. What is asked over it is decided elsewhere.
import { randomBytes } from 'node:crypto'
import type { EventEmitter } from 'node:events'
import { createSecureServer, type Http2SecureServer, type Http2Session, type ServerHttp2Session } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import type { SecureContextOptions, TLSSocket } from 'node:tls'
import type { Presented } from '../../domain/access/identify.ts'
import type { Log } from '../../node/logging.ts'
import { isUpgradable } from './upgrade.ts'
import type { Metrics } from '../metrics/metrics.ts'
import type { KeyPair } from './key-pairs.ts'
import { createPeerReader, type ProvedPeer } from './peer.ts'
import { contextFor, contextsByName } from './server-certificates.ts'
import type { Timers } from './timers.ts'

const HEADER_BYTES = 16_384
/** Node reads these for HTTP/1.1 on a secure HTTP/2 server; its types do not say so. Bodies have limits of their own, by service. */
const http1Options = { maxHeaderSize: HEADER_BYTES, headersTimeout: 15_000, connectionsCheckingInterval: 5_000, keepAliveTimeout: 60_000, requestTimeout: 0 }
const UNPROVED_LIMIT = 30_000
/** A ticket stands for a session whose chain was verified; who took the key of tickets has them for this long. */
const TICKETS_MS = 3_600_000

/** What the listener shows and believes. */
export interface Secrets {
  /** The certificate that the EMS issued. */
  readonly own: KeyPair
  /** Others, by the names in them. */
  readonly others: readonly KeyPair[]
  /** CAs of clients, PEM. */
  readonly authorities: readonly string[]
  readonly minimumTls: '1.2' | '1.3'
}

export interface ListenOptions {
  readonly listen: { readonly host: string; readonly port: number }
  readonly secrets: () => Secrets
  readonly metrics: Metrics
  readonly timers: Timers
  /** The most connections that are open at once. */
  readonly connections: number
  readonly log: Log
  /** A device proved itself over a connection from `address`. @returns told once when the connection has closed */
  readonly onProved?: (peer: ProvedPeer, address: string) => () => void
}

export interface Listener {
  readonly server: Http2SecureServer
  readonly port: number
  /** Who holds the connection under an HTTP/1.1 socket or an HTTP/2 session. */
  peerOf(session: Http2Session | Socket | undefined, socket: Socket | undefined): Presented
  /** Takes over other secrets for connections to come. @param forget TLS sessions made before are not resumed */
  refresh(forget: boolean): void
  /** Takes no more connections; HTTP/2 connections are told to end when their streams have. Idle ones end now. */
  stopAccepting(): void
  /** Breaks what is still open. */
  close(): Promise<void>
}

/** Starts to listen. @throws Error when the port can't be had */
export async function startListener({ listen, secrets, connections, log, metrics, timers, onProved }: ListenOptions): Promise<Listener> {
  let ticketKeys = randomBytes(48)
  const common = (): SecureContextOptions => {
    const { authorities, minimumTls } = secrets()
    return { ca: [...authorities], minVersion: `TLSv${minimumTls}`, ticketKeys, sessionTimeout: TICKETS_MS / 1000 }
  }
  const named = () => contextsByName(secrets().others, common(), (reason) => log.error({ event: 'certificate-unusable', reason }, 'A server certificate can not be used.'))
  let contexts = named()
  const server = createSecureServer({
    ...common(), ...secrets().own, allowHTTP1: true, requestCert: true,
    SNICallback: (name, give) => give(null, contextFor(contexts, name)),
    // Refused by us, so that the user reads why; nothing is opened unless the chain was verified (peer.ts).
    rejectUnauthorized: false,
    handshakeTimeout: 10_000, ...http1Options,
    settings: { initialWindowSize: 1 << 20, maxConcurrentStreams: 1_000, maxHeaderListSize: HEADER_BYTES, enableConnectProtocol: false },
    maxSessionMemory: 256, maxSettings: 32, unknownProtocolTimeout: 5_000,
  })
  // Node sets its own over what the options say; without it every wish to upgrade would take the request out of HTTP.
  Object.assign(server, { shouldUpgradeCallback: isUpgradable })
  server.maxConnections = connections
  const sockets = new Set<Socket>()
  const warn = (event: string, sentence: string) => (error: Error) => log.warn({ event, cause: error.message }, sentence)
  const read = createPeerReader()
  const met = new WeakSet<EventEmitter>()
  const meet = (session: Http2Session | Socket, peer: Presented, address: string | undefined) => {
    if (peer.status !== 'proved' || onProved === undefined || address === undefined || met.has(session)) return
    met.add(session)
    session.once('close', onProved(peer, address))
  }

  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    // A client whose host vanished raises no event otherwise; Node probes ten times, a second apart.
    socket.setKeepAlive(true, 30_000)
    socket.setNoDelay(true)
  })
  server.on('session', (session: ServerHttp2Session) => {
    session.on('error', warn('http2_failed', 'An HTTP/2 connection failed'))
    session.setLocalWindowSize(16 << 20)
    const peer = read(session, session.socket as TLSSocket)
    meet(session, peer, session.socket.remoteAddress)
    if (peer.status !== 'proved') session.setTimeout(UNPROVED_LIMIT, () => session.destroy())
  })
  server.on('secureConnection', (socket: TLSSocket) => metrics.handshake(socket.isSessionReused() ? 'resumed' : 'full'))
  server.on('tlsClientError', (error: Error) => {
    metrics.handshake('failed')
    warn('tls_refused', 'A TLS handshake failed')(error)
  })
  server.on('clientError', (error: Error, socket: Socket) => {
    warn('request_refused', 'A request was not well formed')(error)
    const status = (error as NodeJS.ErrnoException).code === 'HPE_HEADER_OVERFLOW' ? '431 Request Header Fields Too Large' : '400 Bad Request'
    if (socket.writable) socket.write(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
    socket.destroySoon()
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(listen.port, listen.host, resolve)
  })
  server.on('error', warn('listener_failed', 'The listener failed'))
  let stopRotation = () => {}
  const rotate = () => {
    stopRotation = timers.after(TICKETS_MS, () => {
      ticketKeys = randomBytes(48)
      server.setTicketKeys(ticketKeys)
      rotate()
    })
  }
  rotate()
  let closed: Promise<void> | null = null
  const stopAccepting = () => {
    closed ??= new Promise<void>((resolve) => server.close(() => resolve()))
    return closed
  }
  return {
    server,
    port: (server.address() as AddressInfo).port,
    peerOf(session, socket) {
      if (session === undefined || socket === undefined) return { status: 'none' }
      const peer = read(session, socket as TLSSocket)
      meet(session, peer, socket.remoteAddress)
      return peer
    },
    refresh(forget) {
      if (forget) ticketKeys = randomBytes(48)
      contexts = named()
      server.setSecureContext({ ...common(), ...secrets().own })
    },
    stopAccepting: () => void stopAccepting(),
    async close() {
      stopRotation()
      const ended = stopAccepting()
      for (const socket of sockets) socket.destroy()
      await ended
    },
  }
}
