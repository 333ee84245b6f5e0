// The gate: mutual TLS, CONNECT and declared HTTPS services, each session decided and decided again. What it knows comes from World.
import { IncomingMessage } from 'node:http'
import { Http2ServerRequest } from 'node:http2'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { CONNECT_UDP, udpAuthority } from '../../protocol/capsules.ts'
import type { AccessProtocol } from '../../protocol/decisions.ts'
import { pathOf } from '../../domain/access/request-path.ts'
import { FRAMING, FRAMING_HEADER } from '../../node/framed-duplex.ts'
import type { Log } from '../../node/logging.ts'
import type { Audit } from '../audit/audit.ts'
import type { Metrics } from '../metrics/metrics.ts'
import type { Traces } from '../traces/traces.ts'
import { openSshAuthority } from '../ssh/authority.ts'
import { createSshCertificates } from '../ssh/serve-certificates.ts'
import type { World } from '../world.ts'
import { createAcme, type Acme } from './acme.ts'
import { answer, type AnyResponse } from './answer.ts'
import type { AssertionKeys } from './assertion-keys.ts'
import { createAssertions } from './assertions.ts'
import { readAuthority, type Authority } from './authority.ts'
import { socketCarrier, streamCarrier, streamProtocol, takeConnects, type Http2Connect } from './connect.ts'
import { createCuts, type Cuts } from './cuts.ts'
import { forward, type TakeUpgrade } from './forward.ts'
import { createJudge, type Question } from './judge.ts'
import { createKeyPairs } from './key-pairs.ts'
import { bounds, startListener, type Bounds, type ListenOptions, type Secrets } from './listen.ts'
import type { PolicyStore } from './policy-store.ts'
import { isPortal, servePortal } from './portal.ts'
import { readRequest } from './read-request.ts'
import type { AnyRequest } from './request-body.ts'
import { createResolver, rememberResolved, systemResolve, type Resolve } from './resolve.ts'
import { createSessions } from './sessions.ts'
import { createTickets, type Tickets } from './tickets.ts'
import { systemTimers, type Timers } from '../../node/timers.ts'
import { runTunnel, type Carrier } from './tunnel.ts'
import { forwardedAuthority, isConnectUdp, isTcpForwarding, responseOn, takeUpgrade, TCP_FORWARDING, upgradeOf } from './upgrade.ts'
import { createUpstreams } from './upstreams.ts'

/** The gateway's own certificate (purpose `gateway`) and key, PEM. */
export interface ProxyIdentity { readonly certPem: string; readonly keyPem: string }
export interface ProxyOptions extends Pick<ListenOptions, 'listen' | 'onProved'> {
  readonly world: World
  readonly policies: PolicyStore
  readonly identity: ProxyIdentity
  /** Signs what upstreams are told about devices. */
  readonly assertionKeys: AssertionKeys
  /** CAs whose certificates are believed, PEM. */
  readonly authorities: () => readonly string[]
  /** The gateway's serial. */
  readonly serial: string
  /** Where certificates from a public CA are kept, and the SSH CA. */
  readonly stateDirectory: string
  /** Where somebody else keeps keys of tickets, or the certificate of a public CA; else the gate does. */
  readonly tickets?: Tickets
  readonly publicCertificate?: Acme
  /** Where the gate shares what it cut with other processes. */
  readonly cuts?: Cuts
  readonly log: Log
  readonly audit: Audit
  readonly metrics: Metrics
  /** Absent: none are made. */
  readonly traces?: Traces | null
  /** ms. */
  readonly now: () => number
  readonly timers?: Timers
  readonly resolve?: Resolve
  /** Addresses that only a service which lists them may reach: the EMS's. */
  readonly alsoRefused?: () => readonly string[]
  readonly limits?: Partial<Bounds> & { readonly sessions?: number; readonly sessionsPerDevice?: number; readonly connectMs?: number }
}
export interface Proxy {
  readonly port: number
  /** Takes over the set of CAs, from {@link ProxyOptions.authorities}; when it is another one, TLS sessions made under the old one are forgotten. */
  updateAuthorities(): void
  updateIdentity(identity: ProxyIdentity): void
  /** Takes no more connections and sessions, waits until those that are open have ended or `graceMs` has passed, and cuts the rest with a reason. */
  drain(graceMs: number): Promise<void>
  /** Cuts everything. */
  close(): Promise<void>
}

const QUIET_CLIENT_LIMIT = 300_000
const notAnAuthority: Authority = { host: 'not-an-authority', port: 0 }
const source = (socket: Socket | undefined): string => `${socket?.remoteAddress ?? 'unknown'}:${socket?.remotePort ?? 0}`

/** Starts the gate and resolves when it listens. @throws Error when the port can't be had */
export async function startProxy(options: ProxyOptions): Promise<Proxy> {
  const { world, policies, authorities, log, metrics, now, assertionKeys: keys, serial, timers = systemTimers, limits = {}, traces = null } = options
  let { identity } = options
  const connectLimitMs = limits.connectMs ?? 10_000
  const judge = createJudge(options)
  const authority = openSshAuthority({ directory: options.stateDirectory, now })
  const ssh = { authority, serve: createSshCertificates({ judge, authority, metrics, log, timers, now }), isUsed: () => policies.current().services.some((service) => service.ssh !== null) }
  const sessions = createSessions({ judge, metrics, log, timers, now, limit: limits.sessions ?? 10_000, perDevice: limits.sessionsPerDevice ?? 2_000 })
  const resolver = createResolver({ resolve: options.resolve ?? systemResolve, alsoRefused: options.alsoRefused ?? (() => []), timers })
  const cuts = options.cuts ?? createCuts()
  const keyPairs = createKeyPairs({ timers, log })
  const upstreams = createUpstreams({ resolver: rememberResolved(resolver, timers), keyPairs, timers, log, connectLimitMs })
  const forwarding = { judge, sessions, upstreams, assertions: createAssertions({ keys, issuer: serial, now }), timers, log, traces }
  const acme = options.publicCertificate ?? createAcme({ directory: options.stateDirectory, timers, now, log })
  const tickets = options.tickets ?? createTickets(timers)
  const secrets = (): Secrets => {
    const { minimumTls, certificates } = policies.current().listener
    return { own: { cert: identity.certPem, key: identity.keyPem }, others: [...certificates.flatMap((files) => keyPairs.get(files) ?? []), ...[acme.current() ?? []].flat()], authorities: authorities(), minimumTls, strangersReach: policies.current().noCertificate.mode !== 'block' }
  }
  const followFiles = async () => {
    const { services, listener: { certificates, acme: settings } } = policies.current()
    await keyPairs.follow([...certificates, ...services.flatMap(({ tls }) => tls.client ?? [])])
    await acme.follow(settings)
  }
  await followFiles()
  upstreams.follow(policies.current())
  const listener = await startListener({ ...options, timers, tickets, secrets, bounds: { ...bounds, ...limits } })
  const { server, port, peerOf } = listener
  let believed = authorities().join()
  const leaves = [keyPairs.onChange(listener.refresh), acme.onChange(listener.refresh)]

  const questionOf = (request: AnyRequest | Http2Connect, protocol: AccessProtocol, { host, port }: Authority, path: string): Question => {
    const [session, socket] = 'stream' in request ? [request.stream.session, request.stream.session?.socket] : [request.socket, request.socket]
    return { protocol, host, port, path, userAgent: request.headers['user-agent'] ?? '', certificate: peerOf(session, socket), source: source(socket) }
  }
  const failed = (event: string, sentence: string, end: (error: Error) => void) => (error: Error) => {
    log.error({ event, cause: error.message, stack: error.stack }, sentence)
    end(error)
  }
  const tunnel = (request: IncomingMessage | Http2Connect, carrier: Carrier, protocol: 'tcp' | 'udp', named: string | undefined) => {
    runTunnel(carrier, { ...questionOf(request, protocol, readAuthority(named, null) ?? notAnAuthority, '/'), protocol }, { judge, sessions, resolver, timers, now, log, connectLimitMs, cuts, traces })
      .catch(failed('tunnel_failed', 'A tunnel failed inside the gateway', (error) => carrier.client.destroy(error)))
  }
  server.on('connect', (request: IncomingMessage, socket: TLSSocket, head: Uint8Array) => {
    tunnel(request, socketCarrier(socket, head, timers, { reset: () => listener.reset(socket), framed: request.headers[FRAMING_HEADER] === FRAMING }), 'tcp', request.url)
  })
  const serve = (request: AnyRequest, response: AnyResponse, upgrade: { readonly protocol: string; readonly take: TakeUpgrade } | null) => {
    const head = readRequest(request)
    if (!head.ok) {
      answer(response, head.status, { 'content-type': 'text/plain; charset=utf-8', 'proxy-status': 'sallyport; error=http_request_error' }, `${head.why}\n`)
      request.resume()
      return
    }
    const question = questionOf(request, 'https', head.authority, pathOf(head.target))
    const failedRequest = failed('request_failed', 'A request failed inside the gateway', () => request.destroy())
    if (isPortal(question.path)) servePortal(request, response, question, head.target.split('?')[1] ?? '', { keys, judge, cuts, ssh }).catch(failedRequest)
    else forward(request, response, question, head.host, forwarding, upgrade).catch(failedRequest)
  }
  server.on('request', (request: IncomingMessage | Http2ServerRequest, response: AnyResponse) => {
    request.setTimeout(QUIET_CLIENT_LIMIT, () => request.destroy())
    // Node's parser stops behind a wish to upgrade, granted or not: what follows would never be answered.
    if (request instanceof IncomingMessage && request.headers.upgrade !== undefined && !('stream' in response)) response.shouldKeepAlive = false
    serve(request, response, null)
  })
  takeConnects(server, (request) => {
    const protocol = streamProtocol(request)
    if (protocol !== null && protocol !== CONNECT_UDP) request.stream.respond({ ':status': 501 }, { endStream: true })
    else if (protocol === null) tunnel(request, streamCarrier(request, timers), 'tcp', request.headers[':authority'])
    else tunnel(request, streamCarrier(request, timers), 'udp', udpAuthority(request.headers[':path'] ?? ''))
  })
  server.on('upgrade', (request: IncomingMessage, socket: TLSSocket, head: Uint8Array) => {
    if (isTcpForwarding(request)) {
      tunnel(request, socketCarrier(socket, head, timers, { reset: () => listener.reset(socket), upgrade: TCP_FORWARDING }), 'tcp', forwardedAuthority(request.url ?? ''))
      return
    }
    if (isConnectUdp(request)) {
      tunnel(request, socketCarrier(socket, head, timers, { reset: () => listener.reset(socket), upgrade: CONNECT_UDP }), 'udp', udpAuthority(request.url ?? ''))
      return
    }
    const response = responseOn(request, socket)
    serve(request, response, { protocol: upgradeOf(request), take: takeUpgrade(socket, head, response) })
  })

  const leaveWorld = world.onChange((changed, cause) => {
    if (cause.at !== undefined) metrics.propagated(now() - cause.at)
    sessions.recheck(changed, cause)
  })
  const leavePolicies = policies.onChange(() => {
    upstreams.follow(policies.current())
    sessions.recheck('all', {})
    listener.refresh()
    followFiles().catch((error: Error) => log.error({ event: 'files_not_followed', cause: error.message }, 'Certificates in files do not follow the policies.'))
  })
  metrics.readSnapshotAge(() => {
    const { currentAt } = world.snapshot()
    return currentAt === null ? null : now() - currentAt
  })
  return {
    port,
    updateAuthorities() {
      const next = authorities().join()
      if (next !== believed) tickets.renew()
      believed = next
      listener.refresh()
    },
    updateIdentity(next) {
      identity = next
      listener.refresh()
    },
    async drain(graceMs) {
      sessions.stop()
      listener.stopAccepting()
      log.info({ event: 'draining', sessions: sessions.count, graceMs }, 'No more sessions are taken; those that are open may end.')
      await sessions.empty(graceMs)
      sessions.cutAll('gateway-stopping')
    },
    async close() {
      leaveWorld()
      leavePolicies()
      sessions.close()
      upstreams.close()
      for (const leave of leaves) leave()
      tickets.close()
      keyPairs.close()
      acme.close()
      await listener.close()
    },
  }
}
