// A tunnel's bytes over a TLS socket, in frames: Node tells no TLS connection that broke from one that ended, and half a file must not look whole.
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'

/** The field by which an agent asks for frames, and a gateway grants them. */
export const FRAMING_HEADER = 'sallyport-framing'
export const FRAMING = '1'

// A frame: four bytes, then as many bytes of the tunnel as they say. Nothing: this direction has ended. Highest bit set: a word of the gateway's own, at most this long.
const HEADER_BYTES = 4
const CONTROL = 0x8000_0000
const CONTROL_LIMIT = 16_384
/** What may wait to be written. */
const WAITING_BYTES = 131_072
/** Below this, header and bytes go out as one piece. */
const SMALL_BYTES = 4_096

function frame(head: number, bytes: Uint8Array): Uint8Array {
  const framed = Buffer.allocUnsafe(HEADER_BYTES + bytes.length)
  framed.writeUInt32BE(head)
  framed.set(bytes, HEADER_BYTES)
  return framed
}

export interface FramedOptions {
  /** Bytes that have been read from the socket already. */
  readonly head?: Uint8Array
  /** Breaks the connection off at once. */
  readonly reset: () => void
  /** Told of a word of the far side's own, which is its last. */
  readonly onControl?: (text: string) => void
}

/** Ends with an 'error' unless the far side has said that it has finished. */
export class FramedDuplex extends Duplex {
  readonly #socket: Socket
  readonly #options: FramedOptions
  #header: Buffer = Buffer.alloc(0)
  /** Of the frame that is being read. */
  #left = 0
  #control: Buffer[] | null = null
  #farEnded = false

  constructor(socket: Socket, options: FramedOptions) {
    super({ allowHalfOpen: true, writableHighWaterMark: WAITING_BYTES })
    this.#socket = socket
    this.#options = options
    socket.pause()
    socket.on('data', (chunk: Buffer) => this.#take(chunk))
    socket.on('end', () => {
      if (!this.#farEnded) this.destroy(new Error('the connection broke off'))
    })
    socket.on('error', (error) => this.destroy(error))
    socket.on('close', () => {
      if (!this.#farEnded || !this.writableFinished) this.destroy(new Error('the connection broke off'))
    })
    if (options.head !== undefined && options.head.length > 0) socket.unshift(options.head)
  }

  /** The last word to the far side. @returns false when bytes of the tunnel would go out ahead of it */
  tell(text: string): boolean {
    const bytes = Buffer.from(text)
    if (this.#socket.writableLength > 0 || !this.#socket.writable || bytes.length > CONTROL_LIMIT) return false
    this.#socket.end(frame((CONTROL | bytes.length) >>> 0, bytes))
    return true
  }

  #take(chunk: Buffer): void {
    let rest = chunk
    while (rest.length > 0 && !this.destroyed) {
      if (this.#left === 0) {
        const missing = HEADER_BYTES - this.#header.length
        this.#header = this.#header.length === 0 && rest.length >= HEADER_BYTES ? rest.subarray(0, HEADER_BYTES) : Buffer.concat([this.#header, rest.subarray(0, missing)])
        rest = rest.subarray(missing)
        if (this.#header.length < HEADER_BYTES) return
        this.#open(this.#header.readUInt32BE())
        this.#header = Buffer.alloc(0)
        continue
      }
      const bytes = rest.subarray(0, this.#left)
      this.#left -= bytes.length
      rest = rest.subarray(bytes.length)
      if (this.#control === null) {
        if (!this.push(bytes)) this.#socket.pause()
      } else {
        this.#control.push(bytes)
        if (this.#left === 0) this.#hear(Buffer.concat(this.#control).toString('utf8'))
      }
    }
  }

  #open(head: number): void {
    if (this.#farEnded) {
      this.destroy(new Error('the far side sends after its end'))
      return
    }
    this.#left = head & ~CONTROL
    if (head >= CONTROL) {
      this.#control = []
      if (this.#left === 0 || this.#left > CONTROL_LIMIT) this.destroy(new Error('the far side breaks the framing'))
    } else if (this.#left === 0) {
      this.#farEnded = true
      this.push(null)
    }
  }

  #hear(text: string): void {
    this.#options.onControl?.(text)
    this.destroy(new Error('the far side cut the session'))
  }

  override _read(): void {
    this.#socket.resume()
  }

  /** @param done told when the bytes have gone: until then their memory is not the sender's to use again */
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this._writev([{ chunk, encoding: 'buffer' as BufferEncoding }], done)
  }

  override _writev(chunks: { chunk: Buffer; encoding: BufferEncoding }[], done: (error?: Error | null) => void): void {
    const socket = this.#socket
    socket.cork()
    for (const [index, { chunk }] of chunks.entries()) {
      const told = index === chunks.length - 1 ? done : undefined
      if (chunk.length < SMALL_BYTES) socket.write(frame(chunk.length, chunk), told)
      else {
        const header = Buffer.allocUnsafe(HEADER_BYTES)
        header.writeUInt32BE(chunk.length)
        socket.write(header)
        socket.write(chunk, told)
      }
    }
    socket.uncork()
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(new Uint8Array(HEADER_BYTES))
    done()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (error === null && this.#farEnded && this.writableFinished) this.#socket.destroySoon()
    else this.#options.reset()
    done(error)
  }
}
