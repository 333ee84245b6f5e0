// The server name that a TLS client asks for, read from its first bytes (RFC 8446 §4.1.2, RFC 6066 §3). It terminates nothing and trusts
// no length: whatever is not a well-formed ClientHello is malformed.

export type ClientHello = { kind: 'more' } | { kind: 'malformed' } | { kind: 'hello'; serverName: string | null }

const HANDSHAKE = 22
const CLIENT_HELLO = 1
const MAX_RECORD = 16_384
/** Browsers' are under 2 KB, with post-quantum keys; a ticket and a few more extensions fit easily. */
const MAX_HELLO = 16_384
const more: ClientHello = { kind: 'more' }
const malformed: ClientHello = { kind: 'malformed' }

/** Takes pieces off the front; `null` once something reached beyond the end. */
class Cursor {
  readonly #bytes: Uint8Array
  #at = 0
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }
  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length
  }
  take(length: number): Uint8Array | null {
    if (this.#at + length > this.#bytes.length) return null
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }
  /** A number of this many bytes. */
  number(width: number): number | null {
    const taken = this.take(width)
    return taken === null ? null : taken.reduce((sum, byte) => sum * 256 + byte, 0)
  }
  /** What follows its own length, which is `width` bytes wide. */
  vector(width: number): Uint8Array | null {
    const length = this.number(width)
    return length === null ? null : this.take(length)
  }
}

/** The one host name of a `server_name` extension; null when it is anything else. */
function hostNameIn(extension: Uint8Array): string | null {
  const outer = new Cursor(extension)
  const list = outer.vector(2)
  if (list === null || !outer.isAtEnd) return null
  const entries = new Cursor(list)
  const [type, name] = [entries.number(1), entries.vector(2)]
  return type !== 0 || name === null || name.length === 0 || !entries.isAtEnd ? null : Buffer.from(name).toString('latin1')
}

function readHello(body: Uint8Array): ClientHello {
  const cursor = new Cursor(body)
  if (cursor.take(34) === null) return malformed
  const [session, ciphers, compressions] = [cursor.vector(1), cursor.vector(2), cursor.vector(1)]
  if (session === null || session.length > 32 || ciphers === null || ciphers.length < 2 || compressions === null || compressions.length === 0) return malformed
  if (cursor.isAtEnd) return { kind: 'hello', serverName: null }
  const all = cursor.vector(2)
  if (all === null || !cursor.isAtEnd) return malformed
  const extensions = new Cursor(all)
  let serverName: string | null = null
  while (!extensions.isAtEnd) {
    const [type, data] = [extensions.number(2), extensions.vector(2)]
    if (data === null) return malformed
    if (type !== 0) continue
    // Two names, or one that is told twice: which of them the server takes is anybody's guess.
    const name: string | null = serverName === null ? hostNameIn(data) : null
    if (name === null) return malformed
    serverName = name
  }
  return { kind: 'hello', serverName }
}

/** Reads as far as the bytes go; the message may be cut into records of any size. */
export function readClientHello(bytes: Uint8Array): ClientHello {
  const message: Uint8Array[] = []
  let have = 0
  let wanted: number | null = null
  for (let at = 0; at < bytes.length;) {
    if (bytes[at] !== HANDSHAKE || (at + 1 < bytes.length && bytes[at + 1] !== 3)) return malformed
    if (at + 5 > bytes.length) return more
    const length = (bytes[at + 3] ?? 0) * 256 + (bytes[at + 4] ?? 0)
    if (length === 0 || length > MAX_RECORD) return malformed
    const fragment = bytes.subarray(at + 5, at + 5 + length)
    message.push(fragment)
    have += fragment.length
    if (wanted === null && have >= 4) {
      const head = Buffer.concat(message)
      wanted = 4 + head.readUIntBE(1, 3)
      if (head[0] !== CLIENT_HELLO || wanted > MAX_HELLO) return malformed
    }
    if (wanted !== null && have >= wanted) return readHello(Buffer.concat(message).subarray(4, wanted))
    at += 5 + length
  }
  return more
}
