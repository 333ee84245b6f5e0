// Tunnels as they are asked for: CONNECT on streams of HTTP/2 (RFC 9113 §8.5, extended by RFC 8441) and on sockets of HTTP/1.1 (RFC 9110 §9.3.6), and by upgrade. It decides nothing.
import { constants, type Http2SecureServer, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import { STATUS_CODES } from 'node:http'
import type { TLSSocket } from 'node:tls'
import { FRAMING, FRAMING_HEADER, FramedDuplex } from '../../node/framed-duplex.ts'
import type { Timers } from '../../node/timers.ts'
import type { Carrier } from './tunnel.ts'

/** A CONNECT on a stream of HTTP/2. */
export interface Http2Connect { readonly stream: ServerHttp2Stream; readonly headers: IncomingHttpHeaders }

/**
 * Takes the CONNECTs of HTTP/2 ahead of Node's request and response objects, which cost a tunnel more than its decision does.
 * To be called once the server has its 'request' listener, which is when Node adds its own to 'stream'.
 */
export function takeConnects(server: Http2SecureServer, take: (request: Http2Connect) => void): void {
  const others = server.listeners('stream')
  server.removeAllListeners('stream')
  server.on('stream', (stream, headers, ...more) => {
    if (headers[':method'] === 'CONNECT') take({ stream, headers })
    else for (const other of others) other.call(server, stream, headers, ...more)
  })
}

/** The protocol that an extended CONNECT asks for (RFC 8441 §4); null: plain CONNECT. */
export const streamProtocol = ({ headers }: Http2Connect): string | null => {
  const protocol: unknown = headers[':protocol']
  return typeof protocol === 'string' ? protocol.toLowerCase() : null
}

const nothing = new Uint8Array(0)
/** How long a cut stream may take to hand over its reason. */
const FAREWELL_MS = 1_000

/** A CONNECT on an HTTP/2 stream. A cut tells its reason in the trailer `sallyport-denial` (JSON, percent-encoded), then resets. */
export function streamCarrier({ stream }: Http2Connect, timers: Timers): Carrier {
  let trailers: Record<string, string> = {}
  const reset = () => {
    if (!stream.destroyed) stream.destroy(new Error('the session was cut'))
  }
  return {
    client: stream, head: nothing, cutsSilently: false,
    refuse({ status, headers, body }) {
      if (stream.destroyed || stream.headersSent) return
      stream.respond({ ':status': status, ...headers })
      stream.end(body)
      // What the client still sends is not wanted, but must be drunk for the stream to end.
      stream.resume()
    },
    accept(headers) {
      stream.once('wantTrailers', () => stream.sendTrailers(trailers))
      stream.respond({ ':status': constants.HTTP_STATUS_OK, ...headers }, { waitForTrailers: true })
    },
    cut(denial) {
      // Bytes that wait for the client's window would go out ahead of the trailer: they must not go out at all.
      if (stream.writableLength > 0 || stream.destroyed) return reset()
      trailers = { 'sallyport-denial': encodeURIComponent(denial) }
      const stop = timers.after(FAREWELL_MS, reset)
      stream.once('close', stop)
      stream.end()
    },
  }
}

const lines = (headers: Readonly<Record<string, string>>): string => Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join('')

interface SocketTunnel {
  /** Breaks the connection so that the client can't take it for an end. */
  readonly reset: () => void
  /** The protocol that was asked for by an upgrade; null: by CONNECT. */
  readonly upgrade?: string | null
  /** The client asked for frames: each direction says that it has ended, and a cut its reason. */
  readonly framed?: boolean
}

/** A tunnel that has taken over an HTTP/1.1 connection. Without frames it has no place for a reason once it is open: a cut breaks the connection, and the client may ask why. */
export function socketCarrier(socket: TLSSocket, head: Uint8Array, timers: Timers, { reset, upgrade = null, framed = false }: SocketTunnel): Carrier {
  socket.setTimeout(0)
  // Node's TLS server closes both ways on the client's end; a tunnel must let the answer finish.
  socket.allowHalfOpen = true
  const frames = framed ? new FramedDuplex(socket, { head, reset }) : null
  return {
    client: frames ?? socket, head: frames === null ? head : nothing, cutsSilently: true,
    refuse({ status, headers, body }) {
      socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${lines({ ...headers, connection: 'close' })}\r\n${body}`)
      socket.resume()
      socket.once('finish', () => socket.destroySoon())
    },
    accept(headers) {
      const told = frames === null ? headers : { ...headers, [FRAMING_HEADER]: FRAMING }
      socket.write(upgrade === null ? `HTTP/1.1 200 Connection established\r\n${lines(told)}\r\n` : `HTTP/1.1 101 Switching Protocols\r\n${lines({ connection: 'Upgrade', upgrade, ...told })}\r\n`)
    },
    cut(denial) {
      if (frames?.tell(denial) !== true) return reset()
      socket.once('close', timers.after(FAREWELL_MS, reset))
    },
  }
}
