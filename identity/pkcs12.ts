// Writes a PKCS #12 file (RFC 7292): one key and its certificate under a password, as browsers' stores import them. It reads none.
import { copyBytes, type Bytes } from './encoding.ts'
import { sha256, SIGNING_ALGORITHM } from './keys.ts'

/** The password that is handed in is random: more rounds would only cost time. */
const ROUNDS = 2048
const oids = {
  data: '1.2.840.113549.1.7.1', keyBag: '1.2.840.113549.1.12.10.1.2', certificateBag: '1.2.840.113549.1.12.10.1.3', x509: '1.2.840.113549.1.9.22.1',
  friendlyName: '1.2.840.113549.1.9.20', localKeyId: '1.2.840.113549.1.9.21', pbes2: '1.2.840.113549.1.5.13', pbkdf2: '1.2.840.113549.1.5.12',
  hmacSha256: '1.2.840.113549.2.9', aes256: '2.16.840.1.101.3.4.1.42', sha256: '2.16.840.1.101.3.4.2.1',
}

const joined = (parts: readonly Uint8Array[]): Bytes => {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}
function der(tag: number, ...content: Uint8Array[]): Bytes {
  const body = joined(content)
  const length = body.length < 128 ? [body.length] : body.length < 256 ? [0x81, body.length] : [0x82, body.length >> 8, body.length & 255]
  return joined([Uint8Array.of(tag, ...length), body])
}
const sequence = (...content: Uint8Array[]) => der(0x30, ...content)
const set = (...content: Uint8Array[]) => der(0x31, ...content)
const octets = (content: Uint8Array) => der(0x04, content)
const explicit = (content: Uint8Array) => der(0xa0, content)
const integer = (value: number) => (value < 128 ? der(0x02, Uint8Array.of(value)) : der(0x02, Uint8Array.of(value >> 8, value & 255)))
const nothing = der(0x05)
function oid(dotted: string): Bytes {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number)
  const arcs = rest.flatMap((arc) => {
    const digits = [arc & 127]
    for (let left = arc >>> 7; left > 0; left >>>= 7) digits.unshift((left & 127) | 128)
    return digits
  })
  return der(0x06, Uint8Array.of(first * 40 + second, ...arcs))
}
/** UTF-16, big end first. */
const wide = (text: string): Bytes => Uint8Array.from({ length: 2 * text.length }, (_, index) => (index % 2 === 0 ? text.charCodeAt(index >> 1) >> 8 : text.charCodeAt(index >> 1) & 255))
const random = (length: number): Bytes => crypto.getRandomValues(new Uint8Array(length))

async function encrypted(plain: Bytes, password: string): Promise<Bytes> {
  const [salt, iv] = [random(16), random(16)]
  const base = await crypto.subtle.importKey('raw', new TextEncoder().encode(password), 'PBKDF2', false, ['deriveKey'])
  const key = await crypto.subtle.deriveKey({ name: 'PBKDF2', hash: 'SHA-256', salt, iterations: ROUNDS }, base, { name: 'AES-CBC', length: 256 }, false, ['encrypt'])
  const cipher = copyBytes(await crypto.subtle.encrypt({ name: 'AES-CBC', iv }, key, plain))
  const derivation = sequence(oid(oids.pbkdf2), sequence(octets(salt), integer(ROUNDS), sequence(oid(oids.hmacSha256), nothing)))
  return sequence(sequence(oid(oids.pbes2), sequence(derivation, sequence(oid(oids.aes256), octets(iv)))), octets(cipher))
}

/** Key of the MAC (RFC 7292 appendix B.2) for one round and one block of SHA-256: nothing of its long arithmetic is left. */
async function macKey(password: string, salt: Bytes): Promise<CryptoKey> {
  const blocks = (text: Bytes) => Uint8Array.from({ length: Math.ceil(text.length / 64) * 64 }, (_, index) => text[index % text.length] ?? 0)
  const secret = await sha256(joined([new Uint8Array(64).fill(3), blocks(salt), blocks(joined([wide(password), Uint8Array.of(0, 0)]))]))
  return await crypto.subtle.importKey('raw', secret, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign'])
}

/** The name by which browsers' stores know the key of a certificate (CKA_ID): the SHA-1 of the point on the curve. */
export async function storeKeyId(publicKey: CryptoKey): Promise<Bytes> {
  return copyBytes(await crypto.subtle.digest('SHA-1', await crypto.subtle.exportKey('raw', publicKey) as ArrayBuffer))
}

/**
 * One key and its certificate as PKCS #12: the key by PBES2 (AES-256), the whole by HMAC-SHA-256.
 * @param privateKeyDer PKCS #8
 * @param password random, ASCII; whoever has it has the key
 */
export async function writePkcs12({ privateKeyDer, certificateDer, keyId, name, password }: { privateKeyDer: Bytes; certificateDer: Bytes; keyId: Bytes; name: string; password: string }): Promise<Bytes> {
  await crypto.subtle.importKey('pkcs8', privateKeyDer, { ...SIGNING_ALGORITHM, namedCurve: 'P-256' }, false, ['sign']) // what no store would take must not be handed on
  const attributes = set(sequence(oid(oids.friendlyName), set(der(0x1e, wide(name)))), sequence(oid(oids.localKeyId), set(octets(keyId))))
  const certificate = sequence(oid(oids.certificateBag), explicit(sequence(oid(oids.x509), explicit(octets(certificateDer)))), attributes)
  const key = sequence(oid(oids.keyBag), explicit(await encrypted(privateKeyDer, password)), attributes)
  const content = (bytes: Bytes) => sequence(oid(oids.data), explicit(octets(bytes)))
  const safe = sequence(content(sequence(certificate)), content(sequence(key)))
  const salt = random(16)
  const mac = copyBytes(await crypto.subtle.sign('HMAC', await macKey(password, salt), safe))
  return sequence(integer(3), content(safe), sequence(sequence(sequence(oid(oids.sha256), nothing), octets(mac)), octets(salt), integer(1)))
}
