// A document is believed only from a signer that one of our CAs introduced, addressed to its reader, and newer than what is held.
import { beforeAll, describe, expect, it } from 'vitest'
import { createAuthority, issueCertificate, type Authority } from '../../identity/authority.ts'
import { trustAuthority, type TrustedAuthority } from '../../identity/certificate.ts'
import { openDocument, signDocument, type Signer } from '../../identity/document.ts'
import { exportPublicKey, generateKey } from '../../identity/keys.ts'
import { createCsr, readCsr } from '../../identity/request.ts'
import { answerChallenge, newChallenge, verifyAnswer } from '../../identity/socket-challenge.ts'
import { parseWrappingKeys, unwrap, wrap, wrappedUnder } from '../../identity/wrapping.ts'
import { utf8 } from '../../identity/encoding.ts'
import type { Purpose } from '../../protocol/certificates.ts'

const now = Date.UTC(2026, 10, 24)
const uid = '0123456789abcdef0123456789abcdef'

describe('a signed document', () => {
  let ca: Authority
  let trusted: TrustedAuthority
  let signer: Signer
  let jws: string
  const makeSigner = async (authority: Authority, purpose: Purpose = 'signing'): Promise<Signer> => {
    const keys = await generateKey()
    return { privateKey: keys.privateKey, certificateDer: (await issueCertificate({ authority, publicKeySpki: await exportPublicKey(keys.publicKey), purpose, commonName: 'signer', now })).der }
  }
  const open = async (document: string, changes: object = {}) => {
    const opened = await openDocument(document, { kind: 'deregistration', to: uid, authorities: [trusted], now, ...changes })
    return opened.ok ? opened.payload.body : opened.reason
  }
  const sign = (by: Signer) => signDocument({ kind: 'deregistration', to: uid, version: now, body: { reason: 'left' } }, by)

  beforeAll(async () => {
    ca = await createAuthority({ name: 'EMS', now })
    trusted = await trustAuthority(ca.certificatePem)
    signer = await makeSigner(ca)
    jws = await sign(signer)
  })

  it('opens for whom it is addressed to', async () => expect(await open(jws)).toEqual({ reason: 'left' }))
  it('is refused by another endpoint', async () => expect(await open(jws, { to: uid.replace('0', '1') })).toBe('misaddressed'))
  it('is refused when it is not newer than what is held', async () => {
    expect(await open(jws, { newerThan: now })).toBe('older')
    expect(await open(jws, { newerThan: now - 1 })).toEqual({ reason: 'left' })
  })
  it('is refused as another kind', async () => expect(await open(jws, { kind: 'profile' })).toBe('wrong-kind'))
  it('is refused when a byte of it was altered', async () => {
    const [head, payload, signature] = jws.split('.') as [string, string, string]
    expect(await open(`${head}.${payload.slice(0, -2)}${payload.endsWith('A') ? 'BB' : 'AA'}.${signature}`)).toBe('altered')
  })
  it('is refused from a signer of another CA', async () => expect(await open(await sign(await makeSigner(await createAuthority({ name: 'EMS', now }))))).toBe('foreign'))
  it('is refused when an agent signs it with its own certificate', async () => expect(await open(await sign(await makeSigner(ca, 'agent')))).toBe('foreign'))
  it('is refused when it is no document at all', async () => {
    expect(await open('a.b.c')).toBe('malformed')
    expect(await open('')).toBe('malformed')
  })
})

describe('a socket challenge', () => {
  it('is answered only by the key, for that challenge and that purpose', async () => {
    const keys = await generateKey()
    const spki = await exportPublicKey(keys.publicKey)
    const challenge = newChallenge()
    const answer = await answerChallenge(keys.privateKey, challenge, 'agent')
    expect(await verifyAnswer(spki, challenge, 'agent', answer)).toBe(true)
    expect(await verifyAnswer(spki, newChallenge(), 'agent', answer)).toBe(false)
    expect(await verifyAnswer(spki, challenge, 'gateway', answer)).toBe(false)
    expect(await verifyAnswer(await exportPublicKey((await generateKey()).publicKey), challenge, 'agent', answer)).toBe(false)
    expect(await verifyAnswer(spki, challenge, 'agent', 'AAAA')).toBe(false)
  })
})

describe('a certificate request', () => {
  it('gives the key that it proves possession of, and nothing when it was altered', async () => {
    const keys = await generateKey()
    const csr = await createCsr(keys, 'laptop')
    expect((await readCsr(csr))?.publicKeySpki).toEqual(await exportPublicKey(keys.publicKey))
    const middle = Math.floor(csr.length / 2)
    expect(await readCsr(`${csr.slice(0, middle)}${csr[middle] === 'A' ? 'B' : 'A'}${csr.slice(middle + 1)}`)).toBeNull()
    expect(await readCsr('-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----')).toBeNull()
  })
})

describe('a wrapped key', () => {
  const key = (byte: number) => Buffer.alloc(32, byte).toString('base64')
  it('opens under its own context and key only, and can be wrapped anew under a newer one', async () => {
    const old = parseWrappingKeys(`k1:${key(1)}`)
    const both = parseWrappingKeys(`k2:${key(2)},k1:${key(1)}`)
    const wrapped = await wrap(old, utf8('secret'), 'ca/1')
    expect(await unwrap(both, wrapped, 'ca/1')).toEqual(utf8('secret'))
    expect(await unwrap(both, wrapped, 'ca/2')).toBeNull()
    expect(await unwrap(parseWrappingKeys(`k1:${key(3)}`), wrapped, 'ca/1')).toBeNull()
    expect(wrappedUnder(await wrap(both, utf8('secret'), 'ca/1'))).toBe('k2')
  })
  it('is not made without a key, and a mistyped secret is not taken for none', async () => {
    await expect(wrap(parseWrappingKeys(''), utf8('secret'), 'ca/1')).rejects.toThrow('no wrapping key')
    expect(() => parseWrappingKeys('k1:AAAA')).toThrow('WRAPPING_KEYS')
  })
})
