// The data types of SSH's wire (RFC 4251 §5), read and written. What messages, keys and certificates say with them is told elsewhere.

const encoder = new TextEncoder()
const decoder = new TextDecoder('latin1')
const NOTHING = new Uint8Array(0)

/** Reads what a stranger sent. Beyond the end it fails and stays so: everything read from then on is empty. */
export class WireReader {
  readonly #bytes: Uint8Array
  #at = 0
  #failed = false
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  /** Whether every byte was read, and none was missing. */
  get isDone(): boolean {
    return !this.#failed && this.#at === this.#bytes.length
  }

  get failed(): boolean {
    return this.#failed
  }

  /** Bytes read so far. */
  get at(): number {
    return this.#at
  }

  bytes(length: number): Uint8Array {
    if (this.#failed || length > this.#bytes.length - this.#at) {
      this.#failed = true
      return NOTHING
    }
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }

  byte(): number {
    return this.bytes(1)[0] ?? 0
  }

  uint32(): number {
    const [a = 0, b = 0, c = 0, d = 0] = this.bytes(4)
    return ((a << 24) | (b << 16) | (c << 8) | d) >>> 0
  }

  uint64(): bigint {
    return (BigInt(this.uint32()) << 32n) | BigInt(this.uint32())
  }

  /** A string or an mpint: its bytes. */
  string(): Uint8Array {
    return this.bytes(this.uint32())
  }

  /** A string of ASCII; other bytes become what no name in use has. */
  text(): string {
    return decoder.decode(this.string())
  }

  /** A string that is itself a row of strings; null when it is none. */
  strings(): string[] | null {
    const inner = new WireReader(this.string())
    const all: string[] = []
    while (!inner.isDone && !inner.failed) all.push(inner.text())
    return this.#failed || inner.failed ? null : all
  }
}

export function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

export const uint32 = (value: number): Uint8Array => new Uint8Array([value >>> 24, value >>> 16, value >>> 8, value])
export const uint64 = (value: bigint): Uint8Array => joined([uint32(Number((value >> 32n) & 0xffff_ffffn)), uint32(Number(value & 0xffff_ffffn))])
/** A string of bytes, or of text in UTF-8. */
export function string(content: string | Uint8Array): Uint8Array {
  const bytes = typeof content === 'string' ? encoder.encode(content) : content
  return joined([uint32(bytes.length), bytes])
}
/** Strings in a row, within one. */
export const strings = (all: readonly string[]): Uint8Array => string(joined(all.map(string)))
