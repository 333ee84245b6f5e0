// A small real HTTPS server to speak with: its TLS certificate is made to order and each request is answered by the test.
import { createServer } from 'node:https'
import type { IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { buffer } from 'node:stream/consumers'
import { WebSocketServer, type WebSocket } from 'ws'
import { createAuthority, issueServerCertificate, type Authority } from '../../identity/authority.ts'
import { copyBytes, type Bytes } from '../../identity/encoding.ts'
import { exportPrivateKey, exportPublicKey, generateKey } from '../../identity/keys.ts'

export interface Seen { readonly method: string; readonly url: string; readonly headers: Headers; readonly body: Bytes }
export interface Answer { readonly status?: number; readonly body: unknown }
export interface TestServer {
  readonly origin: string
  readonly tlsCaPem: string
  readonly seen: Seen[]
  /** Sockets that were opened, with the upgrade that opened them. */
  readonly opened: Promise<{ socket: WebSocket; upgrade: Seen }>
  close(): Promise<void>
}

export interface TlsWanted { readonly dnsNames?: string[]; readonly issuedAt?: number; readonly authority?: Authority }

const seenOf = (request: IncomingMessage, origin: string, body: Bytes): Seen => ({
  method: request.method ?? '', url: `${origin}${request.url ?? ''}`, body,
  headers: new Headers(Object.entries(request.headersDistinct).flatMap(([name, values]) => (values ?? []).map((value): [string, string] => [name, value]))),
})

/** Listens on a free port of localhost. */
export async function httpsServer(answer: (request: Seen) => Answer | Promise<Answer>, tls: TlsWanted = {}): Promise<TestServer> {
  const now = Date.now()
  const authority = tls.authority ?? await createAuthority({ name: 'TLS', now: now - 100 * 86_400_000 })
  const keys = await generateKey(true)
  const issued = await issueServerCertificate({
    authority, publicKeySpki: await exportPublicKey(keys.publicKey), commonName: 'localhost', dnsNames: tls.dnsNames ?? ['localhost'], now: tls.issuedAt ?? now, days: 30,
  })
  const seen: Seen[] = []
  const server = createServer({ cert: issued.pem, key: await exportPrivateKey(keys.privateKey) })
  await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve))
  const origin = `https://localhost:${(server.address() as AddressInfo).port}`
  const reply = async (request: IncomingMessage): Promise<Answer> => {
    const read = seenOf(request, origin, copyBytes(await buffer(request)))
    seen.push(read)
    return await answer(read)
  }
  server.on('request', (request, response) => {
    reply(request).then(
      ({ status = 200, body }) => response.writeHead(status, { 'content-type': 'application/json' }).end(typeof body === 'string' ? body : JSON.stringify(body)),
      (cause: unknown) => response.destroy(cause instanceof Error ? cause : new Error(String(cause))),
    )
  })
  const connections = new Set<TLSSocket>()
  server.on('secureConnection', (socket) => {
    connections.add(socket)
    socket.once('close', () => connections.delete(socket))
  })
  const sockets = new WebSocketServer({ server })
  const opened = new Promise<{ socket: WebSocket; upgrade: Seen }>((resolve) => {
    sockets.once('connection', (socket, request) => resolve({ socket, upgrade: seenOf(request, origin, copyBytes(new Uint8Array())) }))
  })
  return {
    origin, tlsCaPem: authority.certificatePem, seen, opened,
    async close() {
      for (const socket of connections) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
