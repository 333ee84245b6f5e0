// Local programs, a real agent's SOCKS5, a real gate, real UDP services: UDP ASSOCIATE from end to end.
import { spawnSync, execFile } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { Resolver } from 'node:dns/promises'
import { once } from 'node:events'
import { promisify } from 'node:util'
import { afterEach, describe, expect, it } from 'vitest'
import type { Denial } from '../../../agent/tunnel/denial.ts'
import { startTunnel } from '../../../agent/tunnel/start.ts'
import { profileSettings } from '../../../protocol/profile.ts'
import { closeAll, rawClient } from '../../agent/tunnel/tunnel-under-test.ts'
import { GATEWAY, OK_TAG, cleanUp, later, startGate, until } from './gate-under-test.ts'
import { bindUdp, startNameServer, startUdpEcho } from './udp-under-test.ts'

afterEach(async () => {
  await closeAll()
  await cleanUp()
})

const run = promisify(execFile)
const name = (host: string) => [3, host.length, ...Buffer.from(host)]
const portBytes = (port: number) => [port >> 8, port & 255]
const own = process.getuid?.() ?? -1

/** An agent before a gate that protects `*.corp.test`, 10.9.0.0/16 and fd00:9::/32; its SOCKS port, and what it told the user. */
async function scene({ port, ownerUid = own, services = '' }: { port: number; ownerUid?: number; services?: string }) {
  const gate = await startGate(`services: [{name: echo, protocol: udp, match: ["*.corp.test", 10.9.0.0/16, "fd00:9::/32"], ports: [1-65535], upstream: "127.0.0.1:${port}"}${services}]\npolicies: [{name: p, services: [echo], tags: {all: [compliant]}, action: allow}]`)
  const denials: Denial[] = []
  const events: string[] = []
  const record = ({ event }: { event: string }) => void events.push(event)
  const settings = profileSettings.parse({
    gateways: [{ serial: GATEWAY, host: '127.0.0.1', port: gate.proxy.port }], proxy: { httpPort: 0, socksPort: 0 },
    destinations: ['*.corp.test', '10.9.0.0/16', 'fd00:9::/32'].map((match) => ({ match, ports: [{ from: 1, to: 65_535 }], gateway: GATEWAY })),
  })
  const tunnel = await startTunnel({
    settings: () => settings, onSettings: () => () => {}, identity: () => ({ certificatePem: gate.agent.cert, privateKeyPem: gate.agent.key }), authorities: () => [gate.authority.certificatePem],
    ownerUid, log: { info: record, warn: record, error: record }, now: Date.now, onDenial: (denial) => denials.push(denial),
  })
  later(() => tunnel.close())
  return { gate, tunnel, denials, events }
}

/** Asks for an association and sends from a socket of its own. */
async function associate(socksPort: number, expected = 0) {
  const control = await rawClient(socksPort)
  control.socket.write(Uint8Array.of(5, 1, 0))
  await control.until((got) => got.length >= 2)
  control.socket.write(Uint8Array.of(5, 3, 0, 1, 0, 0, 0, 0, ...portBytes(expected)))
  const reply = (await control.until((got) => got.length >= 12)).subarray(2, 12)
  const received: Buffer[] = []
  const socket = createSocket('udp4')
  socket.on('error', () => socket.close())
  socket.on('message', (bytes: Buffer) => received.push(bytes)).bind(0, '127.0.0.1')
  await once(socket, 'listening')
  let open = true
  const close = () => {
    if (open) socket.close()
    open = false
  }
  later(close)
  const relay = reply.readUInt16BE(8)
  return { control, reply: [...reply], relay, received, socket, close, send: (bytes: number[] | Uint8Array, from: Socket = socket) => from.send(Uint8Array.from(bytes), relay, '127.0.0.1'),
    async back(bytes: number[]) {
      const before = received.length
      socket.send(Uint8Array.from(bytes), relay, '127.0.0.1')
      await until(() => received.length > before)
      return [...received.at(-1) ?? []]
    } }
}

describe('UDP ASSOCIATE', () => {
  it('carries datagrams by name, IPv4 and IPv6 through the gateway; answers bear the address that was asked', async () => {
    const echo = await startUdpEcho()
    const { tunnel, gate } = await scene(echo)
    const { reply, back } = await associate(tunnel.socksPort)
    expect(reply.slice(0, 8)).toEqual([5, 0, 0, 1, 127, 0, 0, 1])
    for (const address of [name('Voice.corp.test'), [1, 10, 9, 1, 2], [4, 0xfd, 0, 0, 9, ...Array<number>(11).fill(0), 5]]) {
      for (const payload of [[], [7], Array<number>(1_472).fill(9), Array<number>(60_000).fill(3)]) {
        const datagram = [0, 0, 0, ...address, ...portBytes(5_060), ...payload]
        expect(Buffer.from(await back(datagram)).equals(Buffer.from(datagram)), `${address.join()} ${payload.length}`).toBe(true)
      }
    }
    expect(await gate.metrics.text()).toMatch(/sallyport_open_sessions 3\n/)
  })

  it('answers the question of a real resolver', async () => {
    const { tunnel } = await scene(await startNameServer([192, 0, 2, 9]))
    const { send, received } = await associate(tunnel.socksPort)
    const head = [0, 0, 0, ...name('dns.corp.test'), ...portBytes(53)]
    const front = await bindUdp((query, from, socket) => {
      const before = received.length
      send([...head, ...query])
      until(() => received.length > before).then(() => socket.send(received.at(-1)?.subarray(head.length) ?? '', from.port, from.address), (error: Error) => socket.emit('error', error))
    })
    const resolver = new Resolver({ timeout: 2_000, tries: 2 })
    resolver.setServers([`127.0.0.1:${front.port}`])
    expect(await resolver.resolve4('ledger.corp.test')).toEqual(['192.0.2.9'])
  })

  it('sends directly what no gateway protects, and hears only whom it asked', async () => {
    const echo = await startUdpEcho()
    const { tunnel, gate } = await scene(echo)
    const { back } = await associate(tunnel.socksPort)
    for (const address of [[1, 127, 0, 0, 1], name('localhost')]) {
      const datagram = [0, 0, 0, ...address, ...portBytes(echo.port), 1, 2, 3]
      expect(await back(datagram)).toEqual(datagram)
    }
    expect(await gate.metrics.text()).not.toMatch(/sallyport_decisions_total\{/)
  })

  it('ends with its connection: its port is closed and its sessions at the gateway end', async () => {
    const echo = await startUdpEcho()
    const { tunnel, gate } = await scene(echo)
    const { control, back, relay } = await associate(tunnel.socksPort)
    await back([0, 0, 0, ...name('a.corp.test'), ...portBytes(1), 1])
    control.socket.destroy()
    await until(async () => (await gate.metrics.text()).includes('sallyport_open_sessions 0'))
    const probe = createSocket('udp4')
    probe.connect(relay, '127.0.0.1')
    const refused = once(probe, 'error').catch((cause: NodeJS.ErrnoException) => [cause])
    await once(probe, 'connect')
    probe.send('x')
    expect(await refused).toMatchObject([{ code: 'ECONNREFUSED' }])
    probe.close()
  })

  it('drops fragments, broken headers and datagrams from another port than was said, and goes on', async () => {
    const echo = await startUdpEcho()
    const { tunnel } = await scene(echo)
    const { send, back, received } = await associate(tunnel.socksPort)
    const right = [0, 0, 0, ...name('a.corp.test'), ...portBytes(9), 42]
    for (const wrong of [[], [0], [0, 0, 0], [0, 0, 1, ...right.slice(3)], [1, 0, 0, ...right.slice(3)], [0, 0, 0, 9, 1, 1, 1, 1, 0, 1], [0, 0, 0, 3, 200, 65], [0, 0, 0, ...name('a b'), 0, 1, 1], [0, 0, 0, ...name('a.corp.test'), 0, 0, 1]]) send(wrong)
    expect(await back(right)).toEqual(right)
    expect(received).toHaveLength(1)
    const picky = await associate(tunnel.socksPort, 9)
    picky.send(right)
    expect(await back(right)).toEqual(right)
    expect(picky.received).toHaveLength(0)
  })

  it('tells the user why a flow was cut and why the next is refused, and carries again once that is mended', async () => {
    const echo = await startUdpEcho()
    const { tunnel, gate, denials } = await scene(echo)
    const { back, send } = await associate(tunnel.socksPort)
    const datagram = [0, 0, 0, ...name('a.corp.test'), ...portBytes(9), 42]
    await back(datagram)
    gate.putTags([])
    await until(() => denials.length === 1)
    // One that still meets the flow that was cut is lost, as on any way that ends.
    await until(() => {
      send(datagram)
      return denials.length === 2
    })
    // A program that sends on makes no questions of it.
    for (let count = 0; count < 50; count++) send(datagram)
    expect(denials).toMatchObject([{ reason: 'tag-missing', code: '065' }, { reason: 'tag-missing', code: '065' }])
    gate.putTags([OK_TAG])
    await until(async () => {
      send(datagram)
      return (await gate.metrics.text()).includes('sallyport_open_sessions 1')
    })
    expect(await back(datagram)).toEqual(datagram)
    expect(denials).toHaveLength(2)
  })

  it('keeps so many flows and no more: the oldest gives way', async () => {
    const echo = await startUdpEcho()
    const { tunnel, gate } = await scene(echo)
    const { back } = await associate(tunnel.socksPort)
    for (let count = 1; count <= 140; count++) await back([0, 0, 0, ...name('many.corp.test'), ...portBytes(count), 1])
    await until(async () => (await gate.metrics.text()).includes('sallyport_open_sessions 128\n'))
  })
})

const reason = own !== 0 ? 'needs root to act as another user' : spawnSync('setpriv', ['--version']).status !== 0 ? 'needs setpriv (util-linux)' : null
describe.skipIf(reason !== null)(`another user of the machine${reason === null ? '' : ` (${reason})`}`, () => {
  it('gets nothing through an association, whoever opened it; its owner still does', async () => {
    const seen: string[] = []
    const service = await bindUdp((payload, from, socket) => {
      seen.push(payload.toString())
      socket.send(payload, from.port, from.address)
    })
    const { tunnel, events } = await scene(service)
    const { relay, back } = await associate(tunnel.socksPort)
    const hex = Buffer.from([0, 0, 0, ...name('a.corp.test'), ...portBytes(9), ...Buffer.from('intruder')]).toString('hex').replaceAll(/../g, '\\x$&')
    const intrude = () => run('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', 'bash', '-c', `exec 3<>/dev/udp/127.0.0.1/${relay}; printf '${hex}' >&3; read -r -t 0.3 -u 3 answer; echo "got \${answer}"`], { cwd: '/' })
    expect((await intrude()).stdout).toBe('got \n')
    await until(() => events.includes('peer_refused'))
    const mine = [0, 0, 0, ...name('a.corp.test'), ...portBytes(9), ...Buffer.from('mine')]
    expect(await back(mine)).toEqual(mine)
    expect((await intrude()).stdout).toBe('got \n')
    expect(seen).toEqual(['mine'])
  })
})
