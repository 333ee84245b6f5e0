// Names of decisions: each says which gateway took it and can't be guessed.
import { randomFillSync } from 'node:crypto'

const CROCKFORD = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
const LETTERS = 16
/** Randomness is drawn for many at once: a call for each costs more than the rest of the name. */
const pool = Buffer.alloc(4_096)
let used = pool.length

/** `D`, the 12 hex digits of the gateway's serial, a hyphen, 80 random bits in Crockford base32. */
export function newDecisionId(serial: string): string {
  if (used === pool.length) {
    randomFillSync(pool)
    used = 0
  }
  let letters = ''
  for (const end = used + LETTERS; used < end; used++) letters += CROCKFORD.charAt((pool[used] ?? 0) & 31)
  return `D${serial.slice(4)}-${letters}`
}
