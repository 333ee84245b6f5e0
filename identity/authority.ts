// The certificate authority: makes a CA and issues certificates, every field explicit. It stores nothing.
import { gatewayTlsName, purposeOids, type Purpose } from '../protocol/certificates.ts'
import { copyBytes, toHex, toPem, type Bytes } from './encoding.ts'
import { generateKey, KEY_ALGORITHM, publicKeyHash, SIGNING_ALGORITHM, sha256Hex } from './keys.ts'
import * as x509 from './x509.ts'

const DAY = 86_400_000
const AUTHORITY_DAYS = 3650
/** Clocks of laptops run behind: a certificate must be valid where it is a few minutes earlier. */
const BACKDATED = 5 * 60_000
/** Default life of a leaf; renewed at two thirds. */
export const LEAF_DAYS = 30
const SERVER_AUTH = x509.ExtendedKeyUsage.serverAuth
const CLIENT_AUTH = x509.ExtendedKeyUsage.clientAuth

export interface Authority {
  readonly certificatePem: string
  readonly certificateDer: Bytes
  /** SHA-256 of the DER, hex: what invitations carry. */
  readonly pin: string
  readonly privateKey: CryptoKey
  readonly notAfter: number
}
export interface IssuedCertificate {
  readonly pem: string
  readonly der: Bytes
  readonly serial: string
  readonly notBefore: number
  readonly notAfter: number
  /** SHA-256 of the DER, hex. */
  readonly fingerprint: string
  readonly publicKeyHash: string
}

/** 20 random bytes with the sign bit clear and the next one set: positive, and always 20 bytes long (RFC 5280 §4.1.2.2). */
function newSerial(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(20))
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40
  return toHex(bytes).toUpperCase()
}

/** X.509 counts seconds: what is compared later must be cut to them now. */
const seconds = (ms: number) => Math.floor(ms / 1000) * 1000

/** Makes a self-signed CA for ten years. */
export async function createAuthority(options: { name: string; now: number; extractable?: boolean }): Promise<Authority> {
  const keys = await generateKey(options.extractable ?? true)
  const notAfter = seconds(options.now + AUTHORITY_DAYS * DAY)
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerial(), name: [{ CN: [options.name] }], notBefore: new Date(seconds(options.now - BACKDATED)), notAfter: new Date(notAfter),
    keys, signingAlgorithm: SIGNING_ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  return await openAuthority(toPem('CERTIFICATE', copyBytes(certificate.rawData)), keys.privateKey)
}

/** A CA from its parts, as read back from the store. */
export async function openAuthority(certificatePem: string, privateKey: CryptoKey): Promise<Authority> {
  const certificate = new x509.X509Certificate(certificatePem)
  const certificateDer = copyBytes(certificate.rawData)
  return { certificatePem: toPem('CERTIFICATE', certificateDer), certificateDer, pin: await sha256Hex(certificateDer), privateKey, notAfter: certificate.notAfter.getTime() }
}

interface LeafOptions {
  readonly authority: Authority
  readonly publicKeySpki: Bytes
  readonly commonName: string
  readonly now: number
  readonly days?: number
  readonly dnsNames?: readonly string[]
  readonly ipAddresses?: readonly string[]
}

/** Issues a certificate for one purpose; the public key has been checked by {@link readCsr} or made here. */
export async function issueCertificate(options: LeafOptions & { readonly purpose: Purpose }): Promise<IssuedCertificate> {
  const { purpose } = options
  const usages = purpose === 'signing' ? [] : purpose === 'gateway' ? [CLIENT_AUTH, SERVER_AUTH] : [CLIENT_AUTH]
  const dnsNames = purpose === 'gateway' ? [gatewayTlsName(options.commonName), ...options.dnsNames ?? []] : options.dnsNames ?? []
  return await issue({ ...options, dnsNames }, [...usages, purposeOids[purpose]])
}

/** Issues a plain TLS server certificate (local emulation); it has none of our purposes, so it proves nothing to the EMS. */
export const issueServerCertificate = (options: LeafOptions): Promise<IssuedCertificate> => issue(options, [SERVER_AUTH])

async function issue(options: LeafOptions, usages: string[]): Promise<IssuedCertificate> {
  const authority = new x509.X509Certificate(options.authority.certificatePem)
  const publicKey = await crypto.subtle.importKey('spki', options.publicKeySpki, KEY_ALGORITHM, true, ['verify'])
  const serial = newSerial()
  const notBefore = seconds(options.now - BACKDATED)
  const notAfter = seconds(Math.min(options.now + (options.days ?? LEAF_DAYS) * DAY, options.authority.notAfter))
  const names = [
    ...(options.dnsNames ?? []).map((value) => ({ type: 'dns' as const, value })),
    ...(options.ipAddresses ?? []).map((value) => ({ type: 'ip' as const, value })),
  ]
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial, subject: [{ CN: [options.commonName] }], issuer: authority.subjectName,
    notBefore: new Date(notBefore), notAfter: new Date(notAfter), publicKey, signingKey: options.authority.privateKey, signingAlgorithm: SIGNING_ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(usages),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(authority.publicKey),
      ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : []),
    ],
  })
  const der = copyBytes(certificate.rawData)
  return { pem: toPem('CERTIFICATE', der), der, serial, notBefore, notAfter, fingerprint: await sha256Hex(der), publicKeyHash: await publicKeyHash(options.publicKeySpki) }
}
