// Keys of TLS session tickets: random, of one hour, and made anew at once when what sessions were verified by is no longer believed.
import { randomBytes } from 'node:crypto'
import type { Timers } from '../../node/timers.ts'

export interface Tickets {
  /** 48 bytes, as OpenSSL takes them. */
  keys(): Buffer
  /** Forgets the keys: no session that was made under them is resumed. */
  renew(): void
  /** @returns takes the listener away */
  onChange(listener: () => void): () => void
  close(): void
}

/** A ticket stands for a session whose chain was verified; who took its key has it for this long. */
export const TICKETS_MS = 3_600_000
const BYTES = 48

/** Keys of this process's own. */
export function createTickets(timers: Timers): Tickets {
  let keys = randomBytes(BYTES)
  const listeners = new Set<() => void>()
  let stop = () => {}
  const renew = () => {
    stop()
    keys = randomBytes(BYTES)
    stop = timers.after(TICKETS_MS, renew)
    for (const listener of listeners) listener()
  }
  stop = timers.after(TICKETS_MS, renew)
  return {
    keys: () => keys,
    renew,
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close: () => stop(),
  }
}
