// A log that strangers can't flood: of each event so many lines a second, and then how many were left out.
import type { Log } from '../../node/logging.ts'

const PER_SECOND = 5

/** @param now ms. @returns writes a warning, or counts it */
export function createRarely(log: Log, now: () => number): (event: string, fields: object, sentence: string) => void {
  const seen = new Map<string, { second: number; lines: number; leftOut: number }>()
  return (event, fields, sentence) => {
    const second = Math.floor(now() / 1_000)
    const each = seen.get(event) ?? { second, lines: 0, leftOut: 0 }
    seen.set(event, each)
    if (each.second !== second) {
      each.second = second
      each.lines = 0
    }
    if (++each.lines > PER_SECOND) {
      each.leftOut++
      return
    }
    log.warn({ event, ...fields, ...(each.leftOut === 0 ? {} : { leftOut: each.leftOut }) }, sentence)
    each.leftOut = 0
  }
}
