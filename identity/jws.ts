// What every signed text of ours has in common: a JWS (RFC 7515) that brings its signer's certificate. It verifies nothing.
import { decodeProtectedHeader } from 'jose'
import { readCertificate, type CertificateInfo } from './certificate.ts'
import { fromBase64 } from './encoding.ts'

/** The certificate of whoever signed, by the header's `x5c`; null: there is none that can be read. It is not believed before it is verified. */
export function readSigner(jws: string): CertificateInfo | null {
  try {
    const { x5c } = decodeProtectedHeader(jws)
    const der = x5c?.length === 1 ? fromBase64(x5c[0] ?? '') : null
    return der === null ? null : readCertificate(der)
  } catch {
    return null // not a JWS
  }
}

/** null: no JSON, which the caller refuses as malformed. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null // signed, but not JSON: malformed
  }
}
