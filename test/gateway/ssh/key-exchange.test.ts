import fc from 'fast-check'
import { EventEmitter } from 'node:events'
import type { Duplex } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { keyLine } from '../../../domain/access/ssh-key.ts'
import { joined, string, uint32 } from '../../../domain/access/ssh-wire.ts'
import { strangeHostKey } from '../../../gateway/ssh/host-key.ts'
import { createKeyExchange } from '../../../gateway/ssh/key-exchange.ts'
import { screenHost } from '../../../gateway/ssh/screen-host.ts'
import type { Take } from '../../../gateway/proxy/intake.ts'
import { bytes, client, hostKey, kexInit, packet, reply, version } from './messages.ts'

const [listed, strange] = [hostKey(1), hostKey(2)]
const hostKeys = { keys: [keyLine('ssh-ed25519', listed)], fingerprints: [], authorities: [] }
const isTaken = (key: Uint8Array) => strangeHostKey(key, { hostKeys, host: 'host.test', now: 0 })

const GEX = 'diffie-hellman-group-exchange-sha256'

/** Says all of it in pieces of those sizes, to whoever screens it. */
function screened(fromClient: Uint8Array, fromServer: Uint8Array, sizes: readonly number[] = [fromServer.length]) {
  const side = new EventEmitter()
  let give: Take = () => true
  const got: Uint8Array[] = []
  const refusals: string[] = []
  const shared = Buffer.alloc(65_536)
  const intake = { onread: { buffer: () => shared, callback: () => true }, handTo: (take: Take) => {
    give = take
  } }
  screenHost(side as Duplex, intake, new Uint8Array(0), isTaken, (why) => refusals.push(why)).handTo((piece) => {
    got.push(Buffer.from(piece))
    return true
  })
  side.emit('data', fromClient)
  let at = 0
  for (let turn = 0; at < fromServer.length; turn++) {
    const piece = fromServer.subarray(at, at + Math.min(shared.length, sizes[turn % sizes.length] ?? 1))
    at += piece.length
    shared.set(piece)
    // The memory of a piece is used again once it is released.
    give(shared.subarray(0, piece.length), () => shared.fill(0xaa))
  }
  return { got: joined(got), refusals, isWatching: () => side.listenerCount('data') > 0 }
}
const outcome = async (...said: Parameters<typeof screened>) => {
  const { got, refusals } = screened(...said)
  await Promise.resolve()
  return { got: Buffer.from(got).toString('hex'), refusals }
}
const hex = (...parts: Uint8Array[]) => Buffer.from(joined(parts)).toString('hex')

describe('the screen in front of an SSH host', () => {
  const greeting = [version, kexInit('curve25519-sha256')]

  it('passes everything of a host with a listed key, whatever the pieces, and watches no more', async () => {
    await fc.assert(fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 20 }), fc.uint8Array({ maxLength: 200 }), async (sizes, tail) => {
      const said = joined([Buffer.from('Welcome\r\nto this\n'), ...greeting, packet(bytes(2, 0, 0, 0, 0)), reply(listed), tail])
      const { got, refusals, isWatching } = screened(client(), said, sizes)
      await Promise.resolve()
      expect([hex(got), refusals, isWatching()]).toEqual([hex(said), [], false])
    }))
  })
  it('lets not a byte through of the packet with another key, nor of what follows, whatever the pieces', async () => {
    await fc.assert(fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 20 }), async (sizes) => {
      const { got, refusals } = await outcome(client(), joined([...greeting, reply(strange), reply(listed)]), sizes)
      expect([got, refusals]).toEqual([hex(...greeting), [expect.stringMatching(/^ssh-ed25519 SHA256:\S+ is not listed$/)]])
    }))
  })
  it('knows the message in which each method shows the key', async () => {
    for (const method of ['curve25519-sha256@libssh.org', 'ecdh-sha2-nistp384', 'diffie-hellman-group14-sha256', 'sntrup761x25519-sha512@openssh.com', 'mlkem768x25519-sha256', 'mlkem768nistp256-sha256', 'curve448-sha512']) {
      expect([method, (await outcome(client(`ext-info-c,${method}`), joined([version, kexInit(`a,${method}`), reply(listed)]))).refusals]).toEqual([method, []])
      expect([method, (await outcome(client(method), joined([version, kexInit(method), reply(listed, 33)]))).refusals]).toEqual([method, [expect.stringContaining('where it should show its key')]])
    }
    for (const method of ['gss-group14-sha256-x', 'rsa2048-sha256', 'ext-info-c', 'future-kem', '']) expect([method, (await outcome(client(method), joined([version, kexInit(method), reply(listed)]))).refusals]).toEqual([method, [expect.stringContaining('keys are exchanged by')]])
  })

  describe('is not taken in by a host that', () => {
    const refused = async (why: string, fromServer: Uint8Array[], fromClient = client()) => {
      const { got, refusals } = await outcome(fromClient, joined(fromServer))
      expect(refusals).toEqual([expect.stringContaining(why)])
      expect(got).not.toContain(hex(strange))
      expect(got).not.toContain(hex(listed))
    }
    it('has the client skip the packet with a listed key as a wrong guess', () => refused('it guesses', [version, kexInit('b,curve25519-sha256', { guesses: true }), reply(listed), reply(strange)]))
    it('puts a listed key where the group of an exchange stands', async () => {
      const group = packet(joined([bytes(31), string(new Uint8Array(256).fill(9)), string(bytes(2))]))
      // Both offer more than one: which one counts is the client's first that the host has.
      await refused('is not listed', [version, kexInit(`curve25519-sha256,${GEX}`), group, reply(strange, 33)], client(`${GEX},curve25519-sha256`))
      await refused('its group can not be read', [version, kexInit(GEX), reply(listed), reply(strange, 33)], client(GEX))
      await refused('where it should show its key', [version, kexInit(`${GEX},curve25519-sha256`), packet(joined([bytes(31), string(listed), string(bytes(2))])), reply(strange, 33)], client(`curve25519-sha256,${GEX}`))
    })
    it('hides the method in a list longer than any', () => refused('where it should show its key', [version, kexInit(`${'x,'.repeat(12_000)}curve25519-sha256,${GEX}`), packet(joined([bytes(31), string(listed), string(bytes(2))]))]))
    it('shows its key before it is asked', () => refused('it answers before it was asked', [version, kexInit('curve25519-sha256'), reply(listed)], version))
    it('begins twice, or not at all', async () => {
      await refused('it says 20', [version, kexInit('curve25519-sha256'), kexInit('curve25519-sha256'), reply(listed)])
      await refused('it does not begin a key exchange', [version, reply(listed)])
      await refused('it says 21', [version, kexInit('curve25519-sha256'), packet(bytes(21)), reply(listed)])
    })
    it('puts more, or less, into the packet with its key', async () => {
      await refused('where it should show its key', [...greeting, packet(joined([bytes(31), string(listed), string('x'), string('y'), string('z')]))])
      await refused('where it should show its key', [...greeting, packet(joined([bytes(31), uint32(4_000_000_000), listed, string('y'), string('z')]))])
      await refused('no key that can be read', [...greeting, reply(joined([listed, bytes(0)]))])
    })
    it('never comes to its key', async () => {
      await refused('it says too much', [...greeting, ...Array.from({ length: 70 }, () => packet(bytes(2, 0, 0, 0, 0)))])
      await refused('it says too much', [...greeting, ...Array.from({ length: 12 }, () => packet(joined([bytes(2), string(new Uint8Array(30_000))])))])
      await refused('it is no packet of SSH', [...greeting, uint32(35_004), bytes(4)])
    })
    it('answers a client that is not understood', () => refused('the client is not understood', [...greeting, reply(listed)], Buffer.from('GET / HTTP/1.1\r\n\r\n')))
  })

  it('never throws, never passes another key, and holds no more than a packet, whatever either side says', () => {
    const part = fc.oneof(
      fc.constantFrom(version, kexInit('curve25519-sha256'), kexInit(GEX), kexInit(`${GEX},curve25519-sha256`), reply(strange), reply(strange, 33), packet(bytes(2)), packet(joined([bytes(31), string('p'), string('g')])), Buffer.from('SSH-2.0-')),
      fc.uint8Array({ maxLength: 64 }), fc.uint8Array({ maxLength: 64 }).map(packet), fc.integer({ min: 0, max: 0xffff_ffff }).map(uint32), fc.constant(new Uint8Array(40_000)),
    )
    const mangled = (said: readonly Uint8Array[], at: number, value: number) => {
      const whole = joined(said)
      if (whole.length > 0) whole[at % whole.length] = value
      return whole
    }
    const talk = fc.tuple(fc.array(part, { maxLength: 12 }), fc.nat(2_000), fc.nat(255)).map(([said, at, value]) => mangled([version, kexInit('curve25519-sha256'), ...said], at, value))
    fc.assert(fc.property(talk, talk, fc.array(fc.integer({ min: 1, max: 5_000 }), { minLength: 1, maxLength: 8 }), (fromClient, fromServer, sizes) => {
      const exchange = createKeyExchange()
      exchange.fromClient(fromClient)
      let passed = ''
      for (let at = 0, turn = 0; at < fromServer.length; turn++) {
        const piece = fromServer.subarray(at, at + (sizes[turn % sizes.length] ?? 1))
        at += piece.length
        const progress = exchange.fromServer(piece)
        if (progress.state === 'unreadable') return
        for (const each of progress.pass) passed += Buffer.from(each).toString('hex')
        if (progress.state === 'shown') {
          expect(isTaken(progress.key)).not.toBeNull()
          return
        }
        expect(exchange.heldBytes).toBeLessThanOrEqual(35_000 + fromClient.length)
      }
      for (const type of [31, 33]) expect(passed).not.toContain(hex(reply(strange, type)))
    }), { numRuns: 1_000 })
  })
})
