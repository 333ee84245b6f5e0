// A listener on loopback that serves one user of this machine. Not a byte of anybody else's connection is read.
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { peerOwner } from './peer-owner.ts'
import { cut } from './splice.ts'
import type { TunnelLog } from './tunnel-log.ts'

export interface Listener {
  readonly port: number
  /** Takes no more connections; those that are open stay. */
  stop(): void
  /** Takes no more connections and cuts the open ones. */
  close(): Promise<void>
}

const maxSockets = 1024

/**
 * Listens on loopback.
 * @param host a loopback address; 127.0.0.1 unless said
 * @param port 0 picks a free one
 * @param ownerOf tells whose a connection is, null where it can't be told; by the socket's two ends unless said
 * @param serve gets each admitted socket, paused, with an 'error' listener already on it
 * @throws the system's error when the port can't be had
 */
export async function listen({ host = '127.0.0.1', port, ownerUid, ownerOf = peerOwner, log, serve }: {
  host?: string; port: number; ownerUid: number; ownerOf?: (socket: Socket) => Promise<number | null>; log: TunnelLog; serve: (socket: Socket) => void
}): Promise<Listener> {
  const sockets = new Set<Socket>()
  // Half-open: a program may finish sending and still wait for the answer. Paused: nothing is read before the owner is known.
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    socket.on('error', () => socket.destroy())
    ownerOf(socket).then((owner) => {
      if (socket.destroyed) return
      if (owner === ownerUid) {
        serve(socket)
        return
      }
      log.warn({ event: 'peer_refused', owner }, owner === null
        ? `Refused a local connection: whose it is can't be told${process.platform === 'linux' ? '' : ` on ${process.platform}`}`
        : 'Refused a local connection of another user')
      cut(socket)
    }, () => cut(socket))
  })
  server.maxConnections = maxSockets
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject)
  server.listen({ host, port, exclusive: true }, resolve)
  await promise
  server.off('error', reject)
  server.on('error', (error) => log.error({ event: 'listener_failed', cause: error.message }, 'A local listener failed'))
  return {
    port: (server.address() as AddressInfo).port,
    stop: () => {
      server.close()
    },
    close: () => new Promise((done) => {
      server.close(() => done())
      for (const socket of sockets) cut(socket)
    }),
  }
}
