// A signed request is what it says, by whom it says, now; anything else is refused with its own code.
import { createSignature } from 'http-message-sig'
import { beforeAll, describe, expect, it } from 'vitest'
import { createAuthority, issueCertificate, type Authority } from '../../identity/authority.ts'
import { trustAuthority, VerifiedLeaves, type TrustedAuthority } from '../../identity/certificate.ts'
import { copyBytes, toBase64, utf8, type Bytes } from '../../identity/encoding.ts'
import { exportPublicKey, generateKey, sha256, sha256Hex } from '../../identity/keys.ts'
import { signRequest, verifyRequest, type ToVerify } from '../../identity/request-signature.ts'
import { NonceMemory } from '../../identity/replay.ts'

const now = Date.UTC(2026, 10, 24)
const uid = '0123456789abcdef0123456789abcdef'
const url = 'https://ems.test/api/v1/endpoint/report?x=1'
const body = utf8('{"sequence":1}')

describe('a signed request', () => {
  let ca: Authority
  let trusted: TrustedAuthority
  let keys: CryptoKeyPair
  let der: Bytes
  let headers: Record<string, string>

  const certify = async (authority: Authority, pair: CryptoKeyPair, purpose: 'agent' | 'browser' = 'agent') =>
    (await issueCertificate({ authority, publicKeySpki: await exportPublicKey(pair.publicKey), purpose, commonName: uid, now })).der
  const verify = (changes: Partial<ToVerify> = {}) => verifyRequest({
    method: 'POST', url, headers: new Headers(headers), body, now, authorities: [trusted], purposes: ['agent'], ...changes,
  })
  const code = async (changes: Partial<ToVerify>) => {
    const verdict = await verify(changes)
    return verdict.ok ? 'accepted' : verdict.code
  }
  const withHeader = (name: string, value: string | null) => {
    const changed = new Headers(headers)
    if (value === null) changed.delete(name)
    else changed.set(name, value)
    return { headers: changed }
  }

  beforeAll(async () => {
    ca = await createAuthority({ name: 'EMS', now })
    trusted = await trustAuthority(ca.certificatePem)
    keys = await generateKey()
    der = await certify(ca, keys)
    headers = await signRequest({ method: 'POST', url, body, privateKey: keys.privateKey, certificateDer: der, now })
  })

  it('tells the UID and the key that signed', async () => {
    const verdict = await verify()
    expect(verdict.ok && [verdict.caller.commonName, verdict.caller.purpose]).toEqual([uid, 'agent'])
  })
  it('is refused without a signature', async () => expect(await code(withHeader('signature', null))).toBe('unsigned'))
  it('is refused when another key signed it', async () => {
    const other = await generateKey()
    expect(await code({ headers: new Headers(await signRequest({ method: 'POST', url, body, privateKey: other.privateKey, certificateDer: der, now })) })).toBe('bad_signature')
  })
  it('is refused when a foreign CA vouches for the right UID', async () => {
    const foreign = await createAuthority({ name: 'EMS', now })
    expect(await code({ headers: new Headers(await signRequest({ method: 'POST', url, body, privateKey: keys.privateKey, certificateDer: await certify(foreign, keys), now })) })).toBe('bad_certificate')
  })
  it('is refused when the CA itself signs', async () => {
    expect(await code({ headers: new Headers(await signRequest({ method: 'POST', url, body, privateKey: ca.privateKey, certificateDer: ca.certificateDer, now })) })).toBe('bad_certificate')
  })
  it('is refused for a browser certificate', async () => {
    expect(await code({ headers: new Headers(await signRequest({ method: 'POST', url, body, privateKey: keys.privateKey, certificateDer: await certify(ca, keys, 'browser'), now })) })).toBe('wrong_purpose')
  })
  it('is refused when the certificate is swapped for another of ours', async () => {
    const other = await certify(ca, await generateKey())
    expect(await code(withHeader('sallyport-certificate', `:${toBase64(other)}:`))).toBe('bad_signature')
  })
  it('is refused when the certificate is swapped for another with the same key', async () => {
    expect(await code(withHeader('sallyport-certificate', `:${toBase64(await certify(ca, keys))}:`))).toBe('bad_signature')
  })
  it('is refused when the certificate has ended, but not within the grace of a renewal', async () => {
    const later = now + 31 * 86_400_000
    const late = { headers: new Headers(await signRequest({ method: 'POST', url, body, privateKey: keys.privateKey, certificateDer: der, now: later })), now: later }
    expect(await code(late)).toBe('certificate_expired')
    expect(await code({ ...late, acceptsExpiredMs: 30 * 86_400_000 })).toBe('accepted')
    expect(await code({ ...late, now: now + 61 * 86_400_000, acceptsExpiredMs: 30 * 86_400_000 })).toBe('certificate_expired')
  })
  it.each([
    ['body', { body: utf8('{"sequence":2}') }, 'bad_digest'],
    ['path', { url: 'https://ems.test/api/v1/endpoint/renew?x=1' }, 'bad_signature'],
    ['query', { url: 'https://ems.test/api/v1/endpoint/report?x=2' }, 'bad_signature'],
    ['host', { url: 'https://other.test/api/v1/endpoint/report?x=1' }, 'bad_signature'],
    ['method', { method: 'PUT' }, 'bad_signature'],
  ])('is refused when its %s is altered', async (_, changes, expected) => expect(await code(changes)).toBe(expected))
  it('is refused a minute too late and a minute too early', async () => {
    expect(await code({ now: now + 61_000 })).toBe('clock_skew')
    expect(await code({ now: now - 61_000 })).toBe('clock_skew')
    expect(await code({ now: now + 59_000 })).toBe('accepted')
  })
  it('is refused with two signatures, two inputs or a truncated signature', async () => {
    const signature = headers.signature ?? ''
    expect(await code(withHeader('signature', `${signature}, ${signature}`))).toBe('bad_signature')
    expect(await code(withHeader('signature', `${signature}, other=:AAAA:`))).toBe('bad_signature')
    expect(await code(withHeader('signature', `${signature.slice(0, -12)}:`))).toBe('bad_signature')
    expect(await code(withHeader('signature-input', `${headers['signature-input'] ?? ''};x`))).toBe('bad_signature')
  })
  it('is refused when a component is left out of the cover', async () => {
    expect(await code(withHeader('signature-input', (headers['signature-input'] ?? '').replace(' "@query"', '')))).toBe('bad_signature')
  })
  it('is refused with oversize or doubled credentials, before anything is parsed', async () => {
    expect(await code(withHeader('sallyport-certificate', `:${'A'.repeat(9000)}:`))).toBe('bad_signature')
    expect(await code(withHeader('sallyport-certificate', `${headers['sallyport-certificate'] ?? ''}, :AAAA:`))).toBe('bad_certificate')
    expect(await code(withHeader('sallyport-certificate', ':AAAA:'))).toBe('bad_certificate')
  })
  it('is checked for its dates on a cached leaf too', async () => {
    const cache = new VerifiedLeaves()
    expect(await code({ cache })).toBe('accepted')
    const later = now + 31 * 86_400_000
    expect(await code({ cache, now: later, headers: new Headers(await signRequest({ method: 'POST', url, body, privateKey: keys.privateKey, certificateDer: der, now: later })) })).toBe('certificate_expired')
    expect(await code({ cache, authorities: [await trustAuthority((await createAuthority({ name: 'EMS', now })).certificatePem)] })).toBe('bad_certificate')
  })
  it('is checked for its purpose on a cached leaf too, and one that differs by a byte is another', async () => {
    const cache = new VerifiedLeaves()
    expect(await code({ cache })).toBe('accepted')
    expect(await code({ cache, purposes: ['gateway'] })).toBe('wrong_purpose')
    expect(await code({ ...withHeader('sallyport-certificate', `:${toBase64(Uint8Array.from([...der, 0]))}:`), cache })).toBe('bad_signature')
    const altered = copyBytes(der)
    altered[altered.length - 1] = (altered.at(-1) ?? 0) ^ 1
    expect(await code({ ...withHeader('sallyport-certificate', `:${toBase64(altered)}:`), cache })).toBe('bad_certificate')
  })
  it('of a cached leaf is refused when its CA has ended or is trusted no more, within the grace of a renewal too', async () => {
    const [cache, at] = [new VerifiedLeaves(), ca.notAfter - 1_000]
    const late = (await issueCertificate({ authority: ca, publicKeySpki: await exportPublicKey(keys.publicKey), purpose: 'agent', commonName: uid, now: at })).der
    const signedAt = async (when: number) => ({ cache, now: when, acceptsExpiredMs: 30 * 86_400_000, headers: new Headers(await signRequest({ method: 'POST', url, body, privateKey: keys.privateKey, certificateDer: late, now: when })) })
    expect(await code(await signedAt(at))).toBe('accepted')
    expect(await code(await signedAt(ca.notAfter + 1_000))).toBe('bad_certificate')
    const other = await trustAuthority((await createAuthority({ name: 'EMS', now })).certificatePem)
    expect(await code({ ...await signedAt(at), authorities: [other] })).toBe('bad_certificate')
    expect(await code({ ...await signedAt(at), authorities: [other, trusted] })).toBe('accepted')
  })
  it('is refused before its body is read, unless everything else holds', async () => {
    let read = 0
    const counting = () => { read++; return Promise.resolve(body) }
    expect([await code({ body: counting, method: 'PUT' }), await code({ body: counting, now: now + 61_000 }), await code({ ...withHeader('signature', null), body: counting }), read]).toEqual(['bad_signature', 'clock_skew', 'unsigned', 0])
    expect([await code({ body: counting }), await code({ body: () => Promise.resolve(utf8('{}')) }), read]).toEqual(['accepted', 'bad_digest', 1])
  })
  it('may be signed by a bare key only where joining says so', async () => {
    const bare = new Headers(await signRequest({ method: 'POST', url, body, privateKey: keys.privateKey, spkiDer: await exportPublicKey(keys.publicKey), now }))
    expect(await code({ headers: bare, bareKey: true })).toBe('accepted')
    expect(await code({ headers: bare })).toBe('unsigned')
  })
})

describe('a signature of another make', () => {
  it.each<[string, Partial<Parameters<typeof createSignature>[1]['parameters']>, number]>([
    ['names another key', { keyid: 'a'.repeat(64) }, 64], ['is for another protocol', { tag: 'other' }, 64], ['has no tag', { tag: undefined }, 64],
    ['has a nonce that can be guessed', { nonce: 'n' }, 64], ['has a nonce that fills the memory', { nonce: 'n'.repeat(65) }, 64], ['has no nonce', { nonce: undefined }, 64],
    ['has no instant', { created: undefined }, 64], ['is longer than a signature', {}, 65], ['is of another algorithm', { alg: 'ed25519' }, 64],
  ])('is refused when it %s', async (_, changes, length) => {
    const [ca, keys] = [await createAuthority({ name: 'EMS', now }), await generateKey()]
    const der = (await issueCertificate({ authority: ca, publicKeySpki: await exportPublicKey(keys.publicKey), purpose: 'agent', commonName: uid, now })).der
    const headers = { 'content-digest': `sha-256=:${toBase64(await sha256(body))}:`, 'sallyport-certificate': `:${toBase64(der)}:` }
    const made = async (parameters: object) => await createSignature({ kind: 'request', method: 'POST', targetUri: url, fields: Object.entries(headers).map(([name, value]) => ({ name, value })) }, {
      label: 'sallyport', components: ['@method', '@authority', '@path', '@query', 'content-digest', 'sallyport-certificate'],
      parameters: { created: now / 1000, nonce: 'n'.repeat(22), keyid: await sha256Hex(der), alg: 'ecdsa-p256-sha256', tag: 'sallyport', ...parameters },
      signer: {
        algorithm: 'alg' in parameters ? parameters.alg as string : 'ecdsa-p256-sha256',
        sign: async (data) => {
          const signature = new Uint8Array(await crypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, keys.privateKey, Uint8Array.from(data)))
          return Uint8Array.from({ length }, (__, at) => signature[at] ?? 0)
        },
      },
    })
    const verdict = async ({ signature, signatureInput }: { signature: string; signatureInput: string }) => {
      const said = await verifyRequest({ method: 'POST', url, headers: new Headers({ ...headers, signature, 'signature-input': signatureInput }), body, now, authorities: [await trustAuthority(ca.certificatePem)], purposes: ['agent'] })
      return said.ok ? 'accepted' : said.code
    }
    expect([length === 64 ? await verdict(await made({})) : 'accepted', await verdict(await made(changes))]).toEqual(['accepted', 'bad_signature'])
  })
})

describe('the memory of nonces', () => {
  it('knows a repetition within the window and forgets it after two', () => {
    const memory = new NonceMemory(1000)
    expect(memory.seen('k', 'n', 10_000)).toBe(false)
    expect(memory.seen('k', 'n', 10_999)).toBe(true)
    expect(memory.seen('other', 'n', 10_999)).toBe(false)
    expect(memory.seen('k', 'n', 14_000)).toBe(false)
  })
  it('stays bounded', () => {
    const memory = new NonceMemory(1000, 10)
    for (let i = 0; i < 100; i++) memory.seen('k', String(i), 5_000)
    expect(memory.seen('k', '99', 5_000)).toBe(true)
  })
})
