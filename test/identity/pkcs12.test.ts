// PKCS #12 as others read it: OpenSSL finds key and certificate under the password, and nothing under another.
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createAuthority, issueCertificate } from '../../identity/authority.ts'
import { fromPem } from '../../identity/encoding.ts'
import { exportPrivateKey, exportPublicKey, generateKey } from '../../identity/keys.ts'
import { storeKeyId, writePkcs12 } from '../../identity/pkcs12.ts'

const run = promisify(execFile)

describe('a PKCS #12 file', () => {
  let directory: string
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'pkcs12-'))
  })
  afterAll(async () => { await rm(directory, { recursive: true }) })

  it('gives key and certificate to whoever has the password', async () => {
    const keys = await generateKey(true)
    const issued = await issueCertificate({ authority: await createAuthority({ name: 'Test CA', now: Date.now() }), publicKeySpki: await exportPublicKey(keys.publicKey), purpose: 'browser', commonName: 'a'.repeat(32), now: Date.now() })
    const pem = await exportPrivateKey(keys.privateKey)
    const privateKeyDer = fromPem('PRIVATE KEY', pem)
    if (privateKeyDer === null) throw new Error('no key')
    const file = await writePkcs12({ privateKeyDer, certificateDer: issued.der, keyId: await storeKeyId(keys.publicKey), name: 'Sallyport test', password: 'right' })
    await writeFile(join(directory, 'both.p12'), file)
    const read = async (password: string) => (await run('openssl', ['pkcs12', '-in', join(directory, 'both.p12'), '-passin', `pass:${password}`, '-nodes'])).stdout
    const text = await read('right')
    expect(fromPem('CERTIFICATE', text)).toEqual(issued.der)
    expect(fromPem('PRIVATE KEY', text)).toEqual(privateKeyDer)
    expect(text).toContain('friendlyName: Sallyport test')
    await expect(read('wrong')).rejects.toThrow('invalid password')
  })
})
