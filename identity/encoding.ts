// Bytes to text and back, in workerd and in Node alike. It knows no format above that.

/** The bytes of a buffer that Web Crypto takes (never a view on shared memory). */
export type Bytes = Uint8Array<ArrayBuffer>

export const utf8 = (text: string): Bytes => Uint8Array.from(new TextEncoder().encode(text))
export const toHex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')

/** Reads lower- or upper-case hex; the caller has checked its shape. */
export const fromHex = (hex: string): Bytes => Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))

export function toBase64(bytes: Uint8Array): string {
  let binary = ''
  for (const byte of bytes) binary += String.fromCharCode(byte)
  return btoa(binary)
}

/** Reads base64 (RFC 4648 §4); null when it is not. */
export function fromBase64(text: string): Bytes | null {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0))
  } catch {
    return null // atob throws on anything that is not base64: an expected outcome here
  }
}

export const toBase64Url = (bytes: Uint8Array): string => toBase64(bytes).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '')
export const fromBase64Url = (text: string): Bytes | null => fromBase64(text.replaceAll('-', '+').replaceAll('_', '/'))

/** Writes a PEM block (RFC 7468). */
export const toPem = (label: string, der: Uint8Array): string =>
  `-----BEGIN ${label}-----\n${(toBase64(der).match(/.{1,64}/g) ?? []).join('\n')}\n-----END ${label}-----\n`

/** Reads the first PEM block of that label; null when there is none or it is damaged. */
export function fromPem(label: string, pem: string): Bytes | null {
  const match = new RegExp(`-----BEGIN ${label}-----([\\sA-Za-z0-9+/=]+)-----END ${label}-----`).exec(pem)
  return match?.[1] === undefined ? null : fromBase64(match[1].replaceAll(/\s/g, ''))
}

/** A copy that owns its memory: what a library hands out may be a view on something larger. */
export const copyBytes = (bytes: ArrayBuffer | Uint8Array): Bytes => Uint8Array.from(bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes))

/** Compares without telling by its duration where two texts differ. Their lengths are not secret. */
export function equalInConstantTime(a: string, b: string): boolean {
  const left = utf8(a)
  const right = utf8(b)
  let difference = left.length ^ right.length
  for (let i = 0; i < left.length; i++) difference |= (left[i] ?? 0) ^ (right[i % Math.max(right.length, 1)] ?? 0)
  return difference === 0
}
