// Public keys of SSH as OpenSSH writes them: read strictly, by shape. Whether one is good for anything is cryptography's to say.
import { WireReader } from './ssh-wire.ts'

export interface SshKey {
  readonly type: string
  /** As it stands on the wire. */
  readonly blob: Uint8Array
}

/** Types that are taken: how many strings make the key, and in which of them a length is fixed. */
const shapes: Readonly<Record<string, { readonly fields: number; readonly lengths: Readonly<Record<number, number>>; readonly curve?: string }>> = {
  'ssh-ed25519': { fields: 1, lengths: { 0: 32 } },
  'ssh-rsa': { fields: 2, lengths: {} },
  'ecdsa-sha2-nistp256': { fields: 2, lengths: { 1: 65 }, curve: 'nistp256' },
  'ecdsa-sha2-nistp384': { fields: 2, lengths: { 1: 97 }, curve: 'nistp384' },
  'ecdsa-sha2-nistp521': { fields: 2, lengths: { 1: 133 }, curve: 'nistp521' },
  'sk-ssh-ed25519@openssh.com': { fields: 2, lengths: { 0: 32 } },
  'sk-ecdsa-sha2-nistp256@openssh.com': { fields: 3, lengths: { 1: 65 }, curve: 'nistp256' },
}
const CERTIFICATE = '-cert-v01@openssh.com'

/** The type of a certificate for a key of that type. */
export const certificateType = (type: string): string => `${type.replace('@openssh.com', '')}${CERTIFICATE}`
/** The type of the key in a certificate of that type; null: it is no certificate's. */
export function certifiedType(type: string): string | null {
  if (!type.endsWith(CERTIFICATE)) return null
  const bare = type.slice(0, -CERTIFICATE.length)
  return bare.startsWith('sk-') ? `${bare}@openssh.com` : bare
}

/** The strings that make a key of that type, from where a reader stands; null when they are not of its shape. */
export function readKeyFields(type: string, reader: WireReader): readonly Uint8Array[] | null {
  const shape = Object.hasOwn(shapes, type) ? shapes[type] : undefined
  if (shape === undefined) return null
  const fields = Array.from({ length: shape.fields }, () => reader.string())
  const fits = fields.every((field, at) => field.length > 0 && field.length <= 2_049 && (shape.lengths[at] ?? field.length) === field.length)
  const curve = shape.curve === undefined || String.fromCharCode(...fields[0] ?? []) === shape.curve
  return reader.failed || !fits || !curve ? null : fields
}

/** Reads a key as it stands on the wire; null when it is none that is taken, or has anything behind it. */
export function readKeyBlob(blob: Uint8Array): { readonly type: string; readonly fields: readonly Uint8Array[] } | null {
  const reader = new WireReader(blob)
  const type = reader.text()
  const fields = readKeyFields(type, reader)
  return fields === null || !reader.isDone ? null : { type, fields }
}

/** The key of a line like `ssh-ed25519 AAAA… comment`; null when it is none. */
export function readKeyLine(text: string): SshKey | null {
  const [, type = '', base64 = ''] = /^(\S+) ([A-Za-z0-9+/]+={0,2})(?: .*)?$/.exec(text) ?? []
  if (base64.length === 0 || base64.length % 4 !== 0 || base64.length > 4_096) return null
  const blob = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))
  return readKeyBlob(blob)?.type === type ? { type, blob } : null
}

/** The line of a key, without a comment. */
export const keyLine = (type: string, blob: Uint8Array): string => `${type} ${btoa(String.fromCharCode(...blob))}`
