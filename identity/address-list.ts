// Signed address lists, both halves: JWS compact with ES256 by a gateway's key, its certificate in `x5c`. A gateway vouches for its own sight and for nothing else.
import { CompactSign, compactVerify, decodeProtectedHeader } from 'jose'
import { addressList, type AddressList } from '../protocol/address-list.ts'
import { readCertificate, verifyCertificate, type TrustedAuthority } from './certificate.ts'
import type { Signer } from './document.ts'
import { fromBase64, toBase64, utf8 } from './encoding.ts'
import { importPublicKey } from './keys.ts'

/** Not a document of the EMS: the type alone keeps one from being taken for the other (RFC 8725 §3.11). */
const TYPE = 'sallyport-address-list+jws'

export const signAddressList = (list: AddressList, signer: Signer): Promise<string> => new CompactSign(utf8(JSON.stringify(list)))
  .setProtectedHeader({ alg: 'ES256', typ: TYPE, x5c: [toBase64(signer.certificateDer)] })
  .sign(signer.privateKey)

export type OpenedAddressList = { readonly ok: true; readonly list: AddressList } | { readonly ok: false; readonly reason: 'malformed' | 'foreign' | 'altered' | 'expired' }

/** Opens a list: signed by a gateway that one of our CAs certified, about that gateway's own sight, not altered, not past its end. @param now ms */
export async function openAddressList(jws: string, { authorities, now }: { authorities: readonly TrustedAuthority[]; now: number }): Promise<OpenedAddressList> {
  const certificate = readSigner(jws)
  if (certificate === null) return { ok: false, reason: 'malformed' }
  const introduced = await verifyCertificate(certificate, authorities, now, 'gateway')
  if (!introduced.ok) return { ok: false, reason: 'foreign' }
  const verified = await compactVerify(jws, await importPublicKey(certificate.publicKeySpki), { algorithms: ['ES256'] }).catch(() => null)
  if (verified === null) return { ok: false, reason: 'altered' }
  const read = addressList.safeParse(parseJson(new TextDecoder().decode(verified.payload)))
  if (!read.success || verified.protectedHeader.typ !== TYPE) return { ok: false, reason: 'malformed' }
  if (read.data.gateway !== certificate.commonName) return { ok: false, reason: 'foreign' }
  return now < read.data.until ? { ok: true, list: read.data } : { ok: false, reason: 'expired' }
}

function readSigner(jws: string) {
  try {
    const { x5c } = decodeProtectedHeader(jws)
    const der = x5c?.length === 1 ? fromBase64(x5c[0] ?? '') : null
    return der === null ? null : readCertificate(der)
  } catch {
    return null // not a JWS
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null // signed, but not JSON: malformed
  }
}
