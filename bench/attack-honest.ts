// A device that goes on with its work: round trips over a tunnel that is open, new tunnels over its connection, and new connections with a tunnel each.
import { once } from 'node:events'
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2'
import type { Duplex } from 'node:stream'
import { connect as connectTls, createSecureContext } from 'node:tls'
import { within } from './within.ts'

export interface HonestSetting { readonly port: number; readonly authority: string; readonly cert: string; readonly key: string; readonly servername: string }
/** ms each. */
export interface HonestTimes { readonly 'echo': number[]; readonly 'new-tunnel': number[]; readonly 'new-connection': number[]; failures: number }

export const PLACE = 'echo.bench:7000'
const PIECE = Buffer.from('0123456789abcdef')
const PAUSE_MS = 20
/** Every so many round trips. */
const TUNNEL_EVERY = 5
const CONNECTION_EVERY = 25

async function echo(tunnel: Duplex): Promise<void> {
  const back = once(tunnel, 'data')
  tunnel.write(PIECE)
  await within('an echo', back)
}
async function openTunnel(session: ClientHttp2Session): Promise<Duplex> {
  const stream = session.request({ ':method': 'CONNECT', ':authority': PLACE }, { endStream: false })
  stream.on('error', () => stream.destroy())
  const [head] = await within('a tunnel', once(stream, 'response')) as [{ ':status': number }]
  if (head[':status'] !== 200) throw new Error(`a tunnel was refused with ${head[':status']}`)
  return stream
}

/** Connects, by HTTP/2. */
export async function openHonest({ port, authority, cert, key, servername }: HonestSetting) {
  const secureContext = createSecureContext({ ca: authority, cert, key, minVersion: 'TLSv1.3' })
  const session = connectHttp2(`https://127.0.0.1:${port}`, { secureContext, servername })
  session.on('error', () => session.destroy())
  const tunnel = await openTunnel(session)
  const fresh = async () => {
    const socket = connectTls({ host: '127.0.0.1', port, servername, secureContext, ALPNProtocols: ['http/1.1'] })
    socket.on('error', () => socket.destroy())
    try {
      await within('a handshake', once(socket, 'secureConnect'))
      const answer = once(socket, 'data')
      socket.write(`CONNECT ${PLACE} HTTP/1.1\r\nHost: ${PLACE}\r\n\r\n`)
      const [head] = await within('a tunnel', answer) as [Buffer]
      if (!head.toString('latin1').startsWith('HTTP/1.1 200')) throw new Error('a tunnel was refused')
      await echo(socket)
    } finally {
      socket.destroy()
    }
  }
  const more = async () => {
    const another = await openTunnel(session)
    await echo(another)
    another.end()
    another.resume()
  }
  return {
    /** Works for so long, one thing after the other. */
    async work(forMs: number): Promise<HonestTimes> {
      const times: HonestTimes = { 'echo': [], 'new-tunnel': [], 'new-connection': [], failures: 0 }
      const timed = async (kind: 'echo' | 'new-tunnel' | 'new-connection', act: () => Promise<void>) => {
        const began = performance.now()
        try {
          await act()
          times[kind].push(performance.now() - began)
        } catch {
          times.failures++ // counted, and its count is a figure: what an attack breaks is the question
        }
      }
      const until = performance.now() + forMs
      for (let turn = 0; performance.now() < until; turn++) {
        await timed('echo', () => echo(tunnel))
        if (turn % TUNNEL_EVERY === 0) await timed('new-tunnel', more)
        if (turn % CONNECTION_EVERY === 0) await timed('new-connection', fresh)
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
      }
      return times
    },
    close: () => session.destroy(),
  }
}
