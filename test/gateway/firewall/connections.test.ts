// Where devices prove themselves from: told by the real proxy over both protocols, kept while a connection is open and a moment longer.
import { afterEach, describe, expect, it } from 'vitest'
import { createConnections, LINGER_MS } from '../../../gateway/firewall/connections.ts'
import type { ProvedPeer } from '../../../gateway/proxy/peer.ts'
import { cleanUp, connectTo, openHttp1, openHttp2, startGate, UID, until } from '../proxy/gate-under-test.ts'
import { heldClock } from './held-clock.ts'
import { serialOf, uidOf } from './held-world.ts'

afterEach(cleanUp)

const policies = 'services: [{ name: nothing, protocol: tcp, match: [nothing.test], ports: [1] }]\npolicies: []\n'
const peer = (number: number, serial = number): ProvedPeer => ({ status: 'proved', commonName: uidOf(number), serial: serialOf(serial), purpose: 'agent', notAfter: 4_000_000_000_000 })

async function gate() {
  const open: string[] = []
  const said: string[] = []
  const started = await startGate(policies, {
    onProved({ commonName }, address) {
      open.push(`${commonName} ${address}`)
      said.push(`${commonName} ${address}`)
      return () => void open.splice(open.indexOf(`${commonName} ${address}`), 1)
    },
  })
  return { started, open, said }
}

describe('the proxy', () => {
  it('tells who proved itself from where, once for each connection, over HTTP/2', async () => {
    const { started, open, said } = await gate()
    const session = openHttp2(started, started.agent)
    await connectTo(session, 'nothing.test:1')
    await connectTo(session, 'nothing.test:1')
    expect(open).toEqual([`${UID} 127.0.0.1`])
    expect(said).toHaveLength(1)
    session.destroy()
    await until(() => open.length === 0)
  })

  it('tells it over HTTP/1.1 with the first request', async () => {
    const { started, open, said } = await gate()
    const socket = await openHttp1(started, started.agent)
    socket.write('GET / HTTP/1.1\r\nHost: nothing.test\r\n\r\n')
    // The refusal ends the connection: that it was open may be over before anybody looks.
    await until(() => said.length === 1)
    socket.destroy()
    await until(() => open.length === 0)
  })

  it('tells of nobody who showed no certificate', async () => {
    const { started, said } = await gate()
    await connectTo(openHttp2(started, null), 'nothing.test:1')
    expect(said).toEqual([])
  })
})

describe('a source', () => {
  const kept = () => {
    const clock = heldClock(1_000_000)
    const changed: string[] = []
    return { ...clock, changed, connections: createConnections({ ...clock, onChange: (address) => changed.push(address) }) }
  }

  it('is not where a browser speaks from: its key can be carried elsewhere', () => {
    const { connections, changed } = kept()
    connections.opened({ ...peer(1), purpose: 'browser' }, '10.0.0.1')()
    expect([[...connections.addresses()], changed]).toEqual([[], []])
  })
  it('is seen while a connection is open, and a moment longer', () => {
    const { connections, advance, now, changed } = kept()
    const first = connections.opened(peer(1), '::ffff:10.0.0.1')
    const second = connections.opened(peer(1), '10.0.0.1')
    expect(connections.sightsOf('10.0.0.1')).toMatchObject([{ uid: uidOf(1), until: Infinity }])
    expect([...connections.addressesOf(uidOf(1))]).toEqual(['10.0.0.1'])
    first()
    advance(600_000)
    expect(connections.sightsOf('10.0.0.1')).toHaveLength(1)
    second()
    expect(connections.sightsOf('10.0.0.1')).toMatchObject([{ until: now() + LINGER_MS }])
    advance(LINGER_MS)
    expect(connections.sightsOf('10.0.0.1')).toEqual([])
    expect([...connections.addresses()]).toEqual([])
    expect(changed).toEqual(['10.0.0.1', '10.0.0.1', '10.0.0.1'])
  })

  it('does not end when the device comes back in time', () => {
    const { connections, advance } = kept()
    connections.opened(peer(1), '10.0.0.1')()
    advance(LINGER_MS - 1)
    connections.opened(peer(1), '10.0.0.1')
    advance(600_000)
    expect(connections.sightsOf('10.0.0.1')).toMatchObject([{ until: Infinity }])
  })

  it('is none of a loopback, and no device has more than eight', () => {
    const { connections } = kept()
    connections.opened(peer(1), '127.0.0.1')()
    connections.opened(peer(1), 'fe80::1')()
    for (let number = 1; number <= 20; number++) connections.opened(peer(1), `10.0.0.${number}`)
    connections.opened(peer(2), '10.0.0.1')
    expect([...connections.addresses()]).toHaveLength(8)
    expect(connections.sightsOf('10.0.0.1')).toHaveLength(2)
  })
})
