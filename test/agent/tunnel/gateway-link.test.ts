// The connection to a gateway: whom it trusts, how it is lost and found again, and what a change of settings or identity does.
import { connect, createServer, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { profileSettings } from '../../../protocol/profile.ts'
import { freePort } from '../../../start/free-port.ts'
import { relayTo, startGatewayDouble, type GatewayDouble } from './gateway-double.ts'
import { createTestAuthority } from './test-certificates.ts'
import { certificates, closeAll, connectThrough, eventually, rawClient, serial, serveTcp, startScene, type Scene } from './tunnel-under-test.ts'

const doubles: GatewayDouble[] = []
afterEach(async () => {
  await closeAll()
  await Promise.all(doubles.splice(0).map((double) => double.close()))
})
const echo = () => serveTcp((socket) => socket.pipe(socket))
const at = (port: number) => ({ gateways: [{ serial, host: '127.0.0.1', port }] })

async function answer(scene: Scene): Promise<string> {
  const client = await rawClient(scene.tunnel.httpPort)
  client.socket.write('CONNECT a.corp.test:22 HTTP/1.1\r\nHost: a\r\n\r\n')
  const text = (await client.until((bytes) => bytes.includes('\n\r\n'))).toString()
  if (text.startsWith('HTTP/1.1 200')) return text
  await client.closed
  return client.received().toString()
}
async function speaks(client: { socket: Socket; body(): string }, word: string) {
  client.socket.write(word)
  await eventually(() => client.body().endsWith(word))
}

describe('the connection to a gateway', () => {
  it('answers 502 with a sentence while the gateway is down, never directly, and 200 when it is back', async () => {
    const port = await echo()
    let clock = 0
    const scene = await startScene({ options: { now: () => clock } })
    const where = scene.gateway.port
    await scene.gateway.close()
    const text = await answer(scene)
    expect(text).toMatch(/^HTTP\/1\.1 502 Bad Gateway/)
    expect(text).toContain(`a.corp.test:22 is protected by gateway ${serial}, which can't be reached`)
    doubles.push(await startGatewayDouble(certificates.gateway, certificates.authority.pem, relayTo(() => port), where))
    clock += 10_000
    expect(await answer(scene)).toMatch(/^HTTP\/1\.1 200/)
    expect(scene.denials).toEqual([])
  })

  it('refuses a gateway of another serial, another authority, or a certificate of another purpose', async () => {
    const scene = await startScene()
    const foreign = createTestAuthority('EMS')
    for (const own of [certificates.authority.gateway('SPGWFFFFFFFFFFFF'), foreign.gateway(serial), certificates.authority.gateway(serial, 'browser')]) {
      const impostor = await startGatewayDouble(own, certificates.authority.pem, (stream) => stream.respond({ ':status': 200 }))
      doubles.push(impostor)
      scene.change(at(impostor.port))
      expect(await answer(scene)).toMatch(/^HTTP\/1\.1 502/)
      expect(impostor.authorities).toEqual([])
    }
  })

  it('answers 502 when the gateway does not accept our certificate', async () => {
    const scene = await startScene()
    scene.identity = createTestAuthority('other').agent('stranger')
    expect(await answer(scene)).toMatch(/^HTTP\/1\.1 502/)
    expect(scene.gateway.authorities).toEqual([])
  })

  it('answers 502 for a gateway that the profile does not know', async () => {
    const scene = await startScene()
    scene.change({ gateways: [] })
    expect(await answer(scene)).toContain('whose address the profile does not give')
  })

  it('opens new streams with a renewed certificate and lets the old ones finish', async () => {
    const port = await echo()
    const scene = await startScene({ handle: relayTo(() => port) })
    const old = await connectThrough(scene, 'a.corp.test:22')
    scene.identity = certificates.renewed
    const fresh = await connectThrough(scene, 'a.corp.test:22')
    expect(scene.gateway.callers).toEqual(['first', 'renewed'])
    await speaks(old, 'old')
    await speaks(fresh, 'new')
    expect(scene.gateway.sessions.size).toBe(2)
    old.socket.end()
    await old.closed
    await eventually(() => scene.gateway.sessions.size === 1)
    await speaks(fresh, 'still')
  })

  it('shares one connection among streams that are opened at once', async () => {
    const port = await echo()
    const scene = await startScene({ handle: relayTo(() => port) })
    await Promise.all(Array.from({ length: 20 }, () => connectThrough(scene, 'a.corp.test:22')))
    expect(scene.gateway.sessions.size).toBe(1)
  })

  it('resets programs when the connection is lost, and reconnects by itself after a jittered delay', async () => {
    const port = await echo()
    const delays: { delayMs: number; action: () => void }[] = []
    const scene = await startScene({ handle: relayTo(() => port), options: { random: () => 0.5, timers: { after: (delayMs, action) => {
      delays.push({ delayMs, action })
      return () => {}
    } } } })
    const client = await connectThrough(scene, 'a.corp.test:22')
    for (const session of scene.gateway.sessions) session.destroy()
    expect(await client.closed).toBe('reset')
    await eventually(() => delays.some(({ delayMs }) => delayMs === 500))
    delays.find(({ delayMs }) => delayMs === 500)?.action()
    await eventually(() => scene.gateway.sessions.size === 1)
  })

  it('notices by ping that the gateway has vanished without a word', async () => {
    const port = await echo()
    const delays: { delayMs: number; action: () => void }[] = []
    const scene = await startScene({ handle: relayTo(() => port), options: { timers: { after: (delayMs, action) => {
      const entry = { delayMs, action }
      delays.push(entry)
      return () => {
        delays.splice(delays.indexOf(entry), 1)
      }
    } } } })
    // A wire that can be cut so that neither end hears of it.
    let silent = false
    const wires: Socket[] = []
    const wire = createServer((near) => {
      const far = connect(scene.gateway.port, '127.0.0.1')
      wires.push(near, far)
      for (const [from, to] of [[near, far], [far, near]] as const) {
        from.on('error', () => {
          to.destroy()
        })
        from.on('data', (chunk) => {
          if (!silent) to.write(chunk)
        })
      }
    })
    const wirePort = await new Promise<number>((resolve) => {
      wire.listen(0, '127.0.0.1', () => resolve((wire.address() as { port: number }).port))
    })
    scene.change(at(wirePort))
    const client = await connectThrough(scene, 'a.corp.test:22')
    const fire = async (delayMs: number) => {
      await eventually(() => delays.some((delay) => delay.delayMs === delayMs))
      const [entry] = delays.splice(delays.findIndex((delay) => delay.delayMs === delayMs), 1)
      entry?.action()
    }
    // The first ping is answered: the wait for its answer is taken back, the next ping is set.
    await fire(15_000)
    await eventually(() => delays.some(({ delayMs }) => delayMs === 15_000))
    await speaks(client, 'alive')
    silent = true
    await fire(15_000)
    await fire(5000)
    expect(await client.closed).toBe('reset')
    for (const socket of wires) socket.destroy()
    await new Promise((resolve) => {
      wire.close(resolve)
    })
  })
})

describe('a change of settings', () => {
  it('takes effect for new connections and leaves the open ones alone', async () => {
    const port = await echo()
    const scene = await startScene({ handle: relayTo(() => port) })
    const protectedOne = await connectThrough(scene, 'a.corp.test:22')
    scene.change({ destinations: [{ match: '127.0.0.0/8', ports: [port], gateway: serial }] })
    await speaks(protectedOne, 'open')
    await connectThrough(scene, `127.0.0.1:${port}`)
    expect(scene.gateway.authorities.at(-1)).toBe(`127.0.0.1:${port}`)
    scene.change({ destinations: [], gateways: [] })
    const direct = await connectThrough(scene, `127.0.0.1:${port}`)
    await speaks(direct, 'direct')
    await speaks(protectedOne, 'still open')
    expect(scene.gateway.authorities).toHaveLength(2)
  })

  it('moves a port only when it has changed, and keeps the old one when the new can not be had', async () => {
    const port = await echo()
    const scene = await startScene({ handle: relayTo(() => port) })
    const { httpPort, socksPort } = scene.tunnel
    const open = await connectThrough(scene, 'a.corp.test:22')
    const free = await freePort()
    scene.change({ proxy: { httpPort: free, socksPort: 0 } })
    await eventually(() => scene.tunnel.httpPort === free)
    expect(scene.tunnel.socksPort).toBe(socksPort)
    await speaks(open, 'moved')
    await speaks(await connectThrough(scene, 'a.corp.test:22'), 'there')
    const gone = await rawClient(httpPort)
    expect(await gone.closed).toBe('reset')
    scene.change({ proxy: { httpPort: port, socksPort: 0 } })
    await eventually(() => scene.events.includes('port_unavailable'))
    expect(scene.tunnel.httpPort).toBe(free)
  })

  it('reads its defaults from the contract', () => {
    expect(profileSettings.parse({}).proxy).toEqual({ httpPort: 8630, socksPort: 8631 })
  })
})
