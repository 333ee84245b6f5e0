// The list of revoked certificates (CRL, RFC 5280 §5), for whoever does not ask the EMS. What is revoked is for the records to say.
import { readCertificate } from './certificate.ts'
import type { Authority } from './authority.ts'
import { copyBytes, type Bytes } from './encoding.ts'
import { importPublicKey, SIGNING_ALGORITHM } from './keys.ts'
import * as x509 from './x509.ts'

/** A list is good for so long; a newer one is made long before. */
export const LIST_HOURS = 24
const CRL_NUMBER = '2.5.29.20'

export interface RevokedCertificate {
  /** 40 upper-case hex digits. */
  readonly serial: string
  /** ms. */
  readonly at: number
}

/** DER INTEGER of a positive number. */
function derInteger(value: number): Bytes {
  const hex = value.toString(16)
  const bytes = (hex.padStart(hex.length + hex.length % 2, '0').match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16))
  const body = (bytes[0] ?? 0) > 0x7f ? [0, ...bytes] : bytes
  return Uint8Array.from([0x02, body.length, ...body])
}

/**
 * Signs a list, DER. It may name serials that another CA issued: they are random, and name nobody of this one.
 * @param now ms; later lists have greater numbers
 */
export async function createRevocationList({ authority, revoked, now }: { authority: Authority; revoked: readonly RevokedCertificate[]; now: number }): Promise<Bytes> {
  const info = readCertificate(authority.certificatePem)
  if (info === null) throw new Error('the CA certificate can not be read')
  const list = await x509.X509CrlGenerator.create({
    issuer: new x509.X509Certificate(authority.certificatePem).subjectName,
    thisUpdate: new Date(now), nextUpdate: new Date(now + LIST_HOURS * 3_600_000), signingAlgorithm: SIGNING_ALGORITHM, signingKey: authority.privateKey,
    entries: revoked.map(({ serial, at }) => ({ serialNumber: serial, revocationDate: new Date(at) })),
    extensions: [await x509.AuthorityKeyIdentifierExtension.create(await importPublicKey(info.publicKeySpki)), new x509.Extension(CRL_NUMBER, false, derInteger(Math.floor(now / 1000)))],
  })
  return copyBytes(list.rawData)
}
