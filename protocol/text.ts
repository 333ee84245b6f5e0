// Bounded strings for everything a stranger may send. It validates; it never cleans or rewrites input.
import { z } from 'zod'

// C0, DEL, C1, bidirectional overrides and line separators: they forge log lines and hide what an administrator reads.
// Halves of surrogate pairs: they have no canonical JSON (RFC 8785), so a section that holds one has no hash.
// eslint-disable-next-line no-control-regex -- naming control characters is the point
export const unprintable = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]/u

/** Where the first character stands that is not allowed, but for those given; null: there is none. */
export function unprintableAt(text: string, allowed: string): number | null {
  let at = 0
  for (const character of text) {
    if (unprintable.test(character) && !allowed.includes(character)) return at
    at += character.length
  }
  return null
}

/** A one-line display string: 1 to `max` UTF-16 units, no control or direction characters. */
export const line = (max: number) =>
  z.string().min(1).max(max).refine((s) => !unprintable.test(s), 'control characters are not allowed')

/** Like {@link line}, but may be empty: for facts that a system may leave blank. */
export const lineOrEmpty = (max: number) =>
  z.string().max(max).refine((s) => !unprintable.test(s), 'control characters are not allowed')

/** Base64 (RFC 4648 §4) of at most `maxBytes` bytes. */
export const base64 = (maxBytes: number) =>
  z.string().max(Math.ceil(maxBytes / 3) * 4).regex(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/, 'must be base64')

/** Lower-case hex SHA-256. */
export const sha256Hex = z.string().regex(/^[0-9a-f]{64}$/, 'must be a SHA-256 in lower-case hex')

/** Milliseconds since the epoch. */
export const instant = z.number().int().min(0).max(8_640_000_000_000_000)

/** A DNS host name (RFC 1123 letters, digits, hyphens), lower case, without a final dot. */
export const hostName = z.string().max(253).regex(/^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/, 'must be a host name')

/** A TCP or UDP port. */
export const port = z.number().int().min(1).max(65535)
