// The gate: mutual TLS, CONNECT and declared HTTPS services, each session decided and decided again. What it knows comes from World.
import type { IncomingMessage } from 'node:http'
import { createSecureServer, Http2ServerRequest, type Http2ServerResponse, type Http2Session, type ServerHttp2Session } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { Presented } from '../../domain/access/identify.ts'
import type { Log } from '../../node/logging.ts'
import type { Audit } from '../audit/audit.ts'
import type { Metrics } from '../metrics/metrics.ts'
import type { World } from '../world.ts'
import { readAuthority } from './authority.ts'
import { socketCarrier, streamCarrier } from './connect.ts'
import { answer, forward, type AnyRequest, type AnyResponse } from './forward.ts'
import { createJudge, type Question } from './judge.ts'
import { pathOf } from '../../domain/access/request-path.ts'
import { createPeerReader, type ProvedPeer } from './peer.ts'
import type { PolicyStore } from './policy-store.ts'
import { createResolver, systemResolve, type Resolve } from './resolve.ts'
import { createSessions } from './sessions.ts'
import { systemTimers, type Timers } from './timers.ts'
import { runTunnel } from './tunnel.ts'
import { createUpstreams } from './upstream.ts'

/** The gateway's own certificate (purpose `gateway`) and key, PEM. */
export interface ProxyIdentity { readonly certPem: string; readonly keyPem: string }
export interface ProxyOptions {
  readonly world: World
  readonly policies: PolicyStore
  readonly identity: ProxyIdentity
  /** CAs whose certificates are believed, PEM. */
  readonly authorities: () => readonly string[]
  readonly listen: { readonly host: string; readonly port: number }
  /** The gateway's serial. */
  readonly serial: string
  readonly log: Log
  readonly audit: Audit
  readonly metrics: Metrics
  /** ms. */
  readonly now: () => number
  readonly timers?: Timers
  readonly resolve?: Resolve
  /** Addresses that only a service which lists them may reach: the EMS's. */
  readonly alsoRefused?: () => readonly string[]
  /** A device proved itself over a connection from `address`. @returns told once when the connection has closed */
  readonly onProved?: (peer: ProvedPeer, address: string) => () => void
  readonly limits?: { readonly sessions?: number; readonly connections?: number; readonly connectMs?: number }
}
export interface Proxy {
  readonly port: number
  /** Takes over another set of CAs, from {@link ProxyOptions.authorities}, and forgets TLS sessions made under the old one. */
  updateAuthorities(): void
  updateIdentity(identity: ProxyIdentity): void
  /** Cuts everything. */
  close(): Promise<void>
}

const HEADER_BYTES = 16_384
/** Node reads these for HTTP/1.1 on a secure HTTP/2 server; its types do not say so. Bodies have no limit in time but that of silence. */
const http1Limits = { maxHeaderSize: HEADER_BYTES, headersTimeout: 15_000, connectionsCheckingInterval: 5_000, keepAliveTimeout: 60_000, requestTimeout: 0 }
const UNPROVED_LIMIT = 30_000
const QUIET_CLIENT_LIMIT = 300_000
const source = (socket: Socket): string => `${socket.remoteAddress ?? 'unknown'}:${socket.remotePort ?? 0}`

/** Starts the gate and resolves when it listens. @throws Error when the port can't be had */
export async function startProxy(options: ProxyOptions): Promise<Proxy> {
  const { world, policies, authorities, log, metrics, now, timers = systemTimers, limits = {} } = options
  let { identity } = options
  const judge = createJudge(options)
  const sessions = createSessions({ judge, metrics, log, timers, now, limit: limits.sessions ?? 10_000 })
  const resolver = createResolver({ resolve: options.resolve ?? systemResolve, alsoRefused: options.alsoRefused ?? (() => []), timers })
  const upstreams = createUpstreams()
  const common = { judge, sessions, resolver, timers, log, connectLimitMs: limits.connectMs ?? 10_000 }
  const peerOf = createPeerReader()
  const secrets = () => ({ cert: identity.certPem, key: identity.keyPem, ca: [...authorities()], minVersion: 'TLSv1.3' as const })
  const server = createSecureServer({
    ...secrets(), allowHTTP1: true, requestCert: true,
    // Refused by us, so that the user reads why; nothing is opened unless the chain was verified (peer.ts).
    rejectUnauthorized: false,
    handshakeTimeout: 10_000, ...http1Limits,
    settings: { initialWindowSize: 1 << 20, maxConcurrentStreams: 1_000, maxHeaderListSize: HEADER_BYTES, enableConnectProtocol: false },
    maxSessionMemory: 256, maxSettings: 32, unknownProtocolTimeout: 5_000,
  })
  server.maxConnections = limits.connections ?? 20_000
  const sockets = new Set<Socket>()
  const warn = (event: string, sentence: string) => (error: Error) => log.warn({ event, cause: error.message }, sentence)

  const met = new WeakSet()
  const meet = (session: Http2Session | Socket, peer: Presented, address: string | undefined) => {
    if (peer.status !== 'proved' || options.onProved === undefined || address === undefined || met.has(session)) return
    met.add(session)
    session.once('close', options.onProved(peer, address))
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
    const peer = peerOf(session, session.socket as TLSSocket)
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

  const questionOf = (request: AnyRequest, protocol: 'tcp' | 'https', { host, port }: { host: string; port: number }): Question => {
    const socket = request instanceof Http2ServerRequest ? request.stream.session?.socket : request.socket
    const session = request instanceof Http2ServerRequest ? request.stream.session : request.socket
    const certificate = session === undefined || socket === undefined ? { status: 'none' as const } : peerOf(session, socket as TLSSocket)
    if (session !== undefined) meet(session, certificate, socket?.remoteAddress)
    return { protocol, host, port, path: protocol === 'tcp' ? '/' : pathOf(request.url ?? '/'), userAgent: request.headers['user-agent'] ?? '', certificate, source: socket === undefined ? 'unknown:0' : source(socket) }
  }
  const notAnAuthority = { host: 'not-an-authority', port: 0 }

  // HTTP/1.1 brings a socket and the bytes that came along, HTTP/2 a response.
  server.on('connect', (request: AnyRequest, way: TLSSocket | Http2ServerResponse, head?: Uint8Array) => {
    const carrier = request instanceof Http2ServerRequest ? streamCarrier(request, way as Http2ServerResponse, timers) : socketCarrier(way as TLSSocket, head ?? new Uint8Array(0))
    const named = request instanceof Http2ServerRequest ? request.authority : request.url
    runTunnel(carrier, questionOf(request, 'tcp', readAuthority(named, null) ?? notAnAuthority), common).catch((error: Error) => {
      log.error({ event: 'tunnel_failed', cause: error.message, stack: error.stack }, 'A tunnel failed inside the gateway')
      carrier.client.destroy(error)
    })
  })
  server.on('request', (request: IncomingMessage | Http2ServerRequest, response: AnyResponse) => {
    request.setTimeout(QUIET_CLIENT_LIMIT, () => request.destroy())
    const host = request instanceof Http2ServerRequest ? request.authority || request.headers.host : request.headers.host
    const hosts = [...new Set([host, request.headers.host ?? host, ...(request instanceof Http2ServerRequest ? [] : request.headersDistinct['host'] ?? [])])]
    const authority = readAuthority(host, 443)
    // Two hosts, or a target that names one of its own: upstream and gateway could read different ones.
    if (hosts.length !== 1 || host === undefined || authority === null || !request.url?.startsWith('/')) {
      answer(response, 400, { 'content-type': 'text/plain; charset=utf-8' }, 'The request must name one host and a path.\n')
      request.resume()
      return
    }
    forward(request, response, questionOf(request, 'https', authority), host, { ...common, upstreams }).catch((error: Error) => {
      log.error({ event: 'request_failed', cause: error.message, stack: error.stack }, 'A request failed inside the gateway')
      request.destroy()
    })
  })

  const leaveWorld = world.onChange((changed, cause) => {
    if (cause.at !== undefined) metrics.propagated(now() - cause.at)
    sessions.recheck(changed, cause)
  })
  const leavePolicies = policies.onChange(() => sessions.recheck('all', {}))
  metrics.readSnapshotAge(() => {
    const { currentAt } = world.snapshot()
    return currentAt === null ? null : now() - currentAt
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.listen.port, options.listen.host, resolve)
  })
  server.on('error', warn('listener_failed', 'The listener failed'))
  return {
    port: (server.address() as AddressInfo).port,
    updateAuthorities: () => server.setSecureContext(secrets()),
    updateIdentity(next) {
      identity = next
      server.setSecureContext(secrets())
    },
    async close() {
      leaveWorld()
      leavePolicies()
      sessions.close()
      upstreams.close()
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}
