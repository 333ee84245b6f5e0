// What the CA issues says everything explicitly, and what anybody else issues is foreign, expired or for another purpose.
import { beforeAll, describe, expect, it } from 'vitest'
import { X509Certificate } from 'node:crypto'
import { createAuthority, issueCertificate, issueServerCertificate, openAuthority, type Authority } from '../../identity/authority.ts'
import { readCertificate, trustAuthority, verifyCertificate, type CertificateInfo } from '../../identity/certificate.ts'
import { exportPrivateKey, exportPublicKey, generateKey, importPrivateKey, importPublicKey, publicKeyHash, sha256Hex, SIGNING_ALGORITHM } from '../../identity/keys.ts'
import { copyBytes, type Bytes } from '../../identity/encoding.ts'
import * as x509 from '../../identity/x509.ts'
import { gatewayTlsName, purposeOids, type Purpose } from '../../protocol/certificates.ts'

const now = Date.UTC(2026, 10, 24, 12, 0, 0, 789)
const DAY = 86_400_000
const uid = '0123456789abcdef0123456789abcdef'
const serial = 'SPGW000000000001'

const mustRead = (input: string | Uint8Array): CertificateInfo => {
  const info = readCertificate(input)
  if (info === null) throw new Error('not read')
  return info
}

describe('an issued certificate', () => {
  let ca: Authority
  let spki: Bytes
  beforeAll(async () => {
    ca = await createAuthority({ name: 'EMS', now })
    spki = await exportPublicKey((await generateKey()).publicKey)
  })
  const issue = (purpose: Purpose, commonName = uid, authority = ca) => issueCertificate({ authority, publicKeySpki: spki, purpose, commonName, now })
  const verdict = async (info: CertificateInfo, purpose: Purpose, at = now, authority = ca) => {
    const said = await verifyCertificate(info, [await trustAuthority(authority.certificatePem)], at, purpose)
    return said.ok ? 'ok' : said.reason
  }

  it.each<Purpose>(['agent', 'browser', 'gateway', 'signing'])('reads back as what was issued for the purpose %s', async (purpose) => {
    const issued = await issue(purpose)
    for (const input of [issued.der, issued.pem]) {
      expect(readCertificate(input)).toMatchObject({ commonName: uid, purpose, serial: issued.serial, notBefore: issued.notBefore, notAfter: issued.notAfter, publicKeySpki: spki, isAuthority: false })
    }
    expect([issued.fingerprint, issued.publicKeyHash]).toEqual([await sha256Hex(issued.der), await publicKeyHash(spki)])
    for (const asked of ['agent', 'browser', 'gateway', 'signing'] as const) expect(await verdict(mustRead(issued.der), asked)).toBe(asked === purpose ? 'ok' : 'wrong-purpose')
  })

  it('has a serial of 20 random bytes, is backdated by five minutes and lasts thirty days, in whole seconds', async () => {
    const all = await Promise.all(Array.from({ length: 20 }, () => issue('agent')))
    expect(new Set(all.map((issued) => issued.serial)).size).toBe(20)
    for (const issued of all) expect(issued.serial).toMatch(/^[4-7][0-9A-F]{39}$/)
    expect([all[0]?.notBefore, all[0]?.notAfter]).toEqual([now - 789 - 5 * 60_000, now - 789 + 30 * DAY])
  })

  it('is valid from its first instant to before its last', async () => {
    const info = mustRead((await issue('agent')).der)
    expect(await verdict(info, 'agent', info.notBefore - 1)).toBe('not-yet-valid')
    expect(await verdict(info, 'agent', info.notBefore)).toBe('ok')
    expect(await verdict(info, 'agent', info.notAfter - 1)).toBe('ok')
    expect(await verdict(info, 'agent', info.notAfter)).toBe('expired')
  })

  it('of another CA of the same name is foreign, and so is one with an altered byte', async () => {
    const other = await createAuthority({ name: 'EMS', now })
    expect(await verdict(mustRead((await issue('agent', uid, other)).der), 'agent')).toBe('foreign')
    const altered = Uint8Array.from((await issue('agent')).der)
    altered[altered.length - 1] = (altered.at(-1) ?? 0) ^ 1
    const info = readCertificate(altered)
    expect(info === null ? 'unreadable' : await verdict(info, 'agent')).toBe('foreign')
  })

  it('stays good while both CAs of a roll-over are trusted, and not when its own is gone', async () => {
    const next = await createAuthority({ name: 'EMS', now })
    const [old, renewed] = [await trustAuthority(ca.certificatePem), await trustAuthority(next.certificatePem)]
    const info = mustRead((await issue('agent')).der)
    expect(await verifyCertificate(info, [renewed, old], now, 'agent')).toEqual({ ok: true })
    expect(await verifyCertificate(info, [renewed], now, 'agent')).toEqual({ ok: false, reason: 'foreign' })
  })

  it('never outlives its CA, and an ended CA vouches for nobody', async () => {
    const late = ca.notAfter - DAY
    const issued = await issueCertificate({ authority: ca, publicKeySpki: spki, purpose: 'agent', commonName: uid, now: late })
    expect(issued.notAfter).toBe(ca.notAfter)
    expect(await verdict(mustRead(issued.der), 'agent', ca.notAfter)).toBe('foreign')
  })

  it('for TLS of a server alone proves nothing to the EMS', async () => {
    const issued = await issueServerCertificate({ authority: ca, publicKeySpki: spki, commonName: uid, now })
    expect(await verdict(mustRead(issued.der), 'agent')).toBe('wrong-purpose')
  })

  it('of a CA is no leaf, and a leaf is no CA', async () => {
    expect(await verdict(mustRead(ca.certificatePem), 'agent')).toBe('foreign')
    await expect(trustAuthority((await issue('signing')).pem)).rejects.toThrow('not a CA')
  })

  it('of a gateway is good for both ends of TLS, under the name that agents verify', async () => {
    const gateway = new X509Certificate((await issue('gateway', serial)).pem)
    const authority = new X509Certificate(ca.certificatePem)
    expect(gateway.subjectAltName).toBe(`DNS:${gatewayTlsName(serial)}`)
    expect(gateway.keyUsage).toEqual(expect.arrayContaining(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']))
    expect([gateway.checkIssued(authority), gateway.verify(authority.publicKey), gateway.ca]).toEqual([true, true, false])
    expect(new X509Certificate((await issue('agent')).pem).keyUsage).not.toContain('1.3.6.1.5.5.7.3.1')
  })

  it('of two purposes has none, and of two names has none', async () => {
    const make = async (names: string[], usages: string[]) => copyBytes((await x509.X509CertificateGenerator.create({
      serialNumber: '41'.repeat(20), subject: [{ CN: names }], issuer: new x509.X509Certificate(ca.certificatePem).subjectName, notBefore: new Date(now - 1000), notAfter: new Date(now + DAY),
      publicKey: await importPublicKey(spki), signingKey: ca.privateKey, signingAlgorithm: SIGNING_ALGORITHM, extensions: [new x509.ExtendedKeyUsageExtension(usages)],
    })).rawData)
    expect(mustRead(await make([uid], [purposeOids.agent]))).toMatchObject({ commonName: uid, purpose: 'agent' })
    const two = mustRead(await make([uid], [purposeOids.browser, purposeOids.agent]))
    expect([two.purpose, await verdict(two, 'agent'), await verdict(two, 'browser')]).toEqual([null, 'wrong-purpose', 'wrong-purpose'])
    expect(mustRead(await make([uid, 'f'.repeat(32)], [purposeOids.agent])).commonName).toBe('')
  })

  it('is not read from what is none, or is too large', () => {
    for (const hostile of ['', 'x', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----', 'A'.repeat(10_000), new Uint8Array(5), new Uint8Array(5000)]) expect(readCertificate(hostile)).toBeNull()
  })
})

describe('a CA', () => {
  it('is the same when opened from what was stored', async () => {
    const made = await createAuthority({ name: 'EMS', now })
    const opened = await openAuthority(made.certificatePem, (await importPrivateKey(await exportPrivateKey(made.privateKey))).privateKey)
    expect([opened.pin, opened.notAfter, opened.certificatePem]).toEqual([made.pin, made.notAfter, made.certificatePem])
    const issued = await issueCertificate({ authority: opened, publicKeySpki: await exportPublicKey((await generateKey()).publicKey), purpose: 'agent', commonName: uid, now })
    expect(await verifyCertificate(mustRead(issued.der), [await trustAuthority(made.certificatePem)], now, 'agent')).toEqual({ ok: true })
  })
  it('has a key that comes back with its public half', async () => {
    const keys = await generateKey(true)
    const back = await importPrivateKey(await exportPrivateKey(keys.privateKey), false)
    expect(await exportPublicKey(back.publicKey)).toEqual(await exportPublicKey(keys.publicKey))
    expect(back.privateKey.extractable).toBe(false)
    await expect(importPrivateKey('-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----')).rejects.toThrow()
  })
})
