// Certificates of OpenSSH (PROTOCOL.certkeys), written for users and read of hosts. Who gets one, and which is believed, is decided elsewhere.
import { certificateType, certifiedType, readKeyBlob, readKeyFields, type SshKey } from '../../domain/access/ssh-key.ts'
import { joined, string, strings, uint32, uint64, WireReader } from '../../domain/access/ssh-wire.ts'

export const USER_CERTIFICATE = 1
export const HOST_CERTIFICATE = 2

export interface UserCertificate {
  readonly key: SshKey
  readonly serial: bigint
  /** What sshd writes into its log. */
  readonly keyId: string
  readonly principals: readonly string[]
  /** Seconds since the epoch; good from the first and before the second. */
  readonly validAfter: number
  readonly validBefore: number
  readonly sourceAddresses: readonly string[]
  readonly forceCommand: string | null
  readonly extensions: readonly string[]
}

export interface Signer {
  /** The CA's public key on the wire. */
  readonly blob: Uint8Array
  /** @returns a signature as SSH writes it */
  sign(data: Uint8Array): Uint8Array
}

/** Options and extensions stand in the order of their names, each once. */
function options({ sourceAddresses, forceCommand }: UserCertificate): Uint8Array {
  const command = forceCommand === null ? [] : [string('force-command'), string(string(forceCommand))]
  const sources = sourceAddresses.length === 0 ? [] : [string('source-address'), string(string(sourceAddresses.join(',')))]
  return string(joined([...command, ...sources]))
}

/** A signed certificate as it stands on the wire. @param nonce 32 random bytes: what is signed must not be known before */
export function signUserCertificate(certificate: UserCertificate, nonce: Uint8Array, signer: Signer): SshKey {
  const { key, serial, keyId, principals, validAfter, validBefore, extensions } = certificate
  const type = certificateType(key.type)
  const fields = readKeyBlob(key.blob)?.fields
  if (fields === undefined) throw new Error(`there are no certificates for keys of type ${key.type}`)
  const signed = joined([
    string(type), string(nonce), ...fields.map(string), uint64(serial), uint32(USER_CERTIFICATE), string(keyId), strings(principals), uint64(BigInt(validAfter)), uint64(BigInt(validBefore)),
    options(certificate), string(joined([...new Set(extensions)].sort().flatMap((name) => [string(name), string('')]))), string(''), string(signer.blob),
  ])
  return { type, blob: joined([signed, string(signer.sign(signed))]) }
}

export interface ReadCertificate {
  /** The key that it certifies, as it stands on the wire without a certificate. */
  readonly key: SshKey
  readonly kind: number
  readonly principals: readonly string[]
  readonly validAfter: bigint
  readonly validBefore: bigint
  readonly hasCriticalOptions: boolean
  /** The CA's key, what it signed, and the signature: nothing above counts before that is verified. */
  readonly authority: Uint8Array
  readonly signed: Uint8Array
  readonly signature: Uint8Array
}

/** Reads a certificate; null when the bytes are not one in whole. */
export function readSshCertificate(blob: Uint8Array): ReadCertificate | null {
  const reader = new WireReader(blob)
  const type = certifiedType(reader.text())
  if (type === null) return null
  reader.string()
  const fields = readKeyFields(type, reader)
  if (fields === null) return null
  reader.uint64()
  const kind = reader.uint32()
  reader.string()
  const principals = reader.strings()
  const [validAfter, validBefore] = [reader.uint64(), reader.uint64()]
  const hasCriticalOptions = reader.string().length > 0
  reader.string()
  reader.string()
  const authority = reader.string()
  const signed = blob.subarray(0, reader.at)
  const signature = reader.string()
  if (!reader.isDone || principals === null) return null
  return { key: { type, blob: joined([string(type), ...fields.map(string)]) }, kind, principals, validAfter, validBefore, hasCriticalOptions, authority, signed, signature }
}
