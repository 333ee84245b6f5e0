// Whose a local datagram is, and that nothing passes before that is known.
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { describe, expect, it } from 'vitest'
import { createDatagramGate } from '../../../agent/tunnel/datagram-gate.ts'
import { holderIn, portHolder, type PortHolder } from '../../../agent/tunnel/datagram-owner.ts'
import { freePort } from '../../../start/free-port.ts'
import { eventually } from './tunnel-under-test.ts'

const row = (local: string, { uid = 1000, inode = 4242, remote = '00000000:0000' } = {}) => ` 1234: ${local} ${remote} 07 00000000:00000000 00:00000000 00000000  ${uid}        0 ${inode} 2 00000000bf271f3d 0\n`
const LOOPBACK = '0100007F:AC30'

describe('the holder of a UDP port', () => {
  it('is found at any address, in either table', () => {
    for (const local of [LOOPBACK, '00000000:AC30', '0501A8C0:AC30']) expect(holderIn([row(local), ''], 0xac30)).toEqual({ uid: 1000, sockets: '4242' })
    expect(holderIn(['', row('00000000000000000000000000000000:AC30', { uid: 7 })], 0xac30)).toEqual({ uid: 7, sockets: '4242' })
    expect(holderIn([row(LOOPBACK) + row('00000000:AC30', { inode: 17 })], 0xac30)).toEqual({ uid: 1000, sockets: '17,4242' })
  })
  it('cannot be told when nobody, two users, or a process that is gone hold it', () => {
    expect(holderIn(['', ''], 0xac30)).toBeNull()
    expect(holderIn([row('0100007F:AC31') + row('0100007F:0035', { remote: LOOPBACK })], 0xac30)).toBeNull()
    expect(holderIn([row(LOOPBACK), row('00000000000000000000000000000000:AC30', { uid: 1001 })], 0xac30)).toBeNull()
    expect(holderIn([row(LOOPBACK, { uid: 0, inode: 0 })], 0xac30)).toBeNull()
  })
  it('is told by the kernel of this machine', async () => {
    // Nobody else is given it once it is free again.
    const port = await freePort()
    const socket = createSocket('udp4').bind(port, '127.0.0.1')
    await once(socket, 'listening')
    expect((await portHolder(port))?.uid).toBe(process.getuid?.())
    socket.close()
    await once(socket, 'close')
    expect(await portHolder(port)).toBeNull()
  })
})

describe('the gate before an association', () => {
  function gateOf(first: PortHolder | null) {
    let now = first
    const events: string[] = []
    let looks = 0
    const record = ({ event }: { event: string }) => void events.push(event)
    const gate = createDatagramGate({ ownerUid: 1000, log: { info: record, warn: record, error: record }, holder: async () => {
      looks += 1
      return now
    } })
    return { gate, events, looks: () => looks, put: (holder: PortHolder | null) => {
      now = holder
    } }
  }
  const mine = { uid: 1000, sockets: '1' }
  it('lets pass what the enrolled user sends, many by few looks', async () => {
    const { gate, looks } = gateOf(mine)
    let passed = 0
    for (let count = 0; count < 200; count++) gate.admit(50_000, () => void passed++)
    expect(passed).toBe(0)
    await eventually(() => passed === 200)
    expect(looks()).toBeLessThanOrEqual(2)
    expect(gate.port).toBe(50_000)
  })
  it('drops what comes from another user, from nobody, or from another port than the one that is served', async () => {
    for (const holder of [{ uid: 1001, sockets: '1' }, { uid: 0, sockets: '1' }, null]) {
      const { gate, events, looks } = gateOf(holder)
      for (let round = 1; round <= 3; round++) {
        gate.admit(50_000, () => expect.unreachable())
        await eventually(() => looks() === round)
      }
      expect([gate.port, events]).toEqual([null, ['peer_refused']])
    }
    const { gate } = gateOf(mine)
    let passed = 0
    gate.admit(50_000, () => void passed++)
    await eventually(() => passed === 1)
    gate.admit(50_001, () => expect.unreachable())
    gate.admit(50_000, () => void passed++)
    await eventually(() => passed === 2)
  })
  it('drops what comes once the port has another socket, of another user or not, and serves the enrolled user again after', async () => {
    for (const other of [{ uid: 1001, sockets: '9' }, { uid: 1000, sockets: '9' }, null]) {
      const { gate, put, looks } = gateOf(mine)
      let passed = 0
      gate.admit(50_000, () => void passed++)
      await eventually(() => passed === 1)
      put(other)
      gate.admit(50_000, () => expect.unreachable())
      await eventually(() => looks() === 2)
      put({ uid: 1000, sockets: '10' })
      gate.admit(50_000, () => void passed++)
      await eventually(() => passed === 2)
    }
  })
  it('lets nothing wait without end, and nothing pass once it is closed', async () => {
    const { promise, resolve } = Promise.withResolvers<PortHolder | null>()
    const record = () => {}
    const gate = createDatagramGate({ ownerUid: 1000, log: { info: record, warn: record, error: record }, holder: () => promise })
    let passed = 0
    for (let count = 0; count < 10_000; count++) gate.admit(50_000, () => void passed++)
    resolve(mine)
    await eventually(() => passed > 0)
    expect(passed).toBeLessThanOrEqual(257)
    gate.admit(50_000, () => expect.unreachable())
    gate.close()
    await promise
    gate.admit(50_000, () => expect.unreachable())
  })
})
