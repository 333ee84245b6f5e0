// The revocation list as others read it: OpenSSL takes it, refuses what it names and nothing else.
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createAuthority, issueCertificate, type Authority } from '../../identity/authority.ts'
import { toPem } from '../../identity/encoding.ts'
import { exportPublicKey, generateKey } from '../../identity/keys.ts'
import { createRevocationList, type RevokedCertificate } from '../../identity/revocation-list.ts'

const run = promisify(execFile)
const now = Date.now()

describe('a revocation list', () => {
  let directory: string
  let authority: Authority
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'revocation-list-'))
    authority = await createAuthority({ name: 'Test CA', now })
    await writeFile(join(directory, 'ca.pem'), authority.certificatePem)
  })
  afterAll(async () => { await rm(directory, { recursive: true }) })

  const leaf = async (by: Authority) => issueCertificate({ authority: by, publicKeySpki: await exportPublicKey((await generateKey()).publicKey), purpose: 'gateway', commonName: 'SPGW0123456789AB', now })
  async function openssl(pem: string, list: Uint8Array): Promise<string> {
    await Promise.all([writeFile(join(directory, 'leaf.pem'), pem), writeFile(join(directory, 'list.pem'), toPem('X509 CRL', list))])
    const done = await run('openssl', ['verify', '-crl_check', '-CAfile', 'ca.pem', '-CRLfile', 'list.pem', 'leaf.pem'], { cwd: directory }).catch((failed: { stderr: string; stdout: string }) => failed)
    return `${done.stdout}${done.stderr}`
  }

  it('is taken by OpenSSL, which refuses the leaf that it names and no other', async () => {
    const [good, bad] = [await leaf(authority), await leaf(authority)]
    const list = await createRevocationList({ authority, now, revoked: [{ serial: bad.serial, at: now - 60_000 }, { serial: '7F'.repeat(20), at: now }] })
    expect(await openssl(good.pem, list)).toBe('leaf.pem: OK\n')
    expect(await openssl(bad.pem, list)).toContain('certificate revoked')
    expect(await openssl(bad.pem, await createRevocationList({ authority, now, revoked: [] }))).toBe('leaf.pem: OK\n')
  })
  it('of another CA, or out of date, vouches for nothing', async () => {
    const { pem } = await leaf(authority)
    const other = await createAuthority({ name: 'Test CA', now })
    expect(await openssl(pem, await createRevocationList({ authority: other, now, revoked: [] }))).toMatch(/unable to get certificate CRL|CRL signature failure/)
    expect(await openssl(pem, await createRevocationList({ authority, now: now - 25 * 3_600_000, revoked: [] }))).toContain('CRL has expired')
  })
  it('says when the next one comes, and is numbered upwards', async () => {
    await writeFile(join(directory, 'list.der'), await createRevocationList({ authority, now, revoked: [] }))
    const { stdout } = await run('openssl', ['crl', '-inform', 'DER', '-in', 'list.der', '-noout', '-lastupdate', '-nextupdate', '-crlnumber'], { cwd: directory })
    const [last, next] = ['lastUpdate', 'nextUpdate'].map((name) => Date.parse(new RegExp(`${name}=(.+)`).exec(stdout)?.[1] ?? ''))
    expect((next ?? 0) - (last ?? 0)).toBe(24 * 3_600_000)
    expect(Number.parseInt(/crlNumber=0x([0-9A-F]+)/i.exec(stdout)?.[1] ?? '', 16)).toBe(Math.floor(now / 1000))
  })
  it('holds as many as a large fleet revokes', async () => {
    const revoked: RevokedCertificate[] = Array.from({ length: 5_000 }, (_, n) => ({ serial: `40${n.toString(16).toUpperCase().padStart(38, '0')}`, at: now }))
    const bad = await leaf(authority)
    const list = await createRevocationList({ authority, now, revoked: [...revoked, { serial: bad.serial, at: now }] })
    expect(list.length).toBeLessThan(5_001 * 60)
    expect(await openssl(bad.pem, list)).toContain('certificate revoked')
  })
})
