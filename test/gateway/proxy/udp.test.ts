// UDP destinations through the gate (RFC 9298): real sockets, a real resolver's question, and what hostile clients send instead.
import { Resolver } from 'node:dns/promises'
import { readFileSync } from 'node:fs'
import { once } from 'node:events'
import type { ClientHttp2Stream } from 'node:http2'
import { afterEach, describe, expect, it } from 'vitest'
import { datagramCapsule, udpPath } from '../../../protocol/capsules.ts'
import { decision, sessionEnd } from '../../../protocol/decisions.ts'
import { BAD_TAG, OK_TAG, UID, ask, cleanUp, connectTo, heldClock, openHttp1, openHttp2, readUntil, startGate, until, type Gate } from './gate-under-test.ts'
import { bindUdp, connectUdp, datagramsOf, readyForUdp, startNameServer, startUdpEcho } from './udp-under-test.ts'

afterEach(cleanUp)

const policies = (port: number, more = '') => `
services:
  - {name: echo, protocol: udp, match: [127.0.0.1, echo.test], ports: [${port}], addresses: [127.0.0.1]${more}}
  - {name: bare, protocol: udp, match: [127.0.0.2, metadata.test, many.test, nowhere.test], ports: [1-65535]}
  - {name: web, protocol: tcp, match: [tcp.test], ports: [1-65535], addresses: [127.0.0.1]}
  - {name: both, protocol: tcp+udp, match: [both.test], ports: [${port}], addresses: [127.0.0.1]}
  - {name: shut, protocol: udp, match: [shut.test], ports: [${port}], addresses: [127.0.0.1]}
policies: [{name: staff, services: [echo, bare, web, both], tags: {all: [compliant], none: [infected]}, action: allow}]
`
const names: Record<string, string[]> = { 'echo.test': ['127.0.0.1'], 'both.test': ['127.0.0.1'], 'metadata.test': ['169.254.169.254'], 'many.test': ['224.0.0.251', '127.0.0.1', 'ff02::fb', 'fe80::1', '255.255.255.255'] }
const resolve = async (host: string) => {
  const found = names[host]
  if (found === undefined) throw new Error(`ENOTFOUND ${host}`)
  return found
}
async function gateWithEcho(more: Parameters<typeof startGate>[1] = {}, service = '') {
  const echo = await startUdpEcho()
  return { echo, gate: await startGate(policies(echo.port, service), { resolve, ...more }) }
}
const ends = async (gate: Gate) => {
  await gate.audit.close()
  return readFileSync(`${gate.directory}/decisions.jsonl`, 'utf8').trim().split('\n').map((line) => sessionEnd.safeParse(JSON.parse(line))).flatMap(({ data }) => (data === undefined ? [] : [data]))
}
const closedAll = (gate: Gate) => until(async () => (await gate.metrics.text()).includes('sallyport_open_sessions 0'))
const refusedUdp = async (gate: Gate, host: string, port: number) => {
  const answer = await connectUdp(openHttp2(gate, gate.agent), host, port)
  answer.stream.end()
  const { reason, code } = JSON.parse(await answer.body()) as { reason: string; code: string }
  return { status: answer.status, reason, code }
}

describe('UDP over HTTP/2', () => {
  it('carries datagrams whole, of every size that UDP has, by address and by name', async () => {
    const { gate, echo } = await gateWithEcho()
    const session = openHttp2(gate, gate.agent)
    for (const host of ['127.0.0.1', 'echo.test', 'both.test']) {
      const { status, headers, stream } = await connectUdp(session, host, echo.port)
      expect([status, headers['capsule-protocol']]).toEqual([200, '?1'])
      const { echoes } = datagramsOf(stream)
      for (const size of [0, 1, 2, 63, 64, 512, 1_200, 1_472, 9_000, 16_383, 16_384, 65_506, 65_507]) await echoes(Buffer.alloc(size, size % 251))
      stream.end()
      await once(stream, 'close')
      expect(stream.rstCode).toBe(0)
    }
    await closedAll(gate)
    expect(await gate.metrics.text()).toMatch(/sallyport_datagrams_total\{way="down"\} 39\n/)
  })

  it('goes where the service leads, IPv6 too, and to the first of its addresses to which there is a way', async () => {
    const echo = await startUdpEcho('::1')
    const gate = await startGate(`services: [{name: six, protocol: udp, match: ["::1", "2001:db8::/32", six.test], ports: [${echo.port}], addresses: ["::1"]}]\npolicies: [{name: p, services: [six], tags: {all: [compliant]}, action: allow}]`, { resolve: async () => ['255.255.255.255', '::1'] })
    for (const host of ['::1', 'six.test']) await datagramsOf((await connectUdp(openHttp2(gate, gate.agent), host, echo.port)).stream).echoes(Buffer.from(host))
    expect(await refusedUdp(gate, 'fe80::1', echo.port)).toMatchObject({ reason: 'service-unknown' })
  })

  it('answers the question of a real resolver', async () => {
    const server = await startNameServer([192, 0, 2, 7])
    const gate = await startGate(`services: [{name: dns, protocol: udp, match: [dns.test], ports: [53], upstream: "127.0.0.1:${server.port}"}]\npolicies: [{name: p, services: [dns], tags: {all: [compliant]}, action: allow}]`)
    const { stream } = await connectUdp(openHttp2(gate, gate.agent), 'dns.test', 53)
    const tunnel = datagramsOf(stream)
    const front = await bindUdp((query, from, socket) => {
      const before = tunnel.received.length
      tunnel.send(query)
      until(() => tunnel.received.length > before).then(() => socket.send(tunnel.received.at(-1) ?? '', from.port, from.address), (error: Error) => socket.emit('error', error))
    })
    const resolver = new Resolver({ timeout: 2_000, tries: 2 })
    resolver.setServers([`127.0.0.1:${front.port}`])
    expect(await resolver.resolve4('ledger.corp.test')).toEqual(['192.0.2.7'])
  })

  it('is cut when the device loses the tag, says why, and is in the record with what it carried', async () => {
    const { gate, echo } = await gateWithEcho()
    const { stream } = await connectUdp(openHttp2(gate, gate.agent), '127.0.0.1', echo.port)
    const { echoes, received } = datagramsOf(stream)
    await echoes(Buffer.from('first'))
    await echoes(Buffer.from('second'))
    const trailers = once(stream, 'trailers')
    gate.putTags([])
    stream.write(datagramCapsule(Buffer.from('too late')))
    const [told] = await trailers as [Record<string, string>]
    const denial = JSON.parse(decodeURIComponent(told['sallyport-denial'] ?? '')) as { reason: string; code: string; decision: string }
    expect(denial).toMatchObject({ reason: 'tag-missing', code: '065' })
    expect(decision.parse(await gate.audit.find(denial.decision))).toMatchObject({ event: 'recheck', protocol: 'udp', service: 'echo', uid: UID })
    await closedAll(gate)
    expect(received).toHaveLength(2)
    expect(await ends(gate)).toMatchObject([{ protocol: 'udp', service: 'echo', cutBy: denial.decision, destination: `127.0.0.1:${echo.port}`, bytesUp: 11, bytesDown: 11, datagrams: { up: 2, down: 2, dropped: 0 } }])
  })

  it('is refused with the code of the reason', async () => {
    const { gate, echo } = await gateWithEcho()
    for (const [host, port, reason, code, status] of [
      ['undeclared.test', 53, 'service-unknown', '021', 403], ['tcp.test', 53, 'service-unknown', '021', 403], ['echo.test', 1, 'service-unknown', '021', 403],
      ['127.0.0.2', echo.port, 'address-refused', '021', 403], ['metadata.test', 53, 'address-refused', '021', 403], ['many.test', 5353, 'address-refused', '021', 403],
      ['nowhere.test', 53, 'name-not-resolved', '023', 502], ['shut.test', echo.port, 'no-policy-matched', '061', 403],
    ] as const) expect(await refusedUdp(gate, host, port), host).toEqual({ reason, code, status })
    gate.putTags([OK_TAG, BAD_TAG])
    expect(await refusedUdp(gate, 'echo.test', echo.port)).toEqual({ reason: 'denied-by-tag', code: '064', status: 403 })
    gate.putTags([])
    expect(await refusedUdp(gate, 'echo.test', echo.port)).toEqual({ reason: 'tag-missing', code: '065', status: 403 })
    for (const path of ['/', '/.well-known/masque/udp/a%2Fb/53/', '/.well-known/masque/udp/a/0/', '/.well-known/masque/udp/a/65536/']) {
      const { status, stream } = await ask(openHttp2(gate, gate.agent), { ':method': 'CONNECT', ':protocol': 'connect-udp', ':scheme': 'https', ':authority': 'g.test', ':path': path }, true)
      expect(status).toBe(403)
      stream.close()
    }
  })

  it('tells nobody of extended CONNECT who may not use it, and knows no other protocol', async () => {
    const { gate } = await gateWithEcho()
    const browser = openHttp2(gate, gate.browser)
    const answered = await ask(browser, { ':method': 'GET', ':scheme': 'https', ':authority': 'g.test', ':path': '/' })
    expect([answered.status, browser.remoteSettings?.enableConnectProtocol]).toEqual([403, false])
    const agent = openHttp2(gate, gate.agent)
    await readyForUdp(agent)
    expect((await ask(agent, { ':method': 'CONNECT', ':protocol': 'websocket', ':scheme': 'https', ':authority': 'tcp.test', ':path': '/' })).status).toBe(501)
  })

  it('ends after the time without a datagram that the service sets, and not before', async () => {
    const clock = heldClock(Date.now())
    const { gate, echo } = await gateWithEcho({ now: clock.now, timers: clock.timers }, ', idleSeconds: 30, stale: {after: 86400}')
    const { stream } = await connectUdp(openHttp2(gate, gate.agent), '127.0.0.1', echo.port)
    const { echoes } = datagramsOf(stream)
    for (let round = 0; round < 3; round++) {
      await echoes(Buffer.from('still'))
      clock.advance(29_000)
    }
    await echoes(Buffer.from('still'))
    // A stranger's capsule is no datagram.
    stream.write(Uint8Array.of(0x21, 1, 0))
    clock.advance(30_001)
    await once(stream, 'end')
    await closedAll(gate)
    expect((await ends(gate)).map(({ cutBy, datagrams }) => ({ cutBy, datagrams }))).toEqual([{ cutBy: null, datagrams: { up: 4, down: 4, dropped: 0 } }])
  })

  it('is told when nobody is at the destination, as soon as its host says so', async () => {
    const { gate, echo } = await gateWithEcho()
    const { stream } = await connectUdp(openHttp2(gate, gate.agent), '127.0.0.1', echo.port)
    const { echoes, send } = datagramsOf(stream)
    await echoes(Buffer.from('here'))
    echo.close()
    const trailers = once(stream, 'trailers')
    send(Buffer.from('and now'))
    const [told] = await trailers as [Record<string, string>]
    expect(JSON.parse(decodeURIComponent(told['sallyport-denial'] ?? ''))).toMatchObject({ reason: 'upstream-unreachable', code: '022' })
    await closedAll(gate)
  })

  it('holds no more than its share for a client that does not read: what has no room is dropped and counted', async () => {
    const { gate, echo } = await gateWithEcho()
    const session = openHttp2(gate, gate.agent)
    const { stream } = await connectUdp(session, '127.0.0.1', echo.port)
    const big = datagramCapsule(Buffer.alloc(60_000))
    const dropped = async () => Number(/sallyport_datagrams_total\{way="dropped"\} (\d+)/.exec(await gate.metrics.text())?.[1])
    await until(async () => {
      stream.write(big)
      return await dropped() > 20
    })
    const { stream: other } = await connectUdp(session, 'echo.test', echo.port)
    await datagramsOf(other).echoes(Buffer.from('others go on'))
  })

  it('ends with its client: closed, half-closed, broken or with its whole connection', async () => {
    const { gate, echo } = await gateWithEcho()
    const session = openHttp2(gate, gate.agent)
    const ways: ((stream: ClientHttp2Stream) => unknown)[] = [(stream) => stream.close(), (stream) => stream.end(), (stream) => stream.destroy(new Error('broken')), () => session.destroy()]
    for (const leave of ways) {
      const { stream } = await connectUdp(session, '127.0.0.1', echo.port)
      await datagramsOf(stream).echoes(Buffer.from('x'))
      leave(stream)
      await closedAll(gate)
    }
  })

  it('is cut when the gateway stops', async () => {
    const { gate, echo } = await gateWithEcho()
    const { stream } = await connectUdp(openHttp2(gate, gate.agent), '127.0.0.1', echo.port)
    await datagramsOf(stream).echoes(Buffer.from('x'))
    const trailers = once(stream, 'trailers')
    await gate.proxy.drain(50)
    expect(JSON.parse(decodeURIComponent(String((await trailers as [Record<string, string>])[0]['sallyport-denial'])))).toMatchObject({ reason: 'gateway-stopping' })
  })
})

describe('hostile capsules', () => {
  it.each([
    ['a datagram that is longer than UDP knows', [0, 0x80, 1, 0, 9]],
    ['one that announces the most there is', [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]],
    ['one without a context', [0, 0]],
    ['a context that is cut short', [0, 2, 0xc0, 0]],
  ])('%s break their stream alone, wherever they are cut', async (_name, bytes) => {
    const { gate, echo } = await gateWithEcho()
    const session = openHttp2(gate, gate.agent)
    const { stream: honest } = await connectUdp(session, '127.0.0.1', echo.port)
    const { echoes } = datagramsOf(honest)
    for (let at = 1; at <= bytes.length; at++) {
      const { stream } = await connectUdp(session, '127.0.0.1', echo.port)
      stream.write(Uint8Array.from(bytes.slice(0, at)))
      setImmediate(() => stream.write(Uint8Array.from(bytes.slice(at))))
      await until(() => stream.closed)
      expect(stream.rstCode).not.toBe(0)
      await echoes(Buffer.from(`honest ${at}`))
    }
    honest.close()
    await closedAll(gate)
  })
  it('that end within a capsule are broken, not ended', async () => {
    const { gate, echo } = await gateWithEcho()
    const { stream } = await connectUdp(openHttp2(gate, gate.agent), '127.0.0.1', echo.port)
    stream.resume().end(Uint8Array.of(0, 9, 0, 1))
    await until(() => stream.closed)
    expect(stream.rstCode).not.toBe(0)
    await closedAll(gate)
  })
  it('of other types and contexts are passed over', async () => {
    const { gate, echo } = await gateWithEcho()
    const { stream } = await connectUdp(openHttp2(gate, gate.agent), '127.0.0.1', echo.port)
    const { echoes, received } = datagramsOf(stream)
    stream.write(Uint8Array.from([0x3f, 3, 1, 2, 3, 0x80, 0, 0x40, 0, 0, 0, 3, 2, 9, 9]))
    await echoes(Buffer.from('only this'))
    expect(received).toHaveLength(1)
  })
})

describe('UDP over HTTP/1.1', () => {
  const upgrade = (host: string, port: number, more = '') => `GET ${udpPath(host, port)} HTTP/1.1\r\nHost: gateway.test\r\nConnection: Upgrade\r\nUpgrade: connect-udp\r\nCapsule-Protocol: ?1\r\n${more}\r\n`
  it('is had by upgrade, with what was sent right behind it', async () => {
    const { gate, echo } = await gateWithEcho()
    const socket = await openHttp1(gate, gate.agent)
    const head = readUntil(socket, '\r\n\r\n')
    socket.write(upgrade('127.0.0.1', echo.port))
    expect((await head).toLowerCase()).toMatch(/^http\/1\.1 101 [^]*upgrade: connect-udp\r\n[^]*capsule-protocol: \?1\r\n/)
    const { echoes } = datagramsOf(socket)
    for (const size of [1, 1_472, 65_507]) await echoes(Buffer.alloc(size, 5))
    gate.putTags([])
    await until(() => socket.closed)
    const eager = await openHttp1(gate, gate.agent)
    gate.putTags([OK_TAG])
    const answered = readUntil(eager, 'at once')
    eager.write(Buffer.concat([Buffer.from(upgrade('127.0.0.1', echo.port)), Buffer.from(datagramCapsule(Buffer.from('at once')))]))
    await answered
  })
  it('is refused with its code, to a browser too; one with a body or another method is no upgrade', async () => {
    const { gate, echo } = await gateWithEcho()
    for (const [credential, host, reason] of [[gate.browser, '127.0.0.1', 'certificate-wrong-purpose'], [null, '127.0.0.1', 'no-certificate'], [gate.agent, 'undeclared.test', 'service-unknown']] as const) {
      const socket = await openHttp1(gate, credential)
      const text = readUntil(socket, '}')
      socket.write(upgrade(host, echo.port))
      expect(await text).toMatch(new RegExp(`^HTTP/1.1 403 [^]*"${reason}"`))
    }
    const socket = await openHttp1(gate, gate.agent)
    const text = readUntil(socket, '}')
    socket.write(`${upgrade('127.0.0.1', echo.port, 'Content-Length: 2\r\n')}hi`)
    expect(await text).not.toContain(' 101 ')
  })
  it('leaves TCP of the same service as it was', async () => {
    const { gate, echo } = await gateWithEcho()
    expect((await connectTo(openHttp2(gate, gate.agent), `both.test:${echo.port}`)).status).toBe(502)
    expect((await connectTo(openHttp2(gate, gate.agent), `echo.test:${echo.port}`)).status).toBe(403)
  })
})
