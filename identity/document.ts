// Signed documents, both halves: JWS compact (RFC 7515) with ES256 and the signing certificate in `x5c`.
import { CompactSign, compactVerify } from 'jose'
import { z } from 'zod'
import { documentBodies, type DocumentKind, type DocumentPayload } from '../protocol/documents.ts'
import { verifyCertificate, type TrustedAuthority } from './certificate.ts'
import { toBase64, utf8, type Bytes } from './encoding.ts'
import { importPublicKey } from './keys.ts'
import { parseJson, readSigner } from './jws.ts'

/** The key that signs documents and the certificate by which a CA introduces it. */
export interface Signer { readonly privateKey: CryptoKey; readonly certificateDer: Bytes }

const typeOf = (kind: DocumentKind) => `sallyport-${kind}+jws`

/** Signs a document addressed to one UID or serial; `version` is the signer's instant in ms. */
export async function signDocument<K extends DocumentKind>(payload: DocumentPayload<K>, signer: Signer): Promise<string> {
  return await new CompactSign(utf8(JSON.stringify(payload)))
    .setProtectedHeader({ alg: 'ES256', typ: typeOf(payload.kind), x5c: [toBase64(signer.certificateDer)] })
    .sign(signer.privateKey)
}

export type DocumentRefusal = 'malformed' | 'foreign' | 'altered' | 'wrong-kind' | 'misaddressed' | 'older'
export type OpenedDocument<K extends DocumentKind> = { readonly ok: true; readonly payload: DocumentPayload<K> } | { readonly ok: false; readonly reason: DocumentRefusal }

const envelope = z.object({ kind: z.string(), to: z.string(), version: z.number().int(), body: z.unknown() })

/**
 * Opens a document: signer introduced by one of our CAs for signing, signature, kind, address, age, shape, in this order.
 * @param now ms; the signing certificate must be valid then
 * @param newerThan ms: a document that is not newer than this is `older`
 */
export async function openDocument<K extends DocumentKind>(
  jws: string, wanted: { kind: K; to: string; authorities: readonly TrustedAuthority[]; now: number; newerThan?: number },
): Promise<OpenedDocument<K>> {
  const certificate = readSigner(jws)
  if (certificate === null) return { ok: false, reason: 'malformed' }
  const introduced = await verifyCertificate(certificate, wanted.authorities, wanted.now, 'signing')
  if (!introduced.ok) return { ok: false, reason: 'foreign' }
  const verified = await compactVerify(jws, await importPublicKey(certificate.publicKeySpki), { algorithms: ['ES256'] }).catch(() => null)
  if (verified === null) return { ok: false, reason: 'altered' }
  const said = envelope.safeParse(parseJson(new TextDecoder().decode(verified.payload)))
  if (!said.success) return { ok: false, reason: 'malformed' }
  // The header's type and the payload's kind are both signed; both must be what was asked for (RFC 8725 §3.11).
  if (verified.protectedHeader.typ !== typeOf(wanted.kind) || said.data.kind !== wanted.kind) return { ok: false, reason: 'wrong-kind' }
  if (said.data.to !== wanted.to) return { ok: false, reason: 'misaddressed' }
  if (said.data.version <= (wanted.newerThan ?? -1)) return { ok: false, reason: 'older' }
  const body = documentBodies[wanted.kind].safeParse(said.data.body)
  if (!body.success) return { ok: false, reason: 'malformed' }
  return { ok: true, payload: { kind: wanted.kind, to: said.data.to, version: said.data.version, body: body.data as DocumentPayload<K>['body'] } }
}
