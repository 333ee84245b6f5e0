// Certificates for benchmarks, from a CA of their own.
import { issueCertificate, type Authority } from '../identity/authority.ts'
import { exportPrivateKey, exportPublicKey, generateKey } from '../identity/keys.ts'
import type { Purpose } from '../protocol/certificates.ts'

/** A certificate of two days with its key, PEM; `notAfter` in ms. */
export async function issue(authority: Authority, commonName: string, purpose: Purpose) {
  const keys = await generateKey(true)
  const issued = await issueCertificate({ authority, publicKeySpki: await exportPublicKey(keys.publicKey), purpose, commonName, now: Date.now(), days: 2 })
  return { cert: issued.pem, key: await exportPrivateKey(keys.privateKey), serial: issued.serial, notAfter: issued.notAfter }
}
