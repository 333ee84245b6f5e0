// Certificate requests (PKCS #10, RFC 2986): what a device makes and what the EMS reads of it, the key and nothing else.
import { copyBytes, toPem, type Bytes } from './encoding.ts'
import { publicKeyHash, SIGNING_ALGORITHM } from './keys.ts'
import * as x509 from './x509.ts'

/** Writes a request, PEM. The name in it is decoration: the EMS decides what the certificate says. */
export async function createCsr(keys: CryptoKeyPair, commonName: string): Promise<string> {
  const csr = await x509.Pkcs10CertificateRequestGenerator.create({ name: [{ CN: [commonName] }], keys, signingAlgorithm: SIGNING_ALGORITHM })
  return toPem('CERTIFICATE REQUEST', copyBytes(csr.rawData))
}

/** Reads a request: the key it proves possession of; null when it is malformed, not on P-256, or not signed by that key. */
export async function readCsr(pem: string): Promise<{ publicKeySpki: Bytes; publicKeyHash: string } | null> {
  try {
    const csr = new x509.Pkcs10CertificateRequest(pem)
    const algorithm = csr.publicKey.algorithm as { name: string; namedCurve?: string }
    if (algorithm.name !== 'ECDSA' || algorithm.namedCurve !== 'P-256' || !await csr.verify()) return null
    const publicKeySpki = copyBytes(csr.publicKey.rawData)
    return { publicKeySpki, publicKeyHash: await publicKeyHash(publicKeySpki) }
  } catch {
    return null // a stranger's bytes that are no request: an expected outcome
  }
}
