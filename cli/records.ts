// Records of JSON out of a stream of any length: one a line, an array, or one after another, written on several lines or not. It holds one record at a time.

/** A record larger than this is refused, not held. */
const MOST_UNITS = 32 * 1024 * 1024

export type FileRecord =
  | { readonly ok: true; readonly line: number; readonly value: unknown }
  | { readonly ok: false; readonly line: number; readonly reason: string }

/** @param chunks of text; `line` counts from 1 and is where a record begins */
export async function* recordsOf(chunks: AsyncIterable<string>): AsyncGenerator<FileRecord> {
  const finder = new RecordFinder()
  for await (const chunk of chunks) yield* finder.take(chunk)
  yield* finder.end()
}

class RecordFinder {
  #line = 1
  #began = 1
  #depth = 0
  #inString = false
  #escaped = false
  #parts: string[] = []
  #units = 0
  #stray = false
  #atMargin = true

  #keep(part: string): void {
    this.#units += part.length
    if (this.#units <= MOST_UNITS) this.#parts.push(part)
  }
  *take(chunk: string): Generator<FileRecord> {
    let from = this.#depth > 0 ? 0 : -1
    for (let at = 0; at < chunk.length; at++) {
      const code = chunk.charCodeAt(at)
      // A record that begins at the margin is no part of one before it, which then was cut off.
      if (this.#atMargin && code === 123 && this.#depth > 0) {
        yield this.#refuse('is cut off')
        from = -1
      }
      this.#atMargin = code === 10
      if (code === 10) {
        this.#line++
        // No string holds a line feed: whatever record this is, it ends here, and the next line may be whole.
        if (this.#depth > 0 && this.#inString) {
          yield this.#refuse('a string is not closed on its line')
          from = -1
        }
        this.#stray = false
      } else if (this.#depth === 0) {
        if (code === 123) {
          this.#depth = 1
          this.#began = this.#line
          from = at
        } else if (!isBetween(code) && !this.#stray) {
          this.#stray = true
          yield { ok: false, line: this.#line, reason: 'is not a JSON object' }
        }
      } else if (this.#inString) {
        if (this.#escaped) this.#escaped = false
        else if (code === 92) this.#escaped = true
        else if (code === 34) this.#inString = false
      } else if (code === 34) this.#inString = true
      else if (code === 123 || code === 91) this.#depth++
      else if ((code === 125 || code === 93) && --this.#depth === 0) {
        this.#keep(chunk.slice(from, at + 1))
        yield this.#record()
        from = -1
      }
    }
    if (from >= 0) this.#keep(chunk.slice(from))
  }

  *end(): Generator<FileRecord> {
    if (this.#depth > 0) yield this.#refuse('is cut off')
  }

  #refuse(reason: string): FileRecord {
    this.#reset()
    return { ok: false, line: this.#began, reason }
  }
  #reset(): string {
    const text = this.#parts.join('')
    this.#parts = []
    this.#units = 0
    this.#depth = 0
    this.#inString = false
    this.#escaped = false
    return text
  }
  #record(): FileRecord {
    if (this.#units > MOST_UNITS) return this.#refuse('is larger than any advisory')
    const text = this.#reset()
    try {
      return { ok: true, line: this.#began, value: JSON.parse(text) as unknown }
    } catch {
      return { ok: false, line: this.#began, reason: 'is not JSON' }
    }
  }
}

/** White space, and what stands between records and around them: `[`, `]`, `,`, and the mark that begins some files. */
const isBetween = (code: number): boolean => code <= 32 || code === 44 || code === 91 || code === 93 || code === 0xfeff
