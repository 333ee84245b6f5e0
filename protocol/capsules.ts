// What flows in a UDP tunnel: capsules (RFC 9297 §3.2) that hold datagrams of context 0 (RFC 9298 §5). Bytes in, bytes out; it opens nothing.

/** The name of the protocol, in `:protocol` (RFC 9220) and in `Upgrade`. */
export const CONNECT_UDP = 'connect-udp'
/** The longest payload of a UDP datagram (RFC 9298 §5). A longer one ends the tunnel. */
export const MAX_DATAGRAM_BYTES = 65_527

const DATAGRAM = 0
const PAYLOADS = 0
/** A variable-length integer takes 1, 2, 4 or 8 bytes (RFC 9000 §16). */
const MAX_INTEGER_BYTES = 8
const MAX_VALUE_BYTES = MAX_DATAGRAM_BYTES + MAX_INTEGER_BYTES
const FIRST_PIECE_BYTES = 2_048

interface Integer { readonly value: number; readonly end: number }

/** The integer at `from`; null when it goes on beyond `to`. Above 2^53 it is rounded: nothing that large is told apart. */
function readInteger(bytes: Uint8Array, from: number, to: number): Integer | null {
  const first = bytes[from]
  if (from >= to || first === undefined) return null
  const end = from + 2 ** (first >> 6)
  if (end > to) return null
  let value = first & 0x3f
  for (let at = from + 1; at < end; at++) value = value * 256 + (bytes[at] ?? 0)
  return { value, end }
}

/** Writes `value`, below 2^30, at `at`. @returns where it ends */
function writeInteger(bytes: Uint8Array, value: number, at: number): number {
  if (value < 64) {
    bytes[at] = value
    return at + 1
  }
  if (value < 16_384) {
    bytes[at] = 0x40 | (value >> 8)
    bytes[at + 1] = value & 0xff
    return at + 2
  }
  bytes[at] = 0x80 | (value >> 24)
  for (let index = 1; index < 4; index++) bytes[at + index] = (value >> (24 - 8 * index)) & 0xff
  return at + 4
}

/** One UDP payload as a capsule. @param payload at most {@link MAX_DATAGRAM_BYTES} */
export function datagramCapsule(payload: Uint8Array): Uint8Array {
  const length = payload.length + 1
  const header = 2 + (length < 64 ? 1 : length < 16_384 ? 2 : 4)
  const capsule = new Uint8Array(header + payload.length)
  capsule[0] = DATAGRAM
  capsule[writeInteger(capsule, length, 1)] = PAYLOADS
  capsule.set(payload, header)
  return capsule
}

export interface CapsuleReader {
  /**
   * Takes what has come; `onPayload` is called for each UDP payload that is whole, with a view that may be of `chunk`.
   * @returns false: this is no such tunnel, and nothing further is read (RFC 9297 §3.3)
   */
  take(chunk: Uint8Array): boolean
  /** Whether the stream may end here: false inside a capsule. */
  readonly between: boolean
}

/**
 * Reads capsules however they are cut. Unknown types are skipped without being held, unknown contexts dropped; a datagram that is
 * longer than UDP knows, or too short to say its context, ends it. At most one datagram is held, and only as much as has come of it.
 */
export function createCapsuleReader(onPayload: (payload: Uint8Array) => void): CapsuleReader {
  const head = new Uint8Array(2 * MAX_INTEGER_BYTES)
  let headLength = 0
  /** Of the capsule under way: bytes that are still to come; null: its head is not read yet. */
  let left: number | null = null
  let skipping = false
  let held = new Uint8Array(0)
  let heldLength = 0
  let broken = false

  function deliver(value: Uint8Array): boolean {
    const context = readInteger(value, 0, value.length)
    if (context === null || value.length - context.end > MAX_DATAGRAM_BYTES) return false
    if (context.value === PAYLOADS) onPayload(value.subarray(context.end))
    return true
  }

  /** Reads type and length. @returns where the value begins in `chunk`; null: more is to come */
  function readHead(chunk: Uint8Array, from: number): number | null {
    const before = headLength
    const some = chunk.subarray(from, from + head.length - before)
    head.set(some, before)
    headLength += some.length
    const type = readInteger(head, 0, headLength)
    const length = type === null ? null : readInteger(head, type.end, headLength)
    if (type === null || length === null) return null
    headLength = 0
    skipping = type.value !== DATAGRAM
    left = length.value
    return from + length.end - before
  }

  /** Keeps a part of a datagram; room grows with what has come, not with what was announced. */
  function hold(part: Uint8Array, whole: number): void {
    const needed = heldLength + part.length
    if (needed > held.length) {
      const grown = new Uint8Array(Math.min(whole, Math.max(needed, held.length * 2, FIRST_PIECE_BYTES)))
      grown.set(held.subarray(0, heldLength))
      held = grown
    }
    held.set(part, heldLength)
    heldLength = needed
  }

  function readAll(chunk: Uint8Array): boolean {
    let at = 0
    while (at < chunk.length) {
      if (left === null) {
        const begins = readHead(chunk, at)
        if (begins === null) return true
        at = begins
        if (!skipping && (left ?? 0) > MAX_VALUE_BYTES) return false
      }
      const missing: number = left ?? 0
      const part = chunk.subarray(at, at + Math.min(missing, chunk.length - at))
      at += part.length
      left = missing - part.length
      if (left > 0) {
        if (!skipping) hold(part, heldLength + missing)
        return true
      }
      left = null
      if (skipping) continue
      if (heldLength === 0) {
        if (!deliver(part)) return false
        continue
      }
      hold(part, heldLength + part.length)
      const value = held
      // A view was handed out: what comes next gets room of its own.
      held = new Uint8Array(0)
      const length = heldLength
      heldLength = 0
      if (!deliver(value.subarray(0, length))) return false
    }
    return true
  }

  return {
    take(chunk) {
      broken ||= !readAll(chunk)
      return !broken
    },
    get between() {
      return !broken && left === null && headLength === 0
    },
  }
}

const template = /^\/\.well-known\/masque\/udp\/([^/?#]{1,300})\/(\d{1,5})\/$/

/** The path by which a destination is asked for (RFC 9298 §3). @param host a name, or an address without brackets */
export const udpPath = (host: string, port: number): string => `/.well-known/masque/udp/${encodeURIComponent(host)}/${port}/`

/** The destination that a path asks for, as CONNECT would name it; '' when it asks for none. */
export function udpAuthority(path: string): string {
  const [, encoded = '', port = ''] = template.exec(path) ?? []
  let host: string
  try {
    host = decodeURIComponent(encoded)
  } catch (error) {
    if (!(error instanceof URIError)) throw error
    return ''
  }
  if (host === '') return ''
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
