// The listener for address lists: HTTPS on a port of its own, for firewalls that poll. Bounded in connections, headers and time; it takes no body.
import { createServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { Log } from '../../node/logging.ts'
import type { ListAnswer, ListRequest } from './list-requests.ts'

/** Certificate chain and key, PEM. */
export interface ListIdentity { readonly certPem: string; readonly keyPem: string }
interface Options {
  readonly listen: { readonly host: string; readonly port: number }
  readonly identity: ListIdentity
  readonly answer: (request: ListRequest) => Promise<ListAnswer>
  readonly log: Log
}
export interface ListServer {
  readonly port: number
  /** Another certificate, for connections from now on. Throws when key and certificate do not fit; the old ones stay then. */
  updateIdentity(identity: ListIdentity): void
  close(): Promise<void>
}

const MAX_CONNECTIONS = 256

/** Resolves when it listens. Throws when the port can't be had, or the certificate can't be used. */
export async function serveLists({ listen, identity, answer, log }: Options): Promise<ListServer> {
  const secrets = ({ certPem, keyPem }: ListIdentity) => ({ cert: certPem, key: keyPem, minVersion: 'TLSv1.2' as const })
  const server = createServer({
    ...secrets(identity), ALPNProtocols: ['http/1.1'], maxHeaderSize: 8_192, headersTimeout: 5_000, requestTimeout: 10_000, keepAliveTimeout: 5_000,
    handshakeTimeout: 5_000, connectionsCheckingInterval: 5_000,
  }, (request, response) => {
    request.resume()
    response.on('error', () => response.destroy())
    const { method = '', url = '/', headers, socket } = request
    const finish = ({ status, headers: told, body }: ListAnswer) => {
      response.writeHead(status, { ...told, 'x-content-type-options': 'nosniff', ...(status === 304 ? {} : { 'content-length': Buffer.byteLength(body) }) })
      // A body is not read: the connection ends with the answer.
      if (headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined) response.shouldKeepAlive = false
      response.end(method === 'HEAD' ? '' : body)
    }
    answer({ method, target: url, headers, source: socket.remoteAddress ?? '' }).then(finish, (cause: Error) => {
      log.error({ event: 'list-failed', reason: cause.message }, 'An address list could not be served.')
      finish({ status: 500, headers: { 'content-type': 'text/plain; charset=utf-8' }, body: 'The list can not be served.\n' })
    })
  })
  server.maxConnections = MAX_CONNECTIONS
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  server.on('tlsClientError', (cause: Error) => log.debug({ event: 'list-tls-refused', reason: cause.message }, 'A TLS handshake for address lists failed.'))
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(listen.port, listen.host, resolve)
  })
  server.on('error', (cause) => log.error({ event: 'list-listener-failed', reason: cause.message }, 'The listener for address lists failed.'))
  return {
    port: (server.address() as AddressInfo).port,
    updateIdentity: (next) => server.setSecureContext(secrets(next)),
    close: () => new Promise((resolve) => {
      server.close(() => resolve())
      for (const socket of sockets) socket.destroy()
    }),
  }
}
