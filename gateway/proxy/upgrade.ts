// A request for another protocol on an HTTP/1.1 connection: websockets to a declared service. The connection carries bytes both ways from there on.
import { ServerResponse, type IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { responseHeaders } from './headers.ts'
import type { TakeUpgrade } from './forward.ts'
import { breakUpstream, splice } from './splice.ts'

/** The protocol that a request asks to go over to, in lower case; '' when it asks for none. */
export const upgradeOf = (request: IncomingMessage): string => (request.headers.upgrade ?? '').trim().toLowerCase()

/** Whether a request may leave HTTP; one that asks for anything else is answered as if it had not asked (RFC 9110 §7.8). */
export const isUpgradable = (request: IncomingMessage): boolean => {
  const { headers, method } = request
  // One with a body is none: Node would hand the body over as the first bytes of the other protocol.
  return upgradeOf(request) === 'websocket' && method === 'GET' && headers['transfer-encoding'] === undefined && Number(headers['content-length'] ?? 0) === 0
}

/** An answer on a connection that Node has let go of. Whatever is not an upgrade ends the connection. */
export function responseOn(request: IncomingMessage, socket: TLSSocket): ServerResponse {
  const response = new ServerResponse(request)
  response.shouldKeepAlive = false
  response.assignSocket(socket)
  response.once('finish', () => {
    response.detachSocket(socket)
    // Node's server would tell; this answer has none.
    response.emit('close')
    socket.destroySoon()
  })
  // Node watches no more: a client that breaks must still end what it had asked for.
  socket.on('error', () => response.destroy())
  socket.once('close', () => response.destroy())
  return response
}

/** Joins the client's connection with the upstream's once the upstream has agreed. */
export function takeUpgrade(socket: TLSSocket, head: Uint8Array, response: ServerResponse): TakeUpgrade {
  return ({ headers, socket: far }, onEnd) => {
    const upstream = far as Socket
    response.writeHead(101, { ...responseHeaders(headers), connection: 'Upgrade', upgrade: headers.upgrade ?? 'websocket' })
    response.flushHeaders()
    response.detachSocket(socket)
    socket.setTimeout(0)
    // Node's TLS server closes both ways on the client's end; the upstream must be able to finish.
    socket.allowHalfOpen = true
    const joined = splice(socket, upstream, head, onEnd)
    upstream.resume()
    return {
      carried: joined.carried,
      cut() {
        joined.stop()
        breakUpstream(upstream)
        socket.destroy()
      },
    }
  }
}
