// Associations by themselves: what they read, how long their flows last, and that what becomes protected goes direct no more.
import { createSocket, type RemoteInfo } from 'node:dgram'
import { once } from 'node:events'
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { readSocksDatagram, socksDatagram } from '../../../agent/tunnel/socks-address.ts'
import { createAssociate } from '../../../agent/tunnel/udp-association.ts'
import { cleanUp, heldClock, later, until } from '../../gateway/proxy/gate-under-test.ts'
import { bindUdp } from '../../gateway/proxy/udp-under-test.ts'

afterEach(cleanUp)

describe('a datagram of a local program', () => {
  it('comes back as it went, with the address as it was written', () => {
    const host = fc.oneof(fc.tuple(fc.constant(1), fc.uint8Array({ minLength: 4, maxLength: 4 })), fc.tuple(fc.constant(4), fc.uint8Array({ minLength: 16, maxLength: 16 })), fc.domain().filter((name) => name.length < 200).map((name) => [3, Uint8Array.of(name.length, ...Buffer.from(name))] as const))
    fc.assert(fc.property(host, fc.integer({ min: 1, max: 65_535 }), fc.uint8Array({ maxLength: 100 }), ([type, bytes], port, payload) => {
      const address = Uint8Array.of(type, ...bytes, port >> 8, port & 255)
      const read = readSocksDatagram(socksDatagram(address, payload))
      expect(read?.target.port).toBe(port)
      expect([...read?.address ?? []]).toEqual([...address])
      expect([...read?.payload ?? []]).toEqual([...payload])
    }))
  })
  it('is none, or one that leads somewhere, whatever it holds', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      const read = readSocksDatagram(Uint8Array.of(0, 0, 0, ...bytes))
      expect(read === null || (read.target.host !== '' && read.target.port > 0)).toBe(true)
      expect(readSocksDatagram(Uint8Array.of(0, 0, 1, ...bytes))).toBeNull()
    }))
  })
})

describe('an association', () => {
  async function scene() {
    const clock = heldClock(1_000_000)
    const heard: RemoteInfo[] = []
    const echo = await bindUdp((payload, from, socket) => {
      heard.push(from)
      socket.send(payload, from.port, from.address)
    })
    const asked: string[] = []
    let isProtected = false
    const ignore = () => {}
    const associate = createAssociate({
      ownerUid: process.getuid?.() ?? -1, timers: clock.timers, now: clock.now, log: { info: ignore, warn: ignore, error: ignore }, isProtected: () => isProtected,
      open({ host }) {
        asked.push(host)
        return Promise.resolve({ kind: 'unreachable', why: 'gateway', message: 'no gateway here' })
      },
    })
    const association = await associate(0)
    later(association.close)
    const program = createSocket('udp4').bind(0, '127.0.0.1')
    await once(program, 'listening')
    later(() => program.close())
    const datagram = Uint8Array.of(0, 0, 0, 1, 127, 0, 0, 1, echo.port >> 8, echo.port & 255, 7)
    let got = 0
    program.on('message', () => void got++)
    const send = () => program.send(datagram, association.port, '127.0.0.1')
    return { clock, heard, asked, send, protect: () => {
      isProtected = true
    }, async back() {
      const before = got
      send()
      await until(() => got > before)
    } }
  }
  const idle = 300_000

  it('lets go of a flow that nothing used for five minutes, and keeps one that something did', async () => {
    const { clock, heard, back } = await scene()
    await back()
    clock.advance(idle - 30_000)
    await back()
    clock.advance(idle - 30_000)
    await back()
    expect(new Set(heard.map(({ port }) => port)).size).toBe(1)
    clock.advance(idle + 30_000)
    await back()
    expect(new Set(heard.map(({ port }) => port)).size).toBe(2)
  })
  it('sends nothing directly any more to what has become protected, and asks for it once in a while', async () => {
    const { clock, heard, asked, back, send, protect } = await scene()
    await back()
    protect()
    send()
    await until(() => asked.length === 1)
    for (let count = 0; count < 20; count++) send()
    clock.advance(2_000)
    await until(() => {
      send()
      return asked.length > 1
    })
    expect([heard.length, asked.length]).toEqual([1, 2])
  })
})
