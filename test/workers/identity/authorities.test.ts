// The CAs as an isolate knows them: made elsewhere, ended, locked. What is remembered is never believed for longer than it holds.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createExecutionContext } from 'cloudflare:test'
import { createAuthority, issueCertificate, type Authority } from '../../../identity/authority.ts'
import { utf8 } from '../../../identity/encoding.ts'
import { exportPrivateKey, exportPublicKey, generateKey } from '../../../identity/keys.ts'
import { createCsr } from '../../../identity/request.ts'
import { parseWrappingKeys, wrap } from '../../../identity/wrapping.ts'
import type { Env } from '../../../workers/env.ts'
import { activeAuthority, forgetAuthorities } from '../../../workers/flows/authority.ts'
import worker from '../../../workers/index.ts'
import { admin, enrolBody, enrolled, invite, linux, reportBody, requestOf, send, sendTo, signatureOf, signed, TOKEN, type Endpoint } from '../ems.ts'
import { meter } from '../meter.ts'
import { contextOf, envWith, real } from '../standing.ts'

const { DB } = real
const tags = '/api/v1/endpoint/tags'
const DAY = 86_400_000
const asAdministrator = { authorization: `Bearer ${TOKEN}` }
/** Lets the clock of this isolate go on by that much; requests signed here go by it too. */
const later = (ms: number) => { const now = Date.now() + ms; vi.spyOn(Date, 'now').mockImplementation(() => now) }

/** A CA that another isolate has made: it stands in the records, and this isolate has not been told. */
async function madeElsewhere(): Promise<Authority> {
  const [authority, signer, keys] = [await createAuthority({ name: 'Sallyport EMS CA', now: Date.now() }), await generateKey(true), parseWrappingKeys(real.WRAPPING_KEYS ?? '')]
  const [id, slot] = [crypto.randomUUID(), ((await DB.prepare('SELECT max(slot) AS n FROM authorities').first<{ n: number }>())?.n ?? 0) + 1]
  const certificate = await issueCertificate({ authority, publicKeySpki: await exportPublicKey(signer.publicKey), purpose: 'signing', commonName: 'signer', now: Date.now() })
  await DB.prepare('INSERT INTO authorities VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)').bind(slot, id, authority.certificatePem, authority.pin,
    await wrap(keys, utf8(await exportPrivateKey(authority.privateKey)), `ca/${id}`), authority.notAfter, Date.now(), certificate.pem, await wrap(keys, utf8(await exportPrivateKey(signer.privateKey)), `signer/${id}`)).run()
  return authority
}
async function certifiedBy(authority: Authority, endpoint: Endpoint, now = Date.now()): Promise<Endpoint> {
  const issued = await issueCertificate({ authority, publicKeySpki: await exportPublicKey(endpoint.keys.publicKey), purpose: 'agent', commonName: endpoint.uid, now })
  await DB.prepare('INSERT INTO certificates (serial, uid, purpose, os_user, key_hash, pem, not_after, state, issued_at) VALUES (?, ?, \'agent\', \'\', ?, ?, ?, \'current\', ?)').bind(issued.serial, endpoint.uid, issued.publicKeyHash, issued.pem, issued.notAfter, now).run()
  return { ...endpoint, certificate: issued.der }
}

describe('a CA', () => {
  beforeEach(async () => {
    await DB.prepare('DELETE FROM authorities').run()
    forgetAuthorities()
  })
  afterEach(() => { vi.restoreAllMocks() })

  it('made by another isolate is known here a second later, and its certificates then work', async () => {
    later(0)
    const endpoint = await enrolled()
    const renewed = await certifiedBy(await madeElsewhere(), endpoint)
    expect((await signed(renewed, 'GET', tags)).code).toBe('bad_certificate')
    later(1_100)
    expect((await signed(renewed, 'GET', tags)).status).toBe(200)
  })
  it('is asked for once, however many come when what is known has grown old', async () => {
    const [endpoint, metered] = [await enrolled(), meter(DB, true)]
    later(11_000)
    const requests = await Promise.all(Array.from({ length: 40 }, async () => requestOf('GET', tags, { headers: { ...await signatureOf(endpoint, 'GET', tags), signature: 'sallyport=:AAAA:' } })))
    await Promise.all(requests.map(async (request) => await worker.fetch(request, envWith({ DB: metered.database }), createExecutionContext())))
    expect(metered.tally.trips).toBe(1)
  })
  it('that has ended vouches for nobody: not for what was verified under it before, and not within the grace of a renewal', async () => {
    const endpoint = await enrolled()
    expect((await signed(endpoint, 'GET', tags)).status).toBe(200)
    const ending = Date.now() + 5_000
    await DB.prepare('UPDATE authorities SET not_after = ?').bind(ending).run()
    // The certificate itself says when its CA ends; the records only follow it.
    const authority = await activeAuthority(contextOf(real))
    expect(authority.notAfter).toBeGreaterThan(ending)
    forgetAuthorities()
    later(5_001)
    const csr = await createCsr(await generateKey(), 'x')
    expect([(await signed(endpoint, 'GET', tags)).code, (await signed(endpoint, 'POST', '/api/v1/endpoint/renew', { csr })).code]).toEqual(['bad_certificate', 'bad_certificate'])
  })
  it('is followed by another when every one has ended, and the EMS goes on', async () => {
    const first = await enrolled()
    await DB.prepare('UPDATE authorities SET not_after = 1').run()
    forgetAuthorities()
    const second = await enrolled()
    expect([(await signed(second, 'GET', tags)).status, (await signed(first, 'GET', tags)).code]).toEqual([200, 'bad_certificate'])
    const { items } = (await admin('GET', '/authorities')).json as { items: { active: boolean }[] }
    expect(items.map(({ active }) => active)).toEqual([true])
  })
  it('signs no certificate that outlives it', async () => {
    const authority = { ...await createAuthority({ name: 'x', now: Date.now() - 3640 * DAY }) }
    const issued = await issueCertificate({ authority, publicKeySpki: await exportPublicKey((await generateKey()).publicKey), purpose: 'agent', commonName: 'x', now: Date.now() })
    expect(issued.notAfter).toBe(authority.notAfter)
  })
})

describe('without the wrapping key', () => {
  let endpoint: Endpoint
  let invitation: string
  const locked = envWith({ WRAPPING_KEYS: '' })
  const ask = async (method: string, path: string, body?: object, headers: Record<string, string> = asAdministrator) => (await sendTo(locked, method, path, { body, headers })).code
  beforeEach(async () => {
    [endpoint, invitation] = [await enrolled(), await invite()]
    forgetAuthorities()
  })

  it('what needs the CA says so and changes nothing; the rest goes on', async () => {
    const by = (method: string, path: string, body?: object) => signatureOf(endpoint, method, path, body)
    const enrol = await enrolBody(invitation, await generateKey())
    const csr = { csr: await createCsr(await generateKey(), 'x') }
    expect(await ask('POST', '/api/v1/endpoint/enrol', enrol, {})).toBe('ca_locked')
    expect(await ask('POST', '/api/v1/endpoint/renew', csr, await by('POST', '/api/v1/endpoint/renew', csr))).toBe('ca_locked')
    expect(await ask('POST', '/api/v1/introduce', { challenge: 'ab'.repeat(32) }, {})).toBe('ca_locked')
    expect(await ask('POST', '/api/v1/admin/authorities/roll', {})).toBe('ca_locked')
    const report = await reportBody(1, { os: linux() })
    expect(await ask('POST', '/api/v1/endpoint/report', report, await by('POST', '/api/v1/endpoint/report', report))).toBe('')
    expect(await ask('GET', tags, undefined, await by('GET', tags))).toBe('')
    expect(await ask('GET', '/api/v1/admin/endpoints')).toBe('')
    // Nothing was spent: with the key it works.
    expect((await send('POST', '/api/v1/endpoint/enrol', { body: enrol })).status).toBe(200)
  })
  it('an endpoint is cut off all the same, and gets its document when the key is there again', async () => {
    const path = `/api/v1/admin/endpoints/${endpoint.uid}/deregister`
    expect(await ask('POST', path, { reason: 'stolen' })).toBe('')
    const refused = await signed(endpoint, 'GET', tags)
    expect([refused.code, refused.json.document]).toEqual(['deregistered', undefined])
    const certificates = (await DB.prepare('SELECT state FROM certificates WHERE uid = ?').bind(endpoint.uid).all<{ state: string }>()).results
    expect(certificates).toEqual([{ state: 'revoked' }])
    expect((await admin('POST', `/endpoints/${endpoint.uid}/deregister`, { reason: 'stolen' })).status).toBe(200)
    expect(typeof (await signed(endpoint, 'GET', tags)).json.document).toBe('string')
  })
  it('a mistyped key is a failure that is said in the log, not the same as none', async () => {
    const logged = vi.spyOn(console, 'log').mockImplementation(() => undefined)
    const { status, json } = await sendTo(envWith({ WRAPPING_KEYS: 'k1:AAAA' }), 'GET', '/api/v1/health')
    const lines = logged.mock.calls.map(([line]) => String(line))
    logged.mockRestore()
    expect([status, json.code, lines.some((line) => line.includes('WRAPPING_KEYS')), lines.some((line) => line.includes('AAAA'))]).toEqual([500, 'internal', true, false])
  })
})

describe('settings that would store what is refused', () => {
  it('are refused first: an EMS without TLS gives no invitation and no join code, and keeps none', async () => {
    await enrolled()
    const plain: Env = envWith({ PUBLIC_ORIGIN: '' })
    const count = async () => await DB.prepare('SELECT (SELECT count(*) FROM invitations) AS i, (SELECT count(*) FROM join_codes) AS j').first()
    const before = await count()
    for (const path of ['/invitations', '/join-codes']) {
      const response = await worker.fetch(new Request(`http://ems.test/api/v1/admin${path}`, { method: 'POST', headers: { ...asAdministrator, 'content-type': 'application/json' }, body: '{"name":"x"}' }), plain, createExecutionContext())
      expect([path, response.status]).toEqual([path, 422])
    }
    expect(await count()).toEqual(before)
  })
})
