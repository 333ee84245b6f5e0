// How long to wait before trying again: growing, bounded, and never the same for a thousand clients at once.

/** Full jitter: between half of and the whole of min(limit, first × 2^attempt), in ms. */
export function jitteredBackoff(attempt: number, options: { firstMs?: number; limitMs?: number; random?: () => number } = {}): number {
  const { firstMs = 250, limitMs = 30_000, random = Math.random } = options
  const ceiling = Math.min(limitMs, firstMs * 2 ** Math.min(attempt, 20))
  return Math.round(ceiling / 2 + random() * ceiling / 2)
}
