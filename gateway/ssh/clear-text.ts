// What one side of an SSH session says before anything is encrypted: its version (RFC 4253 §4.2), then packets (§6), put together from pieces of any size.

/** A version, or a packet; `raw` is all that came for it. */
export type Said =
  | { readonly kind: 'version'; readonly text: string; readonly raw: Buffer }
  | { readonly kind: 'packet'; readonly payload: Uint8Array; readonly raw: Buffer }
  | { readonly kind: 'unreadable'; readonly why: string }

const MAX_LINE = 255
/** Of lines that a server may say ahead of its version. */
const MAX_LINES = 32
/** RFC 4253 §6.1, the length itself included. */
const MAX_PACKET = 35_000
const MIN_PADDING = 4
const BLOCK = 8
const FIRST_BYTES = 4_096

/** Sessions begin one after the other: those that have begun leave theirs to the next. */
const MAX_SPARE = 64
const spare: Buffer[] = []

const NEWLINE = 10
/** A version or what stands before it: any text but control characters. Whatever else could be read as an end of line by one and not by the other. */
const readable = /^[^\x00-\x1f\x7f]*$/

/** @param linesFirst whether lines may stand before the version: a server's alone may */
export function createClearText({ linesFirst }: { readonly linesFirst: boolean }) {
  let buffer = spare.pop() ?? Buffer.allocUnsafeSlow(FIRST_BYTES)
  let [from, to] = [0, 0]
  /** Where the line that is being read begins, within what is held: lines are given with the version. */
  let line = 0
  let lines = 0
  let version = false
  let broken: Extract<Said, { kind: 'unreadable' }> | null = null
  const fail = (why: string): Said => {
    broken = { kind: 'unreadable', why }
    return broken
  }
  /** What is given is a copy: the memory is used again. */
  const take = (length: number): Buffer => {
    const raw = Buffer.from(buffer.subarray(from, from + length))
    from += length
    return raw
  }

  function nextVersion(): Said | null {
    for (;;) {
      const end = buffer.subarray(from + line, to).indexOf(NEWLINE)
      if (end === -1) return to - from - line > MAX_LINE ? fail('a line is too long') : null
      const text = buffer.toString('latin1', from + line, from + line + end).replace(/\r$/, '')
      if (end > MAX_LINE || !readable.test(text)) return fail('it is no line of SSH')
      line += end + 1
      if (/^SSH-(2\.0|1\.99)-/.test(text)) {
        version = true
        return { kind: 'version', text, raw: take(line) }
      }
      // In whatever case: no client must take for a version what was not.
      if (!linesFirst || /^SSH-/i.test(text) || ++lines > MAX_LINES) return fail('it does not speak SSH 2')
    }
  }

  function nextPacket(): Said | null {
    if (to - from < 5) return null
    const length = buffer.readUInt32BE(from)
    const padding = buffer[from + 4] ?? 0
    if (length + 4 > MAX_PACKET || (length + 4) % BLOCK !== 0 || padding < MIN_PADDING || length < padding + 2) return fail('it is no packet of SSH')
    if (to - from < length + 4) return null
    const raw = take(length + 4)
    return { kind: 'packet', payload: raw.subarray(5, raw.length - padding), raw }
  }

  return {
    /** Takes a piece; its memory is the caller's again. */
    put(piece: Uint8Array): void {
      if (broken !== null) return
      if (to + piece.length > buffer.length) {
        const wider = to - from + piece.length > buffer.length ? Buffer.allocUnsafeSlow(Math.max(2 * buffer.length, to - from + piece.length)) : buffer
        buffer.copy(wider, 0, from, to)
        buffer = wider
        ;[from, to] = [0, to - from]
      }
      buffer.set(piece, to)
      to += piece.length
    },
    /** The next that is in whole; null: more must come. What can't be read stays so. */
    next: (): Said | null => broken ?? (version ? nextPacket() : nextVersion()),
    /** What came behind what was given. */
    rest: (): Uint8Array => Buffer.from(buffer.subarray(from, to)),
    get heldBytes() {
      return to - from
    },
    /** Ends it: nothing is put or read any more. */
    close(): void {
      if (buffer.length === FIRST_BYTES && spare.length < MAX_SPARE) spare.push(buffer)
      buffer = Buffer.alloc(0)
      ;[from, to] = [0, 0]
      broken = { kind: 'unreadable', why: 'it is closed' }
    },
  }
}
export type ClearText = ReturnType<typeof createClearText>
