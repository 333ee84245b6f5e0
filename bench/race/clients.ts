// The clients of the race: how a tunnel is opened through each proxy, over mutual TLS. The work that goes through it is in works.ts.
import { once } from 'node:events'
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2'
import type { Duplex } from 'node:stream'
import { connect as connectTls, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls'
import { FRAMING, FRAMING_HEADER, FramedDuplex } from '../../node/framed-duplex.ts'
import { within } from '../within.ts'
import { TCP_HOST } from './gate.ts'

export interface Credentials { readonly authority: string; readonly cert: string; readonly key: string; readonly servername: string }
/** What a peer does is a tunnel from its first byte; ours is asked for by CONNECT. `framed`: as agents ask for it over HTTP/1.1, so that an end is told from a break. */
export type Way = 'tls' | 'http1' | 'framed' | 'http2'

const AUTHORITY = `${TCP_HOST}:7`
/** As the agent has them. */
const STREAM_WINDOW = 4 << 20
const CONNECTION_WINDOW = 16 << 20

export interface Client {
  /** A new connection, whole or by a ticket of an earlier one. */
  connection(resumed: boolean): Promise<TLSSocket>
  tunnel(way: Way, resumed?: boolean): Promise<Duplex>
  /** One HTTP/2 connection, to open streams on. */
  session(): Promise<ClientHttp2Session>
  stream(session: ClientHttp2Session): Promise<Duplex>
}

export function createClient(port: number, { authority, cert, key, servername }: Credentials): Client {
  const secureContext: SecureContext = createSecureContext({ ca: authority, cert, key, minVersion: 'TLSv1.3' })
  let ticket: Buffer | undefined
  const connection = async (resumed: boolean): Promise<TLSSocket> => {
    if (resumed && ticket === undefined) {
      const first = connectTls({ host: '127.0.0.1', port, servername, secureContext, ALPNProtocols: ['http/1.1'] })
      first.on('error', () => first.destroy())
      ;[ticket] = await within('a ticket', once(first, 'session')) as [Buffer]
      first.destroy()
    }
    const socket = connectTls({ host: '127.0.0.1', port, servername, secureContext, ALPNProtocols: ['http/1.1'], ...(resumed ? { session: ticket } : {}) })
    socket.on('error', () => socket.destroy())
    socket.setNoDelay(true)
    await within('a handshake', once(socket, 'secureConnect'))
    if (socket.isSessionReused() !== resumed) throw new Error(`a handshake was ${resumed ? 'whole' : 'resumed'} that should not have been`)
    return socket
  }
  const stream = async (session: ClientHttp2Session): Promise<Duplex> => {
    const opened = session.request({ ':method': 'CONNECT', ':authority': AUTHORITY }, { endStream: false })
    opened.on('error', () => opened.destroy())
    const [head] = await within('a tunnel', once(opened, 'response')) as [{ ':status': number }]
    if (head[':status'] !== 200) throw new Error(`a tunnel was refused with ${head[':status']}`)
    return opened
  }
  const session = async () => {
    const made = connectHttp2(`https://127.0.0.1:${port}`, { secureContext, servername, settings: { initialWindowSize: STREAM_WINDOW, enablePush: false }, maxSessionMemory: 256 })
    made.on('error', () => made.destroy())
    await within('an HTTP/2 connection', once(made, 'remoteSettings'))
    made.setLocalWindowSize(CONNECTION_WINDOW)
    return made
  }
  return {
    connection, session, stream,
    async tunnel(way, resumed = false) {
      if (way === 'http2') {
        const own = await session()
        const opened = await stream(own)
        opened.once('close', () => own.destroy())
        return opened
      }
      const socket = await connection(resumed)
      if (way === 'tls') return socket
      socket.write(`CONNECT ${AUTHORITY} HTTP/1.1\r\nHost: ${AUTHORITY}\r\n${way === 'framed' ? `${FRAMING_HEADER}: ${FRAMING}\r\n` : ''}\r\n`)
      const [head] = await within('a tunnel', once(socket, 'data')) as [Buffer]
      const text = head.toString('latin1')
      if (!text.startsWith('HTTP/1.1 200') || !text.endsWith('\r\n\r\n')) throw new Error(`a tunnel was refused: ${text.split('\r\n')[0] ?? ''}`)
      return way === 'framed' ? new FramedDuplex(socket, { reset: () => socket.destroy() }) : socket
    },
  }
}
