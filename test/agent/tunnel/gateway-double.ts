// The far side: a real HTTP/2 server with mutual TLS that answers CONNECT as each test says.
import { createSecureServer, type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import { connect } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { freePort } from '../../../start/free-port.ts'
import type { Issued } from './test-certificates.ts'

export type Handle = (stream: ServerHttp2Stream, authority: string) => void
export interface GatewayDouble {
  port: number
  handle: Handle
  /** CN of the client certificate of each CONNECT, in order. */
  callers: string[]
  authorities: string[]
  sessions: Set<ServerHttp2Session>
  close(): Promise<void>
}

/** Carries a CONNECT to a loopback port, whatever name was asked for. */
export const relayTo = (port: () => number): Handle => (stream) => {
  const upstream = connect({ host: '127.0.0.1', port: port(), allowHalfOpen: true })
  upstream.once('connect', () => {
    stream.respond({ ':status': 200 })
    stream.pipe(upstream)
    upstream.pipe(stream)
  })
  upstream.on('error', () => stream.close(2))
  stream.on('error', () => upstream.destroy())
  stream.on('close', () => upstream.destroy())
}

export const refuseWith = (body: unknown, status = 403): Handle => (stream) => {
  stream.respond({ ':status': status, 'content-type': 'application/json' })
  stream.end(typeof body === 'string' ? body : JSON.stringify(body))
}

export async function startGatewayDouble(own: Issued, clientAuthority: string, handle: Handle, port?: number): Promise<GatewayDouble> {
  const server = createSecureServer({ cert: own.certificatePem, key: own.privateKeyPem, ca: clientAuthority, requestCert: true, maxSessionMemory: 1000, rejectUnauthorized: true, settings: { initialWindowSize: 1 << 20 } })
  const double: GatewayDouble = {
    port: 0, handle, callers: [], authorities: [], sessions: new Set(),
    close: () => new Promise((done) => {
      server.close(() => done())
      for (const session of double.sessions) session.destroy()
    }),
  }
  server.on('session', (session) => {
    double.sessions.add(session)
    session.on('error', () => session.destroy())
    session.on('close', () => double.sessions.delete(session))
  })
  server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    stream.on('error', () => stream.destroy())
    double.callers.push(String((stream.session?.socket as TLSSocket | undefined)?.getPeerCertificate().subject.CN))
    double.authorities.push(headers[':authority'] ?? '')
    double.handle(stream, headers[':authority'] ?? '')
  })
  // Another may come in its place: nobody else may be given its port meanwhile.
  double.port = port ?? await freePort()
  await new Promise<void>((resolve) => {
    server.listen(double.port, '127.0.0.1', resolve)
  })
  return double
}
