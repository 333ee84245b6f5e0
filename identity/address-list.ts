// Signed address lists, both halves: JWS compact with ES256 by a gateway's key, its certificate in `x5c`. A gateway vouches for its own sight and for nothing else.
import { CompactSign, compactVerify } from 'jose'
import { addressList, type AddressList } from '../protocol/address-list.ts'
import { verifyCertificate, type TrustedAuthority } from './certificate.ts'
import type { Signer } from './document.ts'
import { toBase64, utf8 } from './encoding.ts'
import { importPublicKey } from './keys.ts'
import { parseJson, readSigner } from './jws.ts'

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
