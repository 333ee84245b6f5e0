// Key pairs: ECDSA on P-256, the one kind in the house. Storing them is not done here.
import { copyBytes, fromPem, toBase64Url, toHex, toPem, utf8, type Bytes } from './encoding.ts'

export const KEY_ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256' } as const
export const SIGNING_ALGORITHM = { name: 'ECDSA', hash: 'SHA-256' } as const

/** A new P-256 key pair. Extractable only where it must be written down. */
export const generateKey = async (extractable = false): Promise<CryptoKeyPair> =>
  await crypto.subtle.generateKey(KEY_ALGORITHM, extractable, ['sign', 'verify']) as CryptoKeyPair

/** PKCS #8 PEM of an extractable private key. */
export async function exportPrivateKey(key: CryptoKey): Promise<string> {
  return toPem('PRIVATE KEY', copyBytes(await crypto.subtle.exportKey('pkcs8', key) as ArrayBuffer))
}

/** SPKI DER of a public key (RFC 5280 §4.1.2.7). */
export async function exportPublicKey(key: CryptoKey): Promise<Bytes> {
  return copyBytes(await crypto.subtle.exportKey('spki', key) as ArrayBuffer)
}

export const importPublicKey = (spki: Bytes): Promise<CryptoKey> => crypto.subtle.importKey('spki', spki, KEY_ALGORITHM, true, ['verify'])

/** Reads a PKCS #8 PEM; the public half is derived. Throws when it is not a P-256 key: a stored key that can't be read is a failure, not an outcome. */
export async function importPrivateKey(pem: string, extractable = true): Promise<CryptoKeyPair> {
  const der = fromPem('PRIVATE KEY', pem)
  if (der === null) throw new Error('not a PKCS #8 private key in PEM')
  const readable = await crypto.subtle.importKey('pkcs8', der, KEY_ALGORITHM, true, ['sign'])
  const jwk = await crypto.subtle.exportKey('jwk', readable) as JsonWebKey
  const publicKey = await crypto.subtle.importKey('jwk', { kty: jwk.kty, crv: jwk.crv, x: jwk.x, y: jwk.y }, KEY_ALGORITHM, true, ['verify'])
  const privateKey = extractable ? readable : await crypto.subtle.importKey('pkcs8', der, KEY_ALGORITHM, false, ['sign'])
  return { privateKey, publicKey }
}

export const sha256 = async (bytes: Bytes): Promise<Bytes> => copyBytes(await crypto.subtle.digest('SHA-256', bytes))
/** SHA-256 in lower-case hex. */
export const sha256Hex = async (bytes: Bytes): Promise<string> => toHex(await sha256(bytes))
/** What a key is known by in tables: the SHA-256 of its SPKI, hex. */
export const publicKeyHash = sha256Hex
/** What two people compare: the SHA-256 of the SPKI in upper-case hex pairs. */
export const keyFingerprint = async (spki: Bytes): Promise<string> => ((await sha256Hex(spki)).toUpperCase().match(/../g) ?? []).join(':')

/** A secret of 256 random bits, base64url (43 characters): invitations, join codes, tokens. */
export const newSecret = (): string => toBase64Url(crypto.getRandomValues(new Uint8Array(32)))
/** The hash under which a secret is stored. It has 256 bits of its own, so it needs no salt. */
export const secretHash = (secret: string): Promise<string> => sha256Hex(utf8(secret))
