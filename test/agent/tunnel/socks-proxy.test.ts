// SOCKS5 by raw sockets.
import { afterEach, describe, expect, it } from 'vitest'
import { refuseWith, relayTo } from './gateway-double.ts'
import { closeAll, eventually, rawClient, serveTcp, startScene, type Scene } from './tunnel-under-test.ts'

afterEach(closeAll)

const name = (host: string) => [3, host.length, ...Buffer.from(host)]
const request = (command: number, address: number[], port: number) => Uint8Array.of(5, command, 0, ...address, port >> 8, port & 255)
const v4 = (...bytes: number[]) => [1, ...bytes]

async function ask(scene: Scene, bytes: Uint8Array) {
  const client = await rawClient(scene.tunnel.socksPort)
  client.socket.write(Uint8Array.of(5, 2, 0, 2))
  await client.until((got) => got.length >= 2)
  client.socket.write(bytes)
  return { client, reply: [...(await client.until((got) => got.length >= 12)).subarray(0, 12)] }
}

describe('SOCKS5 proxy', () => {
  it('carries names, IPv4 and IPv6 through the gateway', async () => {
    const port = await serveTcp((socket) => socket.pipe(socket))
    const scene = await startScene({ handle: relayTo(() => port) })
    for (const [address, authority] of [[name('Wiki.corp.test'), 'wiki.corp.test:443'], [v4(10, 9, 1, 2), '10.9.1.2:443'], [[4, 0xfd, 0, 0, 9, ...Array<number>(11).fill(0), 5], '[fd00:9::5]:443']] as const) {
      const { client, reply } = await ask(scene, request(1, [...address], 443))
      expect(reply).toEqual([5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
      expect(scene.gateway.authorities.at(-1)).toBe(authority)
      client.socket.write('hello')
      await client.until((bytes) => bytes.toString().endsWith('hello'))
    }
  })

  it('dials directly what is not protected', async () => {
    const port = await serveTcp((socket) => socket.end('direct'))
    const scene = await startScene()
    const { client } = await ask(scene, request(1, v4(127, 0, 0, 1), port))
    await client.ended
    expect(client.received().subarray(12).toString()).toBe('direct')
    expect(scene.gateway.authorities).toEqual([])
  })

  it('takes a handshake byte by byte, and one that is sent whole with data behind it', async () => {
    const port = await serveTcp((socket) => socket.pipe(socket))
    const scene = await startScene({ handle: relayTo(() => port) })
    const whole = Buffer.concat([Uint8Array.of(5, 1, 0), request(1, name('a.corp.test'), 1), Buffer.from('data')])
    const slow = await rawClient(scene.tunnel.socksPort)
    slow.socket.setNoDelay(true)
    for (const byte of whole) slow.socket.write(Uint8Array.of(byte))
    await slow.until((bytes) => bytes.toString().endsWith('data'))
    const fast = await rawClient(scene.tunnel.socksPort)
    fast.socket.write(whole)
    await fast.until((bytes) => bytes.toString().endsWith('data'))
  })

  it('refuses BIND, unknown address types and broken names with their own codes', async () => {
    const scene = await startScene()
    for (const [bytes, code] of [[request(2, name('a.corp.test'), 1), 7], [request(1, [9, 0, 0], 1), 8], [request(1, name('a b'), 1), 1], [request(1, name('a.corp.test'), 0), 1]] as const) {
      const { client, reply } = await ask(scene, bytes)
      expect(reply[3]).toBe(code)
      await client.closed
    }
  })

  it('answers 0xFF to a client that insists on authentication, and nothing to other protocols', async () => {
    const scene = await startScene()
    const insistent = await rawClient(scene.tunnel.socksPort)
    insistent.socket.write(Uint8Array.of(5, 1, 2))
    await insistent.closed
    expect([...insistent.received()]).toEqual([5, 0xff])
    for (const bytes of ['GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n', '\x04\x01\x00\x50']) {
      const other = await rawClient(scene.tunnel.socksPort)
      other.socket.write(bytes)
      await other.closed
      expect(other.received().length).toBe(0)
    }
  })

  it('tells a refusal (2) from a gateway that is away (5)', async () => {
    const scene = await startScene({ handle: refuseWith({ code: '062', reason: 'denied-by-policy', message: 'Not for you.', decision: null, tags: [] }) })
    expect((await ask(scene, request(1, name('a.corp.test'), 1))).reply[3]).toBe(2)
    expect(scene.denials.map(({ message }) => message)).toEqual(['Not for you.'])
    await scene.gateway.close()
    await eventually(() => scene.events.includes('gateway_disconnected'))
    expect((await ask(scene, request(1, name('a.corp.test'), 1))).reply[3]).toBe(5)
    expect(scene.denials).toHaveLength(1)
  })
})
