// Reading certificates and deciding whether one is ours, in time, and for the purpose. Revocation is a question for the record, not for this room.
import { purposeOids, type Purpose } from '../protocol/certificates.ts'
import { copyBytes, toPem, type Bytes } from './encoding.ts'
import { importPublicKey, SIGNING_ALGORITHM, sha256Hex } from './keys.ts'
import * as x509 from './x509.ts'

/** What we read from a certificate; nothing of it is believed before {@link verifyCertificate}. */
export interface CertificateInfo {
  readonly der: Bytes
  /** 40 upper-case hex digits. */
  readonly serial: string
  readonly commonName: string
  /** null: none of ours, or more than one. */
  readonly purpose: Purpose | null
  readonly notBefore: number
  readonly notAfter: number
  readonly publicKeySpki: Bytes
  /** Key identifier of the CA that claims to have issued it; empty when it does not say. */
  readonly authorityKeyId: string
  readonly isAuthority: boolean
}

/** A CA that is believed, with its key imported once. */
export interface TrustedAuthority {
  readonly certificatePem: string
  readonly pin: string
  readonly keyId: string
  readonly notAfter: number
  readonly key: CryptoKey
}

const MAX_CERTIFICATE_BYTES = 4096
/** Serial as we write it: 20 bytes, the leading zero of DER's sign bit put back. */
export const serialHex = (serial: string): string => serial.replace(/^0+(?=.{40})/, '').toUpperCase().padStart(40, '0')

const parse = (input: string | Uint8Array): x509.X509Certificate | null => {
  try {
    return new x509.X509Certificate(typeof input === 'string' ? input : copyBytes(input))
  } catch {
    return null // not a certificate: an expected outcome for what a stranger sends
  }
}

/** The library writes arcs above 2^53 rightly but reads them back as hex; so a purpose is compared in the form it reads. */
const asRead = (oid: string): string => String(new x509.ExtendedKeyUsageExtension(new x509.ExtendedKeyUsageExtension([oid]).rawData).usages[0])
const purposesAsRead = new Map((Object.keys(purposeOids) as Purpose[]).map((purpose) => [asRead(purposeOids[purpose]), purpose]))

const purposeOf = (certificate: x509.X509Certificate): Purpose | null => {
  const usages: string[] = (certificate.getExtension(x509.ExtendedKeyUsageExtension)?.usages ?? []).map(String)
  const ours = usages.map((usage) => purposesAsRead.get(usage)).filter((purpose) => purpose !== undefined)
  return ours.length === 1 ? ours[0] ?? null : null
}

/** Reads a certificate (DER or PEM); null when it is none, is too large, or is not on P-256. */
export function readCertificate(input: string | Uint8Array): CertificateInfo | null {
  if (input.length > (typeof input === 'string' ? 2 : 1) * MAX_CERTIFICATE_BYTES) return null
  const certificate = parse(input)
  if (certificate === null) return null
  try {
    const names = certificate.subjectName.getField('CN')
    const spki = copyBytes(certificate.publicKey.rawData)
    return {
      der: copyBytes(certificate.rawData), serial: serialHex(certificate.serialNumber),
      commonName: names.length === 1 ? names[0] ?? '' : '', purpose: purposeOf(certificate),
      notBefore: certificate.notBefore.getTime(), notAfter: certificate.notAfter.getTime(), publicKeySpki: spki,
      authorityKeyId: certificate.getExtension(x509.AuthorityKeyIdentifierExtension)?.keyId?.toLowerCase() ?? '',
      isAuthority: certificate.getExtension(x509.BasicConstraintsExtension)?.ca ?? false,
    }
  } catch {
    return null // the outer shape parsed, an extension or name did not: as hostile as the rest
  }
}

/** Makes a CA certificate one that is believed. Throws when it is none: it comes from our own store or a verified document. */
export async function trustAuthority(pem: string): Promise<TrustedAuthority> {
  const certificate = parse(pem)
  const info = certificate === null ? null : readCertificate(pem)
  if (certificate === null || info === null || !info.isAuthority) throw new Error('not a CA certificate')
  const keyId = certificate.getExtension(x509.SubjectKeyIdentifierExtension)?.keyId.toLowerCase() ?? ''
  return { certificatePem: toPem('CERTIFICATE', info.der), pin: await sha256Hex(info.der), keyId, notAfter: info.notAfter, key: await importPublicKey(info.publicKeySpki) }
}

export type CertificateVerdict = { readonly ok: true } | { readonly ok: false; readonly reason: 'foreign' | 'not-yet-valid' | 'expired' | 'wrong-purpose' }

/** Which of our CAs signed it: against the CA's imported key, which is three times as fast as building a chain. null: none that has not ended. */
async function issuerOf(info: CertificateInfo, authorities: readonly TrustedAuthority[], now: number): Promise<TrustedAuthority | null> {
  const certificate = parse(info.der)
  if (certificate === null || info.isAuthority) return null
  for (const authority of authorities) {
    if (authority.notAfter <= now || (info.authorityKeyId !== '' && info.authorityKeyId !== authority.keyId)) continue
    try {
      if (await certificate.verify({ publicKey: authority.key, signatureOnly: true })) return authority
    } catch {
      continue // a signature of another algorithm or shape is not this CA's
    }
  }
  return null
}

/**
 * Chain, dates and purpose of a certificate.
 * @param now ms
 * @param graceMs how long after its end it still passes (renewal only)
 */
export async function verifyCertificate(
  info: CertificateInfo, authorities: readonly TrustedAuthority[], now: number, purposes: Purpose | readonly Purpose[], options: { graceMs?: number; cache?: VerifiedLeaves } = {},
): Promise<CertificateVerdict> {
  const fingerprint = options.cache === undefined ? '' : await sha256Hex(info.der)
  if (!(options.cache?.has(fingerprint, authorities, now) ?? false)) {
    const issuer = await issuerOf(info, authorities, now)
    if (issuer === null) return { ok: false, reason: 'foreign' }
    options.cache?.add(fingerprint, info, issuer.pin)
  }
  if (now < info.notBefore) return { ok: false, reason: 'not-yet-valid' }
  if (now >= info.notAfter + (options.graceMs ?? 0)) return { ok: false, reason: 'expired' }
  const allowed = typeof purposes === 'string' ? [purposes] : purposes
  return info.purpose !== null && allowed.includes(info.purpose) ? { ok: true } : { ok: false, reason: 'wrong-purpose' }
}

/** Remembers leaves that a CA was found to have signed, and what was read of them. Dates and purpose are checked on every use, and so is that CA: it must still be trusted and not have ended. */
export class VerifiedLeaves {
  readonly #leaves = new Map<string, { readonly info: CertificateInfo; readonly pin: string }>()
  readonly #limit: number

  constructor(limit = 2_000) {
    this.#limit = limit
  }

  /** What was read of the certificate with this fingerprint (SHA-256 of its DER): reading it anew is a third of the price of a signed request. It says nothing about whether it is valid. */
  info(fingerprint: string): CertificateInfo | null { return this.#leaves.get(fingerprint)?.info ?? null }

  has(fingerprint: string, authorities: readonly TrustedAuthority[], now: number): boolean {
    const pin = this.#leaves.get(fingerprint)?.pin
    return pin !== undefined && authorities.some((authority) => authority.pin === pin && authority.notAfter > now)
  }

  /** @param pin of the CA that signed it */
  add(fingerprint: string, info: CertificateInfo, pin: string): void {
    if (this.#leaves.size >= this.#limit) this.#leaves.clear()
    this.#leaves.set(fingerprint, { info, pin })
  }
}

/** Verifies a signature (IEEE P1363) made with the key of a certificate. */
export async function verifyWithKey(spki: Bytes, data: Bytes, signature: Bytes): Promise<boolean> {
  return await crypto.subtle.verify(SIGNING_ALGORITHM, await importPublicKey(spki), signature, data)
}
