// A TLS root and a certificate for the local EMS and the demonstration services, kept in the state directory. For local use only.
import { createAuthority, issueServerCertificate, openAuthority } from '../identity/authority.ts'
import { exportPrivateKey, exportPublicKey, generateKey, importPrivateKey } from '../identity/keys.ts'
import { readPrivateFile, writePrivateFile } from '../node/key-store.ts'
import { join } from 'node:path'

const LOCAL_NAMES = ['localhost', '*.sallyport.localhost']

export interface LocalTls {
  readonly caPem: string
  readonly certificatePem: string
  readonly privateKeyPem: string
}

/** Opens the local root (made once) and issues a fresh certificate for localhost and *.sallyport.localhost under it. */
export async function localTls(directory: string, now: number): Promise<LocalTls> {
  const caFile = join(directory, 'tls-ca.pem')
  const keyFile = join(directory, 'tls-ca.key')
  let caPem = await readPrivateFile(caFile)
  let caKey = await readPrivateFile(keyFile)
  if (caPem === null || caKey === null) {
    const made = await createAuthority({ name: 'Sallyport local TLS', now, extractable: true })
    caPem = made.certificatePem
    caKey = await exportPrivateKey(made.privateKey)
    await writePrivateFile(keyFile, caKey)
    await writePrivateFile(caFile, caPem)
  }
  const authority = await openAuthority(caPem, (await importPrivateKey(caKey)).privateKey)
  const keys = await generateKey(true)
  const issued = await issueServerCertificate({
    authority, publicKeySpki: await exportPublicKey(keys.publicKey), commonName: 'localhost',
    dnsNames: LOCAL_NAMES, ipAddresses: ['127.0.0.1', '::1'], now, days: 90,
  })
  return { caPem, certificatePem: issued.pem, privateKeyPem: await exportPrivateKey(keys.privateKey) }
}
