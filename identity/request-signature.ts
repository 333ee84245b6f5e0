// Signed requests (RFC 9421): making one and checking one. Who the caller is in our records is not asked here.
import { createSignature, isSignatureError, verifySignature } from 'http-message-sig'
import type { Purpose } from '../protocol/certificates.ts'
import type { FaultCode } from '../protocol/faults.ts'
import { CERTIFICATE_HEADER, KEY_HEADER, MAX_SIGNATURE_HEADER_BYTES, MAX_SKEW_SECONDS, SIGNATURE_ALGORITHM, SIGNATURE_TAG, SIGNED_COMPONENTS } from '../protocol/signature.ts'
import { readCertificate, verifyCertificate, type CertificateInfo, type TrustedAuthority, type VerifiedLeaves } from './certificate.ts'
import { copyBytes, fromBase64, toBase64, toBase64Url, type Bytes } from './encoding.ts'
import { importPublicKey, publicKeyHash, SIGNING_ALGORITHM, sha256, sha256Hex } from './keys.ts'

const LABEL = 'sallyport'
/** The library's own window is opened wide: ours is checked after the signature, so that a wrong clock is told apart from a forgery. */
const CENTURY_SECONDS = 3_155_760_000
const componentsFor = (bareKey: boolean) => SIGNED_COMPONENTS.map((name) => (bareKey && name === CERTIFICATE_HEADER ? KEY_HEADER : name))
const byteSequence = (bytes: Uint8Array) => `:${toBase64(bytes)}:`
/** RFC 9530 Content-Digest of a body; the empty body has one too, so that a body can't be added. */
const contentDigest = async (body: Bytes) => `sha-256=${byteSequence(await sha256(body))}`

export interface ToSign {
  readonly method: string
  readonly url: string
  readonly body: Bytes
  readonly privateKey: CryptoKey
  /** The caller's certificate; or, on joining only, its bare public key. */
  readonly certificateDer?: Bytes
  readonly spkiDer?: Bytes
  /** ms, by the EMS clock as the caller knows it. */
  readonly now: number
}

/** The headers that make a request a signed one. */
export async function signRequest(request: ToSign): Promise<Record<string, string>> {
  const credential = request.certificateDer ?? request.spkiDer
  if (credential === undefined) throw new Error('a certificate or a key is needed to sign with')
  const bareKey = request.certificateDer === undefined
  const headers: Record<string, string> = {
    'content-digest': await contentDigest(request.body), [bareKey ? KEY_HEADER : CERTIFICATE_HEADER]: byteSequence(credential),
  }
  const { signature, signatureInput } = await createSignature(describe(request.method, request.url, Object.entries(headers)), {
    label: LABEL, components: componentsFor(bareKey),
    parameters: {
      created: Math.floor(request.now / 1000), nonce: toBase64Url(crypto.getRandomValues(new Uint8Array(16))),
      keyid: await sha256Hex(credential), alg: SIGNATURE_ALGORITHM, tag: SIGNATURE_TAG,
    },
    signer: { algorithm: SIGNATURE_ALGORITHM, sign: async (data) => copyBytes(await crypto.subtle.sign(SIGNING_ALGORITHM, request.privateKey, copyBytes(data))) },
  })
  return { ...headers, signature, 'signature-input': signatureInput }
}

const describe = (method: string, url: string, fields: [string, string][]) =>
  ({ kind: 'request' as const, method, targetUri: url, fields: fields.map(([name, value]) => ({ name, value })) })

/** Who signed, as far as cryptography tells. */
export interface SignedCaller {
  /** CN of the certificate: a UID or a gateway serial; empty with a bare key. */
  readonly commonName: string
  readonly serial: string
  readonly purpose: Purpose | null
  readonly certificate: CertificateInfo | null
  readonly publicKeySpki: Bytes
  readonly publicKeyHash: string
  readonly keyId: string
  readonly nonce: string
  /** ms */
  readonly created: number
}
/** `foreign`: none of the CAs that were given issued the certificate; a newer one may have. */
export type SignatureVerdict = { readonly ok: true; readonly caller: SignedCaller } | { readonly ok: false; readonly code: FaultCode; readonly message: string; readonly foreign?: boolean }
const refuse = (code: FaultCode, message: string, foreign = false): SignatureVerdict => ({ ok: false, code, message, foreign })

export interface ToVerify {
  readonly method: string
  readonly url: string
  readonly headers: Headers
  /** The body as read: what was signed is compared with this, never with what was parsed. As a function it is called when the signature holds: a stranger's body is not read. */
  readonly body: Bytes | (() => Promise<Bytes>)
  readonly now: number
  readonly authorities: readonly TrustedAuthority[]
  readonly cache?: VerifiedLeaves
  readonly purposes: readonly Purpose[]
  /** How long after its end a certificate still signs (renewal). */
  readonly acceptsExpiredMs?: number
  /** Joining: signed by a key that has no certificate yet. */
  readonly bareKey?: boolean
}

/**
 * Checks a signed request in this order: size, one credential, chain and purpose, signature, window, and of the body, which is then read, the digest.
 * Several signatures, several labels, or a component missing from the cover are refused.
 */
export async function verifyRequest(request: ToVerify): Promise<SignatureVerdict> {
  const bareKey = request.bareKey ?? false
  const credentialName = bareKey ? KEY_HEADER : CERTIFICATE_HEADER
  const fields = ['signature', 'signature-input', credentialName, 'content-digest'].map((name): [string, string | null] => [name, request.headers.get(name)])
  if (fields.some(([, value]) => value === null)) return refuse('unsigned', 'The request must be signed (RFC 9421).')
  const given = fields as [string, string][]
  if (given.reduce((total, [, value]) => total + value.length, 0) > MAX_SIGNATURE_HEADER_BYTES) return refuse('bad_signature', 'The signature headers are too large.')
  const credential = readByteSequence(request.headers.get(credentialName) ?? '')
  if (credential === null) return refuse('bad_certificate', `${credentialName} must be one byte sequence.`)

  const keyId = await sha256Hex(credential)
  const certificate = bareKey ? null : request.cache?.info(keyId) ?? readCertificate(credential)
  if (!bareKey) {
    if (certificate === null) return refuse('bad_certificate', 'The certificate can not be read.')
    const verdict = await verifyCertificate(certificate, request.authorities, request.now, request.purposes, { graceMs: request.acceptsExpiredMs ?? 0, cache: request.cache })
    if (!verdict.ok) {
      const [code, message] = certificateRefusals[verdict.reason]
      return refuse(code, message, verdict.reason === 'foreign')
    }
  }
  const publicKeySpki = certificate?.publicKeySpki ?? credential
  const key = await importPublicKey(publicKeySpki).catch(() => null)
  if (key === null) return refuse('bad_certificate', 'The key must be on P-256.')

  const signed = await checkSignature(request, given, componentsFor(bareKey), keyId, key)
  if ('ok' in signed) return signed
  if (Math.abs(request.now - signed.created) > MAX_SKEW_SECONDS * 1000) return refuse('clock_skew', 'The signature was not made within 60 s of the EMS clock.')
  const body = typeof request.body === 'function' ? await request.body() : request.body
  if (request.headers.get('content-digest') !== await contentDigest(body)) return refuse('bad_digest', 'The body is not the one that was signed.')
  return {
    ok: true,
    caller: { commonName: certificate?.commonName ?? '', serial: certificate?.serial ?? '', purpose: certificate?.purpose ?? null, certificate, publicKeySpki, publicKeyHash: await publicKeyHash(publicKeySpki), keyId, ...signed },
  }
}

const certificateRefusals = {
  'foreign': ['bad_certificate', 'The certificate was not issued by this EMS.'],
  'not-yet-valid': ['bad_certificate', 'The certificate is not valid yet.'],
  'expired': ['certificate_expired', 'The certificate has expired; renew it.'],
  'wrong-purpose': ['wrong_purpose', 'The certificate is not for this purpose.'],
} as const satisfies Record<string, readonly [FaultCode, string]>

async function checkSignature(request: ToVerify, fields: [string, string][], components: readonly string[], keyId: string, key: CryptoKey): Promise<{ created: number; nonce: string } | Extract<SignatureVerdict, { ok: false }>> {
  try {
    const verified = await verifySignature(describe(request.method, request.url, fields), {
      label: LABEL,
      policy: { algorithms: [SIGNATURE_ALGORITHM], requiredComponents: components, requiredParameters: ['created', 'nonce', 'keyid', 'tag'], now: Math.floor(request.now / 1000), clockSkew: CENTURY_SECONDS },
      resolveVerifier: () => ({ algorithm: SIGNATURE_ALGORITHM, verify: async (data, signature) => signature.length === 64 && await crypto.subtle.verify(SIGNING_ALGORITHM, key, copyBytes(signature), copyBytes(data)) }),
    })
    const { created, nonce, keyid, tag } = verified.parameters
    if (keyid !== keyId || tag !== SIGNATURE_TAG || typeof created !== 'number' || nonce === undefined || nonce.length < 16 || nonce.length > 64) {
      return { ok: false, code: 'bad_signature', message: 'The signature parameters are not those of this protocol.' }
    }
    return { created: created * 1000, nonce }
  } catch (cause) {
    if (!isSignatureError(cause)) throw cause
    return { ok: false, code: 'bad_signature', message: `The signature does not verify (${cause.code}).` }
  }
}

/** One RFC 9651 byte sequence. Two headers of the name arrive joined by a comma, which is no base64. */
const readByteSequence = (value: string): Bytes | null => (/^:[A-Za-z0-9+/=]+:$/.test(value) ? fromBase64(value.slice(1, -1)) : null)
