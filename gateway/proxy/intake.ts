// What a socket reads, in buffers that are used again: Node makes a new one of 64 KiB for each read, and collecting them is most of what a download costs.
// An idle socket holds none: thousands of them wait at any time.

/** Takes a piece. `release` gives its memory back once nothing holds the piece any more; without it the collector does. @returns whether more may come */
export type Take = (piece: Buffer, release: () => void) => boolean
export interface Intake {
  /** For `connect`. */
  readonly onread: { readonly buffer: () => Uint8Array; readonly callback: (length: number, buffer: Uint8Array) => boolean }
  /** Who takes what comes from now on. What came before is handed over at once; until then the socket reads no further. */
  handTo(take: Take): void
}

/** One for all: what comes into it is copied before anything else runs. Whoever fills it reads into a large one of its own next. */
const shared = Buffer.allocUnsafeSlow(2_048)
const LARGE_BYTES = 65_536
/** Pieces wait for slow clients; beyond this many spare ones the collector may have them. */
const SPARE_LARGE = 256

const spare: Buffer[] = []

export function createIntake(): Intake {
  let take: Take | null = null
  let early: Buffer | null = null
  let large = false
  return {
    onread: {
      // Asked for after each read too: the buffer before belongs to whoever took its piece.
      buffer: () => (large ? spare.pop() ?? Buffer.allocUnsafeSlow(LARGE_BYTES) : shared),
      callback(length, buffer) {
        const whole = buffer as Buffer
        const wasLarge = whole !== shared
        const read = whole.subarray(0, length)
        const piece = wasLarge ? read : Buffer.from(read)
        large = wasLarge ? length > LARGE_BYTES / 4 : length === shared.length
        if (take === null) {
          early = early === null ? piece : Buffer.concat([early, piece])
          return false
        }
        return take(piece, () => {
          if (wasLarge && spare.length < SPARE_LARGE) spare.push(whole)
        })
      },
    },
    handTo(next) {
      take = next
      const before = early
      // It may hand on at once: what it was given is not given again.
      early = null
      if (before !== null) next(before, () => {})
    },
  }
}
