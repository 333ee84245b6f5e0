// Encrypting private keys at rest under a Worker secret that has an id, so that it can be replaced.
import { copyBytes, fromBase64, fromBase64Url, toBase64Url, utf8, type Bytes } from './encoding.ts'

/** Keys by id; the first is current. Empty: the CA is locked. */
export interface WrappingKeys { readonly current: string | null; readonly byId: ReadonlyMap<string, Bytes> }

/** Parses `k2:<base64 of 32 bytes>,k1:…`. Throws on a malformed entry: a mistyped secret must not look like none. */
export function parseWrappingKeys(secret: string): WrappingKeys {
  const byId = new Map<string, Bytes>()
  for (const entry of secret.split(',').map((part) => part.trim()).filter(Boolean)) {
    const [id, encoded] = entry.split(':')
    const key = encoded === undefined ? null : fromBase64(encoded)
    if (id === undefined || !/^[a-z0-9]{1,16}$/.test(id) || key?.length !== 32 || byId.has(id)) throw new Error('WRAPPING_KEYS must be <id>:<base64 of 32 bytes>, comma-separated')
    byId.set(id, key)
  }
  return { current: byId.keys().next().value ?? null, byId }
}

const open = (key: Bytes) => crypto.subtle.importKey('raw', key, 'AES-GCM', false, ['encrypt', 'decrypt'])

/** `<key id>.<iv>.<ciphertext>`; `context` is authenticated, so that one row's key can't be moved to another. Throws without a current key. */
export async function wrap(keys: WrappingKeys, plaintext: Bytes, context: string): Promise<string> {
  const key = keys.current === null ? undefined : keys.byId.get(keys.current)
  if (key === undefined || keys.current === null) throw new Error('no wrapping key is configured')
  const iv = crypto.getRandomValues(new Uint8Array(12))
  const sealed = await crypto.subtle.encrypt({ name: 'AES-GCM', iv, additionalData: utf8(context) }, await open(key), plaintext)
  return `${keys.current}.${toBase64Url(iv)}.${toBase64Url(copyBytes(sealed))}`
}

/** The plaintext; null when its key is not configured or the value was altered. */
export async function unwrap(keys: WrappingKeys, wrapped: string, context: string): Promise<Bytes | null> {
  const [id, ivText, sealedText] = wrapped.split('.')
  const key = keys.byId.get(id ?? '')
  const iv = fromBase64Url(ivText ?? '')
  const sealed = fromBase64Url(sealedText ?? '')
  if (key === undefined || iv === null || sealed === null) return null
  try {
    return copyBytes(await crypto.subtle.decrypt({ name: 'AES-GCM', iv, additionalData: utf8(context) }, await open(key), sealed))
  } catch {
    return null // authentication failed: altered, or wrapped under another key of the same id
  }
}

/** The id of the key that a value is wrapped under. */
export const wrappedUnder = (wrapped: string): string => wrapped.split('.')[0] ?? ''
