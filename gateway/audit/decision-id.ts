// Names of decisions: each says which gateway took it and can't be guessed.
import { randomBytes } from 'node:crypto'

const CROCKFORD = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

/** `D`, the 12 hex digits of the gateway's serial, a hyphen, 80 random bits in Crockford base32. */
export function newDecisionId(serial: string): string {
  const letters = Array.from(randomBytes(16), (byte) => CROCKFORD.charAt(byte & 31))
  return `D${serial.slice(4)}-${letters.join('')}`
}
