// Which destinations carry much, as the gateway says or the last stream has shown: their streams get a connection of their own. Kept in memory only.
import type { Far } from './splice.ts'

/** A destination that carried this much in its last stream, both ways together, is taken to do so again. */
export const bulkBytes = 8 << 20
const maxRemembered = 1_000

export interface Traffic {
  isBulk(authority: string): boolean
  /**
   * Watches a stream that has opened.
   * @param marked the gateway's answer said that the service carries much
   * @param onBulk told once when the destination turns out to: the next stream had better find a connection ready
   */
  follow(authority: string, far: Far, marked: boolean, onBulk: () => void): void
}

export function createTraffic(): Traffic {
  const bulk = new Set<string>()
  function note(authority: string, much: boolean): void {
    bulk.delete(authority)
    if (!much) return
    bulk.add(authority)
    const [oldest] = bulk
    if (bulk.size > maxRemembered && oldest !== undefined) bulk.delete(oldest)
  }
  return {
    isBulk: (authority) => bulk.has(authority),
    follow(authority, far, marked, onBulk) {
      let carried = 0
      let much = marked
      if (marked) {
        note(authority, true)
        onBulk()
      }
      far.onCarried = (bytes) => {
        carried += bytes
        if (much || carried < bulkBytes) return
        much = true
        note(authority, true)
        onBulk()
      }
      far.once('close', () => {
        if (!much) note(authority, false)
      })
    },
  }
}
