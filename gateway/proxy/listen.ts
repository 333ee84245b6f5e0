// The gateway's listener: TLS, HTTP/2 and HTTP/1.1 on one port, with what bounds a stranger's connection. What is asked over it is decided elsewhere.
import type { EventEmitter } from 'node:events'
import { createSecureServer, type Http2SecureServer, type Http2Session, type SecureServerOptions, type ServerHttp2Session } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { Presented } from '../../domain/access/identify.ts'
import type { Log } from '../../node/logging.ts'
import { isUpgradable } from './upgrade.ts'
import { createPeerReader, type ProvedPeer } from './peer.ts'

const HEADER_BYTES = 16_384
/** Node reads these for HTTP/1.1 on a secure HTTP/2 server; its types do not say so. Bodies have limits of their own, by service. */
const http1Options = { maxHeaderSize: HEADER_BYTES, headersTimeout: 15_000, connectionsCheckingInterval: 5_000, keepAliveTimeout: 60_000, requestTimeout: 0 }
const UNPROVED_LIMIT = 30_000

export interface ListenOptions {
  readonly listen: { readonly host: string; readonly port: number }
  readonly secrets: SecureServerOptions
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
  close(): Promise<void>
}

/** Starts to listen. @throws Error when the port can't be had */
export async function startListener({ listen, secrets, connections, log, onProved }: ListenOptions): Promise<Listener> {
  const server = createSecureServer({
    ...secrets, allowHTTP1: true, requestCert: true,
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
  server.on('tlsClientError', warn('tls_refused', 'A TLS handshake failed'))
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
  return {
    server,
    port: (server.address() as AddressInfo).port,
    peerOf(session, socket) {
      if (session === undefined || socket === undefined) return { status: 'none' }
      const peer = read(session, socket as TLSSocket)
      meet(session, peer, socket.remoteAddress)
      return peer
    },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}
