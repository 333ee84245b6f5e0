// The connections that are open: how many strangers may hold, and which goes when another comes. Devices that proved themselves are counted one by one.
import type { Socket } from 'node:net'
import type { Metrics } from '../metrics/metrics.ts'

interface Connection { readonly socket: Socket; readonly address: string; uid: string | null }

/** A connection is known by its peer: TLS and HTTP/2 wrap sockets, and each wrapper tells the same. */
const keyOf = ({ remoteAddress, remotePort }: Pick<Socket, 'remoteAddress' | 'remotePort'>): string => `${remoteAddress ?? ''} ${remotePort ?? 0}`

/**
 * The table of one listener.
 * @param strangers the most connections that have proved nothing; beyond it the oldest of the busiest address is ended, so that who proves itself soon gets in
 * @param perDevice the most connections of one device
 */
export function createConnections({ strangers, perDevice, metrics }: { readonly strangers: number; readonly perDevice: number; readonly metrics: Metrics }) {
  const all = new Map<string, Connection>()
  const byAddress = new Map<string, Set<Connection>>()
  const byDevice = new Map<string, number>()
  let unproved = 0

  function leaveStrangers(connection: Connection): void {
    const those = byAddress.get(connection.address)
    if (!those?.delete(connection)) return
    if (those.size === 0) byAddress.delete(connection.address)
    metrics.strangers(--unproved)
  }

  function endOne(): void {
    let busiest: Set<Connection> | undefined
    for (const those of byAddress.values()) if (those.size > (busiest?.size ?? 0)) busiest = those
    const [oldest] = busiest ?? []
    if (oldest === undefined) return
    leaveStrangers(oldest)
    // No farewell: whoever holds a thousand of these waits for none.
    oldest.socket.resetAndDestroy()
  }

  return {
    /** A connection has come. */
    add(socket: Socket): void {
      const connection: Connection = { socket, address: socket.remoteAddress ?? '', uid: null }
      const key = keyOf(socket)
      all.set(key, connection)
      const those = byAddress.get(connection.address) ?? new Set<Connection>()
      byAddress.set(connection.address, those.add(connection))
      metrics.strangers(++unproved)
      socket.once('close', () => {
        all.delete(key)
        leaveStrangers(connection)
        if (connection.uid === null) return
        const left = (byDevice.get(connection.uid) ?? 1) - 1
        if (left === 0) byDevice.delete(connection.uid)
        else byDevice.set(connection.uid, left)
      })
      if (unproved > strangers) endOne()
    },
    /** The device `uid` has proved itself over a connection. @returns false: it has too many */
    prove(socket: Pick<Socket, 'remoteAddress' | 'remotePort'>, uid: string): boolean {
      const connection = all.get(keyOf(socket))
      if (connection === undefined || connection.uid !== null) return true
      const count = byDevice.get(uid) ?? 0
      if (count >= perDevice) return false
      leaveStrangers(connection)
      connection.uid = uid
      byDevice.set(uid, count + 1)
      return true
    },
    /** Breaks the connection under a socket so that its client can't take what came for all there was: TLS in Node tells no reset, and no end from a broken one. */
    reset(socket: Pick<Socket, 'remoteAddress' | 'remotePort' | 'destroy'>): void {
      const connection = all.get(keyOf(socket))
      if (connection === undefined) socket.destroy()
      else connection.socket.resetAndDestroy()
    },
    /** Breaks every connection. */
    close(): void {
      for (const { socket } of all.values()) socket.destroy()
    },
  }
}
