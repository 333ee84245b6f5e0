// One running proxy with a gateway double and plain upstreams, and raw clients that speak to it.
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import type { Denial } from '../../../agent/tunnel/denial.ts'
import { startTunnel, type Tunnel, type TunnelOptions } from '../../../agent/tunnel/start.ts'
import { profileSettings, type ProfileSettings } from '../../../protocol/profile.ts'
import { createTestAuthority, type Issued } from './test-certificates.ts'
import { relayTo, startGatewayDouble, type GatewayDouble, type Handle } from './gateway-double.ts'

export const serial = 'SPGW0123456789AB'
const authority = createTestAuthority('EMS')
export const certificates = { authority, gateway: authority.gateway(serial), first: authority.agent('first'), renewed: authority.agent('renewed') }

export interface Scene {
  tunnel: Tunnel
  gateway: GatewayDouble
  denials: Denial[]
  events: string[]
  settings: ProfileSettings
  identity: Issued
  /** Applies new settings, as the profile does. */
  change(patch: Partial<ProfileSettings>): void
  close(): Promise<void>
}

const openThings: (() => Promise<void>)[] = []
export const closeAll = async () => {
  for (const close of openThings.splice(0).reverse()) await close()
}

/** A plain TCP server on loopback. */
export async function serveTcp(onSocket: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>()
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    onSocket(socket)
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  openThings.push(() => new Promise((done) => {
    server.close(() => done())
    for (const socket of sockets) socket.destroy()
  }))
  return (server.address() as AddressInfo).port
}

export async function startScene({ handle, ownerUid = process.getuid?.() ?? -1, options = {} }: { handle?: Handle; ownerUid?: number; options?: Partial<TunnelOptions> } = {}): Promise<Scene> {
  const gateway = await startGatewayDouble(certificates.gateway, authority.pem, handle ?? relayTo(() => 9))
  const listeners = new Set<() => void>()
  const scene: Omit<Scene, 'tunnel'> = {
    gateway, denials: [], events: [], identity: certificates.first,
    settings: profileSettings.parse({
      gateways: [{ serial, host: '127.0.0.1', port: gateway.port }],
      destinations: [{ match: '*.corp.test', ports: [{ from: 1, to: 65_535 }], gateway: serial }, { match: '10.9.0.0/16', ports: [443], gateway: serial }, { match: 'fd00:9::/32', ports: [443], gateway: serial }],
      proxy: { httpPort: 0, socksPort: 0 },
    }),
    change(patch) {
      scene.settings = { ...scene.settings, ...patch }
      for (const listener of listeners) listener()
    },
    close: closeAll,
  }
  const record = ({ event }: { event: string }) => {
    scene.events.push(event)
  }
  const tunnel = await startTunnel({
    settings: () => scene.settings,
    onSettings: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    identity: () => scene.identity, authorities: () => [authority.pem], ownerUid,
    log: { info: record, warn: record, error: record }, now: () => performance.now(), onDenial: (denial) => scene.denials.push(denial), ...options,
  })
  openThings.push(() => gateway.close(), () => tunnel.close())
  return Object.assign(scene, { tunnel })
}

/** A raw client; `received` grows as bytes come, `ended` and `closed` tell how it went. */
export interface RawClient { socket: Socket; received(): Buffer; until(test: (bytes: Buffer) => boolean): Promise<Buffer>; ended: Promise<unknown>; closed: Promise<'clean' | 'reset'> }

export async function rawClient(port: number, allowHalfOpen = false): Promise<RawClient> {
  const socket = connect({ host: '127.0.0.1', port, allowHalfOpen })
  let received: Buffer = Buffer.alloc(0)
  let failed = false
  let over = false
  let wake = () => {}
  socket.on('data', (chunk: Buffer) => {
    received = Buffer.concat([received, chunk])
    wake()
  })
  socket.on('error', () => {
    failed = true
  })
  const closed = new Promise<'clean' | 'reset'>((resolve) => {
    socket.on('close', () => {
      over = true
      resolve(failed ? 'reset' : 'clean')
      wake()
    })
  })
  const ended = new Promise((resolve) => {
    socket.on('end', () => resolve(null))
  })
  openThings.push(async () => {
    socket.destroy()
  })
  await Promise.race([closed, new Promise((resolve) => {
    socket.once('connect', resolve)
  })])
  return {
    socket, received: () => received, ended, closed,
    async until(test) {
      while (!test(received)) {
        if (over) throw new Error(`closed with ${JSON.stringify(received.toString('latin1'))}`)
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
      return received
    },
  }
}

/** Waits until `test` holds; the limit is there for what never does. */
export async function eventually(test: () => boolean): Promise<void> {
  const limit = performance.now() + 45_000
  while (!test()) {
    if (performance.now() > limit) throw new Error('it did not happen within 45 s')
    await new Promise((resolve) => {
      setTimeout(resolve, 5)
    })
  }
}

/** Opens a tunnel by HTTP CONNECT; resolves when the proxy has said 200. */
export async function connectThrough(scene: Pick<Scene, 'tunnel'>, target: string): Promise<RawClient & { body(): string }> {
  const client = await rawClient(scene.tunnel.httpPort, true)
  client.socket.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`)
  const head = await client.until((bytes) => bytes.includes('\r\n\r\n'))
  if (!head.toString('latin1').startsWith('HTTP/1.1 200 ')) throw new Error(head.toString('latin1'))
  return { ...client, body: () => client.received().toString('latin1').split('\r\n\r\n').slice(1).join('\r\n\r\n') }
}
