// Remembers the nonces of signed requests for as long as a repetition could pass, in this isolate and bounded.

/** `seen` answers whether this (key, nonce) came before within the window, and remembers it. */
export class NonceMemory {
  #older = new Set<string>()
  #newer = new Set<string>()
  #turnedAt = 0
  readonly #windowMs: number
  readonly #limit: number

  /** @param windowMs how long a signature is accepted, both sides of the clock together. */
  constructor(windowMs = 120_000, limit = 50_000) {
    this.#windowMs = windowMs
    this.#limit = limit
  }

  seen(keyId: string, nonce: string, now: number): boolean {
    // Two generations: each lives at least one whole window, and nothing is ever walked.
    if (now - this.#turnedAt >= this.#windowMs || this.#newer.size >= this.#limit) {
      this.#older = now - this.#turnedAt >= 2 * this.#windowMs ? new Set() : this.#newer
      this.#newer = new Set()
      this.#turnedAt = now
    }
    const entry = `${keyId} ${nonce}`
    if (this.#newer.has(entry) || this.#older.has(entry)) return true
    this.#newer.add(entry)
    return false
  }
}
