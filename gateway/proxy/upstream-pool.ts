// Connections to one address of one upstream, kept and reused. The address was checked; over TLS the upstream must bear the declared name.
import { connect as connectPlain, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { Pool, type buildConnector } from 'undici'
import { normalAddress } from '../../domain/access/host.ts'
import type { Upstream, UpstreamTls } from '../../domain/access/service.ts'
import type { KeyPair } from './key-pairs.ts'
import type { Timers } from '../../node/timers.ts'

/** An upstream's own keep-alive wins over this; Node and nginx drop idle connections after five seconds and more. */
const IDLE_FOR = 4_000
const MAX_HEADER_BYTES = 65_536

interface PoolOptions {
  readonly upstream: Upstream
  readonly address: string
  readonly tls: UpstreamTls
  /** The gateway's own certificate for the upstream. */
  readonly client: KeyPair | null
  readonly connectLimitMs: number
  readonly timers: Timers
}

/** The name that an upstream's certificate must bear; '' for an address, which is then looked for in the certificate as such. */
const upstreamName = ({ host }: Upstream, { name }: UpstreamTls): string => name ?? (normalAddress(host) === null ? host : '')

function connector({ upstream, address, tls, client, connectLimitMs, timers }: PoolOptions): buildConnector.connector {
  const to = { host: address, port: upstream.port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 }
  const secure = { ...to, servername: upstreamName(upstream, tls), ALPNProtocols: ['http/1.1'], ...(tls.ca === null ? {} : { ca: tls.ca }), ...(client === null ? {} : client) }
  return (_asked, callback) => {
    const socket: Socket = upstream.secure ? connectTls(secure) : connectPlain(to)
    const stop = timers.after(connectLimitMs, () => socket.destroy(new Error(`no connection within ${connectLimitMs} ms`)))
    const fail = (error: Error) => {
      stop()
      callback(error, null)
    }
    socket.once('error', fail)
    socket.once(upstream.secure ? 'secureConnect' : 'connect', () => {
      stop()
      socket.removeListener('error', fail)
      callback(null, socket)
    })
  }
}

/** Opens the pool; connections are made as they are needed. */
export const openPool = (options: PoolOptions): Pool => new Pool(`${options.upstream.secure ? 'https' : 'http'}://upstream:${options.upstream.port}`, {
  connect: connector(options), connections: null, pipelining: 1, keepAliveTimeout: IDLE_FOR, maxHeaderSize: MAX_HEADER_BYTES, allowH2: false,
})
