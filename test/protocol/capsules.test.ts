// Capsules as RFC 9297 and 9298 have them, and as nobody should send them: whole, cut at every byte, announced and never sent.
import { describe, expect, it } from 'vitest'
import fc from 'fast-check'
import { createCapsuleReader, datagramCapsule, MAX_DATAGRAM_BYTES, udpAuthority, udpPath } from '../../protocol/capsules.ts'

/** A variable-length integer in `bytes` bytes, which need not be the fewest (RFC 9000 §16). */
function integer(value: bigint | number, bytes: 1 | 2 | 4 | 8): number[] {
  const marks = { 1: 0n, 2: 1n, 4: 2n, 8: 3n }
  const whole = BigInt(value) | (marks[bytes] << BigInt(bytes * 8 - 2))
  return Array.from({ length: bytes }, (_, index) => Number((whole >> BigInt(8 * (bytes - 1 - index))) & 0xffn))
}
const sizes = [1, 2, 4, 8] as const
const capsule = (type: bigint | number, value: number[], width: 1 | 2 | 4 | 8 = 8) => [...integer(type, width), ...integer(value.length, width === 1 ? 2 : width), ...value]
const text = (payload: string) => [...Buffer.from(payload)]

/** Reads `pieces` and says what came of it. */
function read(pieces: readonly Uint8Array[]): { payloads: string[]; taken: boolean; between: boolean } {
  const payloads: string[] = []
  const reader = createCapsuleReader((payload) => payloads.push(Buffer.from(payload).toString('latin1')))
  const taken = pieces.map((piece) => reader.take(piece)).every(Boolean)
  return { payloads, taken, between: reader.between }
}
const readBytes = (bytes: number[]) => read([Uint8Array.from(bytes)])
const everyCut = (bytes: Uint8Array) => Array.from({ length: bytes.length + 1 }, (_, at) => [bytes.subarray(0, at), bytes.subarray(at)])

describe('a datagram capsule', () => {
  it('comes back as it went, whatever its size', () => {
    for (const size of [0, 1, 61, 62, 63, 64, 1_200, 1_472, 16_381, 16_382, 16_383, 16_384, 65_507, MAX_DATAGRAM_BYTES]) {
      const payload = Buffer.alloc(size, 'x')
      expect(read([datagramCapsule(payload)])).toEqual({ payloads: [payload.toString()], taken: true, between: true })
    }
  })
  it('is read with integers of any width', () => {
    for (const width of sizes) for (const context of sizes) expect(readBytes(capsule(0, [...integer(0, context), ...text('hi')], width)).payloads).toEqual(['hi'])
  })
  it('is read however the stream is cut: at each byte, and byte by byte', () => {
    const bytes = Uint8Array.from([...capsule(0, [0, ...text('one')]), ...capsule(0x2575, text('skipped')), ...capsule(0, [0], 1), ...capsule(0, [2, ...text('other context')], 4), ...capsule(0, [...integer(0, 8), ...text('two')], 2)])
    for (const pieces of everyCut(bytes)) expect(read(pieces)).toEqual({ payloads: ['one', '', 'two'], taken: true, between: true })
    expect(read([...bytes].map((byte) => Uint8Array.of(byte)))).toEqual({ payloads: ['one', '', 'two'], taken: true, between: true })
  })
  it('is read in any mixture, cut anywhere', () => {
    const some = fc.array(fc.record({ type: fc.constantFrom(0, 0, 0, 1, 0x29, 1n << 61n), width: fc.constantFrom(8 as const), context: fc.constantFrom(0, 0, 4), body: fc.uint8Array({ maxLength: 40 }) }), { maxLength: 12 })
    fc.assert(fc.property(some, fc.array(fc.nat(400), { maxLength: 8 }), (those, cuts) => {
      const bytes = Uint8Array.from(those.flatMap(({ type, width, context, body }) => capsule(type, [...integer(context, 1), ...body], width)))
      const ends = [...new Set([0, ...cuts, bytes.length])].filter((at) => at <= bytes.length).sort((a, b) => a - b)
      const pieces = ends.slice(1).map((end, index) => bytes.slice(ends[index], end))
      const wanted = those.filter(({ type, context }) => type === 0 && context === 0).map(({ body }) => Buffer.from(body).toString('latin1'))
      expect(read(pieces)).toEqual({ payloads: wanted, taken: true, between: true })
    }))
  })
  it('keeps a view of its own: what comes later does not write over it', () => {
    const kept: Uint8Array[] = []
    const reader = createCapsuleReader((payload) => kept.push(payload))
    for (const pieces of ['first', 'other'].map((word) => datagramCapsule(Buffer.from(word)))) for (const byte of pieces) reader.take(Uint8Array.of(byte))
    expect(kept.map((payload) => Buffer.from(payload).toString())).toEqual(['first', 'other'])
  })
})

describe('hostile capsules', () => {
  it.each([
    ['a datagram longer than UDP knows', [...integer(0, 1), ...integer(MAX_DATAGRAM_BYTES + 9, 4)]],
    ['one announced with the greatest length', [...integer(0, 8), ...integer((1n << 62n) - 1n, 8)]],
    ['one with 4 GiB', [...integer(0, 1), ...integer(2 ** 32, 8)]],
    ['a payload one byte too long behind a short context', [...integer(0, 1), ...integer(MAX_DATAGRAM_BYTES + 2, 4), 0, ...Array<number>(MAX_DATAGRAM_BYTES + 1).fill(7)]],
    ['one without a context', capsule(0, [])],
    ['a context that is cut short', capsule(0, [0xc0, 0, 0])],
    ['one whose context says that it takes eight bytes and is one', capsule(0, [0xff])],
  ])('%s end the tunnel, wherever they are cut, and nothing is read behind them', (_name, bytes) => {
    const whole = Uint8Array.from([...bytes, ...datagramCapsule(Buffer.from('behind'))])
    for (const at of [1, 2, 3, bytes.length - 1, bytes.length, whole.length]) {
      const { payloads, taken, between } = read([whole.subarray(0, at), whole.subarray(at)])
      expect({ payloads, taken, between }).toEqual({ payloads: [], taken: false, between: false })
    }
    const reader = createCapsuleReader(() => expect.unreachable())
    reader.take(whole)
    expect(reader.take(datagramCapsule(Buffer.from('again')))).toBe(false)
  })
  it('cut short by the end of the stream are known for it, at each byte', () => {
    const bytes = datagramCapsule(Buffer.from('datagram'))
    for (let length = 1; length < bytes.length; length++) expect(read([bytes.subarray(0, length)]), String(length)).toEqual({ payloads: [], taken: true, between: false })
  })
  it('of unknown types are skipped whatever they announce, and hold no memory', () => {
    const reader = createCapsuleReader(() => expect.unreachable())
    expect(reader.take(Uint8Array.from([...integer(0x1234_5678, 8), ...integer((1n << 62n) - 1n, 8)]))).toBe(true)
    const chunk = new Uint8Array(1 << 20)
    const before = process.memoryUsage().arrayBuffers
    for (let round = 0; round < 256; round++) expect(reader.take(chunk)).toBe(true)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 << 20)
  })
  it('that announce much and send little hold what was sent', () => {
    const before = process.memoryUsage().arrayBuffers
    const readers = Array.from({ length: 1_000 }, () => createCapsuleReader(() => expect.unreachable()))
    for (const reader of readers) expect(reader.take(Uint8Array.from([...integer(0, 1), ...integer(65_000, 4), 0, 1, 2]))).toBe(true)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 << 20)
    expect(readers.every(({ between }) => !between)).toBe(true)
  })
})

describe('a destination in a path', () => {
  it('comes back as it went', () => {
    for (const [host, port, named] of [['dns.corp.test', 53, 'dns.corp.test:53'], ['10.0.0.5', 443, '10.0.0.5:443'], ['fd00::5', 53, '[fd00::5]:53']] as const) expect(udpAuthority(udpPath(host, port))).toBe(named)
    expect(udpPath('fd00::5', 53)).toBe('/.well-known/masque/udp/fd00%3A%3A5/53/')
  })
  it.each(['/', '/.well-known/masque/udp/host/53', '/.well-known/masque/udp//53/', '/.well-known/masque/udp/host/', '/.well-known/masque/udp/%/53/', '/.well-known/masque/udp/%ff/53/', '/.well-known/masque/udp/host/53/?x', '/.well-known/masque/udp/host/port/', '/x/.well-known/masque/udp/host/53/', '/.well-known/masque/udp/a/b/53/'])('is none in %s', (path) => {
    expect(udpAuthority(path)).toBe('')
  })
})
