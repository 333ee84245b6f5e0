// Public keys of SSH as Node's cryptography takes them, and signatures made by them (RFC 4253 §6.6, RFC 5656, RFC 8332, RFC 8709).
import { createPublicKey, verify, type JsonWebKey, type KeyObject } from 'node:crypto'
import { readKeyBlob } from '../../domain/access/ssh-key.ts'
import { WireReader } from '../../domain/access/ssh-wire.ts'

const MIN_RSA_BITS = 2_048
const MAX_RSA_BITS = 8_192
/** Bytes. */
const MAX_RSA_EXPONENT = 8
const curves: Readonly<Record<string, { readonly crv: string; readonly bytes: number; readonly hash: string }>> = {
  nistp256: { crv: 'P-256', bytes: 32, hash: 'sha256' }, nistp384: { crv: 'P-384', bytes: 48, hash: 'sha384' }, nistp521: { crv: 'P-521', bytes: 66, hash: 'sha512' },
}
const rsaHashes: Readonly<Record<string, string>> = { 'rsa-sha2-256': 'sha256', 'rsa-sha2-512': 'sha512' }

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url')
function unsigned(mpint: Uint8Array): Uint8Array {
  const first = mpint.findIndex((byte) => byte !== 0)
  return first === -1 ? mpint.subarray(mpint.length) : mpint.subarray(first)
}

function jwkOf(type: string, fields: readonly Uint8Array[]): JsonWebKey | null {
  const [first = new Uint8Array(0), second = new Uint8Array(0)] = fields
  if (type === 'ssh-ed25519' || type === 'sk-ssh-ed25519@openssh.com') return { kty: 'OKP', crv: 'Ed25519', x: base64(first) }
  if (type === 'ssh-rsa') {
    // A negative modulus or exponent is no number of a key.
    if (((first[0] ?? 0) | (second[0] ?? 0)) & 0x80) return null
    const [e, n] = [unsigned(first), unsigned(second)]
    const bits = n.length * 8 - Math.clz32(n[0] ?? 0) + 24
    // By the exponent 1 anybody signs, by an even one nobody, and a long one is work for whoever verifies.
    const isOdd = ((e.at(-1) ?? 0) & (n.at(-1) ?? 0) & 1) === 1
    if (!isOdd || (e.length === 1 && e[0] === 1) || e.length > MAX_RSA_EXPONENT) return null
    return bits < MIN_RSA_BITS || bits > MAX_RSA_BITS ? null : { kty: 'RSA', e: base64(e), n: base64(n) }
  }
  const curve = curves[Buffer.from(first).toString('latin1')]
  return curve === undefined || second[0] !== 4 ? null : { kty: 'EC', crv: curve.crv, x: base64(second.subarray(1, 1 + curve.bytes)), y: base64(second.subarray(1 + curve.bytes)) }
}

/** A key as it stands on the wire; null when it is of no type that is taken, too small, or no point of its curve. */
export function keyObject(blob: Uint8Array): KeyObject | null {
  const read = readKeyBlob(blob)
  const jwk = read === null ? null : jwkOf(read.type, read.fields)
  if (jwk === null) return null
  try {
    return createPublicKey({ key: jwk, format: 'jwk' })
  } catch {
    return null // whoever sent it made it so: it is no key
  }
}

const fixed = (mpint: Uint8Array, length: number): Uint8Array | null => {
  const bytes = unsigned(mpint)
  return bytes.length > length ? null : Buffer.concat([Buffer.alloc(length - bytes.length), bytes])
}

/** Whether `signature`, as SSH writes it, is one of `data` by the key in `blob`. By SHA-1 none is. */
export function isSignedBy(blob: Uint8Array, data: Uint8Array, signature: Uint8Array): boolean {
  const type = readKeyBlob(blob)?.type ?? ''
  const key = keyObject(blob)
  const reader = new WireReader(signature)
  const algorithm = reader.text()
  const value = reader.string()
  if (key === null || !reader.isDone) return false
  if (type === 'ssh-ed25519') return algorithm === type && value.length === 64 && verify(null, data, key, value)
  if (type === 'ssh-rsa') {
    const hash = Object.hasOwn(rsaHashes, algorithm) ? rsaHashes[algorithm] : undefined
    return hash !== undefined && verify(hash, data, key, value)
  }
  const curve = curves[type.replace('ecdsa-sha2-', '')]
  if (curve === undefined || algorithm !== type) return false
  const inner = new WireReader(value)
  const [r, s] = [fixed(inner.string(), curve.bytes), fixed(inner.string(), curve.bytes)]
  return inner.isDone && r !== null && s !== null && verify(curve.hash, data, { key, dsaEncoding: 'ieee-p1363' }, Buffer.concat([r, s]))
}
