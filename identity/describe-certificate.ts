// What any certificate says of itself, ours or not, for people and rules. Nothing of it is verified here.
import { copyBytes } from './encoding.ts'
import { sha256Hex } from './keys.ts'
import * as x509 from './x509.ts'

export interface DescribedCertificate {
  /** SHA-256 of the DER, hex. */
  readonly fingerprint: string
  /** Attributes joined by `, ` in the certificate's order: `C=DE, O=Example, CN=laptop`. */
  readonly subject: string
  readonly issuer: string
  /** ms */
  readonly notBefore: number
  readonly notAfter: number
  /** Names of RFC 5280: `digitalSignature`, `keyCertSign`; extended ones as `clientAuth` or a dotted OID. */
  readonly keyUsage: readonly string[]
  /** SHA-256 of the public key's SPKI, hex. */
  readonly keyFingerprint: string
}

const MAX_BYTES = 64 * 1024
/** In the order of their bits (RFC 5280, 4.2.1.3). */
const usageNames = ['digitalSignature', 'nonRepudiation', 'keyEncipherment', 'dataEncipherment', 'keyAgreement', 'keyCertSign', 'cRLSign', 'encipherOnly', 'decipherOnly'] as const
const extendedNames = new Map<string, string>([
  ['1.3.6.1.5.5.7.3.1', 'serverAuth'], ['1.3.6.1.5.5.7.3.2', 'clientAuth'], ['1.3.6.1.5.5.7.3.3', 'codeSigning'], ['1.3.6.1.5.5.7.3.4', 'emailProtection'],
  ['1.3.6.1.5.5.7.3.8', 'timeStamping'], ['1.3.6.1.5.5.7.3.9', 'OCSPSigning'], ['2.5.29.37.0', 'anyExtendedKeyUsage'],
])

/** Reads a certificate (DER or PEM), of whatever key; null when it is none. */
export async function describeCertificate(input: string | Uint8Array): Promise<DescribedCertificate | null> {
  if (input.length > MAX_BYTES * (typeof input === 'string' ? 2 : 1)) return null
  let read
  try {
    const certificate = new x509.X509Certificate(typeof input === 'string' ? input : copyBytes(input))
    const usages: number = certificate.getExtension(x509.KeyUsagesExtension)?.usages ?? 0
    const extended = (certificate.getExtension(x509.ExtendedKeyUsageExtension)?.usages ?? []).map(String)
    read = {
      subject: certificate.subject, issuer: certificate.issuer, notBefore: certificate.notBefore.getTime(), notAfter: certificate.notAfter.getTime(),
      keyUsage: [...usageNames.filter((_, bit) => (usages & (1 << bit)) !== 0), ...extended.map((oid) => extendedNames.get(oid) ?? oid)],
      der: copyBytes(certificate.rawData), spki: copyBytes(certificate.publicKey.rawData),
    }
  } catch {
    return null // not a certificate, or one with a name or extension that is none: somebody else's file
  }
  const { der, spki, ...said } = read
  return { ...said, fingerprint: await sha256Hex(der), keyFingerprint: await sha256Hex(spki) }
}
