// A wire between an agent and a gateway that a test can watch, cut, and silence so that neither end hears of it.
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

export interface Wire {
  readonly port: number
  /** The agent's ends of what is open, the oldest first. */
  open(): Socket[]
  /** From now on not a byte passes, and nobody is told; also for connections to come while it lasts. */
  silence(): void
  /** Connections to come pass again; those that were silenced stay so. */
  restore(): void
  close(): Promise<void>
}

export async function startWire(to: () => number, host = '127.0.0.1'): Promise<Wire> {
  const pairs = new Set<{ near: Socket; far: Socket }>()
  const silenced = new WeakSet<Socket>()
  let isSilent = false
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ host: '127.0.0.1', port: to(), allowHalfOpen: true })
    const pair = { near, far }
    pairs.add(pair)
    if (isSilent) silenced.add(near)
    const join = (from: Socket, onto: Socket) => {
      from.on('error', () => onto.resetAndDestroy())
      from.on('data', (chunk) => {
        if (!silenced.has(near) && !onto.write(chunk)) from.pause()
      })
      onto.on('drain', () => from.resume())
      from.on('end', () => {
        if (!silenced.has(near)) onto.end()
      })
      from.on('close', () => {
        if (silenced.has(near)) return
        pairs.delete(pair)
        onto.destroySoon()
      })
    }
    join(near, far)
    join(far, near)
  })
  await new Promise<void>((resolve) => {
    server.listen(0, host, resolve)
  })
  return {
    port: (server.address() as AddressInfo).port,
    open: () => [...pairs].map(({ near }) => near),
    silence() {
      isSilent = true
      for (const { near } of pairs) silenced.add(near)
    },
    restore() {
      isSilent = false
    },
    close: () => new Promise((resolve) => {
      server.close(() => resolve())
      for (const { near, far } of pairs) {
        near.destroy()
        far.destroy()
      }
    }),
  }
}
