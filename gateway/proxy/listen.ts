// The gateway's listener: TLS, HTTP/2 and HTTP/1.1 on one port, with what bounds a stranger's connection. What is asked over it is decided elsewhere.
import type { EventEmitter } from 'node:events'
import { createSecureServer, type Http2SecureServer, type Http2Session, type ServerHttp2Session } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import { TLSSocket, type SecureContextOptions } from 'node:tls'
import type { Presented } from '../../domain/access/identify.ts'
import type { Log } from '../../node/logging.ts'
import { isUpgradable } from './upgrade.ts'
import type { Metrics } from '../metrics/metrics.ts'
import { createConnections } from './connections.ts'
import type { KeyPair } from './key-pairs.ts'
import { createPeerReader, type ProvedPeer } from './peer.ts'
import { createRarely } from './rarely.ts'
import { contextFor, contextsByName } from './server-certificates.ts'
import { TICKETS_MS, type Tickets } from './tickets.ts'
import type { Timers } from '../../node/timers.ts'

const HEADER_BYTES = 16_384
/** Node reads these for HTTP/1.1 on a secure HTTP/2 server; its types do not say so. Bodies have limits of their own, by service. */
const http1Options = ({ headersMs }: Bounds) => ({ maxHeaderSize: HEADER_BYTES, headersTimeout: headersMs, connectionsCheckingInterval: Math.ceil(headersMs / 3), keepAliveTimeout: 60_000, requestTimeout: 0 })

/** What the listener shows and believes. */
export interface Secrets {
  /** The certificate that the EMS issued. */
  readonly own: KeyPair
  /** Others, by the names in them. */
  readonly others: readonly KeyPair[]
  /** CAs of clients, PEM. */
  readonly authorities: readonly string[]
  readonly minimumTls: '1.2' | '1.3'
  /** Whether there is anything for somebody without a certificate. */
  readonly strangersReach: boolean
}

export interface Bounds {
  /** The most connections that are open at once, those of strangers, and those of one device. */
  readonly connections: number
  readonly strangers: number
  readonly perDevice: number
  /** Within which a TLS handshake and the head of a request must be in. */
  readonly handshakeMs: number
  readonly headersMs: number
  /** How long a connection may last over which nobody has proved anything, where strangers reach nothing. */
  readonly strangerMs: number
}
export const bounds: Bounds = { connections: 20_000, strangers: 2_048, perDevice: 256, handshakeMs: 10_000, headersMs: 15_000, strangerMs: 30_000 }

export interface ListenOptions {
  readonly listen: { readonly host: string; readonly port: number }
  readonly secrets: () => Secrets
  readonly tickets: Tickets
  readonly metrics: Metrics
  readonly timers: Timers
  readonly bounds: Bounds
  readonly log: Log
  /** ms. */
  readonly now: () => number
  /** A device proved itself over a connection from `address`. @returns told once when the connection has closed */
  readonly onProved?: (peer: ProvedPeer, address: string) => () => void
}

export interface Listener {
  readonly server: Http2SecureServer
  readonly port: number
  /** Who holds the connection under an HTTP/1.1 socket or an HTTP/2 session. */
  peerOf(session: Http2Session | Socket | undefined, socket: Socket | undefined): Presented
  /** Breaks the connection under an HTTP/1.1 socket by a reset. */
  reset(socket: TLSSocket): void
  /** Takes over other secrets for connections to come. */
  refresh(): void
  /** Takes no more connections; HTTP/2 connections are told to end when their streams have. Idle ones end now. */
  stopAccepting(): void
  /** Breaks what is still open. */
  close(): Promise<void>
}

/** Starts to listen. @throws Error when the port can't be had */
export async function startListener({ listen, secrets, tickets, bounds: limits, log, now, metrics, timers, onProved }: ListenOptions): Promise<Listener> {
  const common = (): SecureContextOptions => {
    const { authorities, minimumTls } = secrets()
    return { ca: [...authorities], minVersion: `TLSv${minimumTls}`, ticketKeys: tickets.keys(), sessionTimeout: TICKETS_MS / 1000 }
  }
  const named = () => contextsByName(secrets().others, common(), (reason) => log.error({ event: 'certificate-unusable', reason }, 'A server certificate can not be used.'))
  let contexts = named()
  const server = createSecureServer({
    ...common(), ...secrets().own, allowHTTP1: true, requestCert: true,
    SNICallback: (name, give) => give(null, contextFor(contexts, name)),
    // Refused by us, so that the user reads why; nothing is opened unless the chain was verified (peer.ts).
    rejectUnauthorized: false,
    handshakeTimeout: limits.handshakeMs, ...http1Options(limits),
    settings: { initialWindowSize: 1 << 20, maxConcurrentStreams: 1_000, maxHeaderListSize: HEADER_BYTES, enableConnectProtocol: false },
    maxSessionMemory: 256, maxSettings: 32, unknownProtocolTimeout: 5_000,
  })
  // Node sets its own over what the options say; without it every wish to upgrade would take the request out of HTTP.
  Object.assign(server, { shouldUpgradeCallback: isUpgradable })
  server.maxConnections = limits.connections
  const connections = createConnections({ strangers: limits.strangers, perDevice: limits.perDevice, metrics })
  const rarely = createRarely(log, now)
  const warn = (event: string, sentence: string) => (error: Error) => rarely(event, { cause: error.message }, sentence)
  const read = createPeerReader()
  const met = new WeakSet<EventEmitter>()
  /** Whoever may get an answer other than a refusal to CONNECT, or none but refusals to anything. */
  const mayTunnel = (peer: Presented) => (peer.status === 'none' ? !secrets().strangersReach : peer.status === 'refused' || peer.purpose !== 'browser')
  /** Reads who holds a connection, once: a device that has too many is sent away, a stranger is given little time. */
  const meet = (session: Http2Session | Socket, socket: Pick<Socket, 'remoteAddress' | 'remotePort'>, end: () => void) => {
    const peer = read(session, (session instanceof TLSSocket ? session : socket) as TLSSocket)
    const ends: EventEmitter = session
    if (met.has(ends)) return
    met.add(ends)
    if (peer.status !== 'proved') {
      if (!secrets().strangersReach) ends.once('close', timers.after(limits.strangerMs, end))
      return
    }
    if (!connections.prove(socket, peer.commonName)) {
      end()
      return
    }
    if (onProved !== undefined && socket.remoteAddress !== undefined) ends.once('close', onProved(peer, socket.remoteAddress))
  }

  server.on('connection', (socket: Socket) => {
    connections.add(socket)
    // A client whose host vanished raises no event otherwise; Node probes ten times, a second apart.
    socket.setKeepAlive(true, 30_000)
    socket.setNoDelay(true)
  })
  server.on('session', (session: ServerHttp2Session) => {
    session.on('error', warn('http2_failed', 'An HTTP/2 connection failed'))
    session.setLocalWindowSize(16 << 20)
    meet(session, session.socket, () => session.destroy())
    // Browsers that are told of it open websockets by it, over the connection of their requests; those are taken by HTTP/1.1.
    if (!session.destroyed && mayTunnel(read(session, session.socket as TLSSocket))) session.settings({ enableConnectProtocol: true })
  })
  server.on('secureConnection', (socket: TLSSocket) => {
    metrics.handshake(socket.isSessionReused() ? 'resumed' : 'full')
    // For HTTP/2 there is a session, and it has been met.
    if (socket.alpnProtocol !== 'h2') meet(socket, socket, () => socket.destroy())
  })
  server.on('tlsClientError', (error: Error) => {
    metrics.handshake('failed')
    warn('tls_refused', 'A TLS handshake failed')(error)
  })
  server.on('clientError', (error: Error, socket: Socket) => {
    const { code = '' } = error as NodeJS.ErrnoException
    // What failed below HTTP has been told as such, and there is nobody to answer.
    if (!code.startsWith('HPE_') && !code.startsWith('ERR_HTTP')) {
      socket.destroy()
      return
    }
    warn('request_refused', 'A request was not well formed')(error)
    const status = code === 'HPE_HEADER_OVERFLOW' ? '431 Request Header Fields Too Large' : code === 'ERR_HTTP_REQUEST_TIMEOUT' ? '408 Request Timeout' : '400 Bad Request'
    if (socket.writable) socket.write(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
    socket.destroySoon()
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(listen.port, listen.host, resolve)
  })
  server.on('error', warn('listener_failed', 'The listener failed'))
  const leaveTickets = tickets.onChange(() => server.setTicketKeys(tickets.keys()))
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
      return read(session, socket as TLSSocket)
    },
    reset: connections.reset,
    refresh() {
      contexts = named()
      server.setSecureContext({ ...common(), ...secrets().own })
    },
    stopAccepting: () => void stopAccepting(),
    async close() {
      leaveTickets()
      const ended = stopAccepting()
      connections.close()
      await ended
    },
  }
}
