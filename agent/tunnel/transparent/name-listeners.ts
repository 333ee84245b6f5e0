// A listener on each port of each protected name's loopback address. What can't be had is told, and nothing else depends on it.
import type { Socket } from 'node:net'
import { systemFailure } from '../../failure.ts'
import { listen, type Listener } from '../listener.ts'
import type { Target } from '../target.ts'
import type { TunnelLog } from '../tunnel-log.ts'
import type { PortRange } from './wanted.ts'

/** Why some ports of a name have no listener. */
export interface Lacking { readonly name: string; readonly ports: readonly PortRange[]; readonly reason: string }

export interface NameListeners {
  put(names: ReadonlyMap<string, readonly PortRange[]>, addresses: ReadonlyMap<string, string>): Promise<readonly Lacking[]>
  /** Takes no more connections, and cuts the open ones. */
  close(): Promise<void>
}

/** A port a listener: whole ranges are for the packet filter, which takes them as they are. */
const MAX_PORTS_OF_A_NAME = 64
const MAX_LISTENERS = 2_048

export function createNameListeners({ ownerUid, serve, log }: { ownerUid: number; serve: (socket: Socket, target: Target) => void; log: TunnelLog }): NameListeners {
  const open = new Map<string, Listener>()
  /** No longer taking connections, but those that they took are open. */
  const leaving = new Set<Listener>()

  async function have(key: string, host: string, target: Target): Promise<string | null> {
    if (open.has(key)) return null
    try {
      open.set(key, await listen({ host, port: target.port, ownerUid, log, serve: (socket) => serve(socket, target) }))
      return null
    } catch (cause) {
      if (systemFailure(cause) === null) throw cause
      const { code } = cause as NodeJS.ErrnoException
      return code === 'EADDRINUSE' ? 'another program has it' : code === 'EACCES' ? 'only root may have it' : String(code)
    }
  }

  return {
    async put(names, addresses) {
      const wanted = new Set<string>()
      const lacking: Lacking[] = []
      for (const [name, ranges] of names) {
        const address = addresses.get(name) ?? ''
        const count = ranges.reduce((sum, { from, to }) => sum + to - from + 1, 0)
        if (count > MAX_PORTS_OF_A_NAME || wanted.size + count > MAX_LISTENERS) {
          lacking.push({ name, ports: ranges, reason: 'too many for a listener each' })
          continue
        }
        for (const port of ranges.flatMap(({ from, to }) => Array.from({ length: to - from + 1 }, (_, offset) => from + offset))) {
          const key = `${address}:${port}`
          wanted.add(key)
          const reason = await have(key, address, { host: name, port })
          if (reason !== null) lacking.push({ name, ports: [{ from: port, to: port }], reason })
        }
      }
      for (const [key, listener] of open) {
        if (wanted.has(key)) continue
        listener.stop()
        leaving.add(listener)
        open.delete(key)
      }
      return lacking
    },
    async close() {
      const all = [...open.values(), ...leaving]
      open.clear()
      leaving.clear()
      await Promise.all(all.map((listener) => listener.close()))
    },
  }
}
