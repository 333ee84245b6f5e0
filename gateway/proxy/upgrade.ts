// A request for another protocol on an HTTP/1.1 connection: websockets to a declared service, TCP or UDP to a destination. The connection carries bytes both ways from there on.
import { ServerResponse, type IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { CONNECT_UDP } from '../../protocol/capsules.ts'
import { responseHeaders } from './headers.ts'
import type { TakeUpgrade } from './forward.ts'
import { breakUpstream, splice } from './splice.ts'

/** The protocol that a request asks to go over to, in lower case; '' when it asks for none. */
export const upgradeOf = (request: IncomingMessage): string => (request.headers.upgrade ?? '').trim().toLowerCase()

/** Whether a request may leave HTTP; one that asks for anything else is answered as if it had not asked (RFC 9110 §7.8). */
export const isUpgradable = (request: IncomingMessage): boolean => {
  const { headers, method } = request
  // One with a body is none: Node would hand the body over as the first bytes of the other protocol.
  return (upgradeOf(request) === 'websocket' || isTcpForwarding(request) || isConnectUdp(request)) && method === 'GET' && headers['transfer-encoding'] === undefined && Number(headers['content-length'] ?? 0) === 0
}

export const TCP_FORWARDING = 'tcp-forwarding/1.0'
export const isTcpForwarding = (request: IncomingMessage): boolean => upgradeOf(request) === TCP_FORWARDING
/** RFC 9298 §3.2. */
export const isConnectUdp = (request: IncomingMessage): boolean => upgradeOf(request) === CONNECT_UDP

/**
 * The destination of `GET /tcp?address=…&port=…&tls=0|1`, as CONNECT would name it; '' when it is none.
 * `tls` is read and changes nothing: the gateway never leaves the client's TLS, and carries on what it is given.
 */
export function forwardedAuthority(target: string): string {
  const [path, query] = target.split('?')
  const asked = new URLSearchParams(query)
  const one = (name: string): string => (asked.getAll(name).length === 1 ? asked.get(name) ?? '' : '')
  const [address, port, tls] = [one('address'), one('port'), asked.has('tls') ? one('tls') : '1']
  if (path !== '/tcp' || (tls !== '0' && tls !== '1')) return ''
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
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
