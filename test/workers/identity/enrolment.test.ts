// From an invitation to an endpoint, and out again: what is refused, what a lost reply does, what cannot happen twice.
import { describe, expect, it } from 'vitest'
import { env } from 'cloudflare:workers'
import { trustAuthority, readCertificate } from '../../../identity/certificate.ts'
import { openDocument } from '../../../identity/document.ts'
import { generateKey } from '../../../identity/keys.ts'
import { createCsr } from '../../../identity/request.ts'
import { admin, der, enrolBody, enrolled, invite, send, signatureOf, signed } from '../ems.ts'

const { DB } = env as unknown as { DB: D1Database }
const count = async (table: string) => (await DB.prepare(`SELECT count(*) AS n FROM ${table}`).first<{ n: number }>())?.n
const enrol = async (invitation: string, keys: CryptoKeyPair, changes = {}) => send('POST', '/api/v1/endpoint/enrol', { body: await enrolBody(invitation, keys, changes) })
const tags = '/api/v1/endpoint/tags'

describe('the first requests', () => {
  it('make one CA, fifty at once', async () => {
    const answers = await Promise.all(Array.from({ length: 50 }, () => send('POST', '/api/v1/introduce', { body: { challenge: 'ab'.repeat(32) } })))
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
    expect(await count('authorities')).toBe(1)
    const { items } = (await admin('GET', '/authorities')).json as { items: { pin: string; certificate: string }[] }
    const authority = await trustAuthority(items[0]?.certificate ?? '')
    for (const { json } of answers) {
      const opened = await openDocument(String(json.document), { kind: 'introduction', to: '*', authorities: [authority], now: Date.now() })
      expect(opened.ok && opened.payload.body.challenge).toBe('ab'.repeat(32))
    }
  })
})

describe('an invitation', () => {
  it('makes an endpoint with a certificate that carries its UID, and signed documents addressed to it', async () => {
    const keys = await generateKey()
    const { status, json } = await enrol(await invite(), keys)
    expect(status).toBe(200)
    const info = readCertificate(der(json.certificate))
    expect([info?.commonName, info?.purpose]).toEqual([json.uid, 'agent'])
    const { items } = (await admin('GET', '/authorities')).json as { items: { certificate: string }[] }
    const authorities = [await trustAuthority(items[0]?.certificate ?? '')]
    for (const kind of ['profile', 'licence', 'rules', 'authorities'] as const) {
      expect((await openDocument(String(json[kind]), { kind, to: String(json.uid), authorities, now: Date.now() })).ok).toBe(true)
    }
  })
  it('enrols one of a hundred attempts at once', async () => {
    const invitation = await invite({ uses: 1 })
    const before = await count('endpoints') ?? 0
    const answers = await Promise.all(Array.from({ length: 100 }, async () => enrol(invitation, await generateKey())))
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1)
    expect(new Set(answers.filter(({ status }) => status !== 200).map(({ code }) => code))).toEqual(new Set(['invitation_refused']))
    expect(await count('endpoints')).toBe(before + 1)
  })
  it('gives the same key the same UID and certificate when the reply was lost, and another key nothing', async () => {
    const [invitation, keys] = [await invite(), await generateKey()]
    const [first, second] = [await enrol(invitation, keys), await enrol(invitation, keys)]
    expect([second.json.uid, second.json.certificate]).toEqual([first.json.uid, first.json.certificate])
    expect((await enrol(invitation, await generateKey())).code).toBe('invitation_refused')
  })
  it('gives one endpoint to the same key asking twice at once', async () => {
    const [invitation, keys] = [await invite({ uses: 5 }), await generateKey()]
    const [first, second] = await Promise.all([enrol(invitation, keys), enrol(invitation, keys)])
    expect([first.status, second.status, first.json.uid]).toEqual([200, 200, second.json.uid])
  })
  it('counts its uses, expires, and can be withdrawn', async () => {
    const counted = await invite({ uses: 2 })
    expect((await enrol(counted, await generateKey())).status).toBe(200)
    expect((await enrol(counted, await generateKey())).status).toBe(200)
    expect((await enrol(counted, await generateKey())).code).toBe('invitation_refused')
    const created = await admin('POST', '/invitations', { name: 'x' })
    await DB.prepare('UPDATE invitations SET expires_at = 1 WHERE id = ?').bind(created.json.id).run()
    const { items } = (await admin('GET', '/invitations')).json as { items: { id: string }[] }
    expect(items.map(({ id }) => id)).toContain(created.json.id)
    const withdrawn = await admin('POST', '/invitations', { name: 'y' })
    expect((await admin('DELETE', `/invitations/${String(withdrawn.json.id)}`)).status).toBe(200)
  })
  it('that expired or was withdrawn is refused', async () => {
    for (const sql of ['UPDATE invitations SET expires_at = 1', 'UPDATE invitations SET withdrawn_at = 1']) {
      const invitation = await invite()
      await DB.prepare(sql).run()
      expect((await enrol(invitation, await generateKey())).code).toBe('invitation_refused')
    }
    expect((await enrol('A'.repeat(43), await generateKey())).code).toBe('invitation_refused')
  })
  it('is not spent by an agent that is too old, or by a request that is no request', async () => {
    const [invitation, keys] = [await invite(), await generateKey()]
    expect((await enrol(invitation, keys, { protocol: '6.4.0' })).code).toBe('invalid')
    expect((await enrol(invitation, keys, { csr: (await createCsr(keys, 'x')).replace(/.{8}\n-----END/, 'AAAAAAAA\n-----END') })).code).toBe('invalid')
    expect((await enrol(invitation, keys)).status).toBe(200)
  })
})

describe('a licence', () => {
  it('refuses a seat when all are taken, throws nobody out, and frees one on deregistration', async () => {
    const first = await enrolled()
    const { json } = await admin('GET', '/licence')
    await admin('PUT', '/licence', { seats: Number(json.taken) })
    const invitation = await invite()
    expect((await enrol(invitation, await generateKey())).code).toBe('no_seat')
    await admin('PUT', '/licence', { seats: 0 })
    expect((await signed(first, 'GET', tags)).status).toBe(200)
    await admin('PUT', '/licence', { seats: Number(json.taken) })
    await admin('POST', `/endpoints/${first.uid}/deregister`, {})
    expect((await enrol(invitation, await generateKey())).status).toBe(200)
    await admin('PUT', '/licence', { seats: null })
  })
})

describe('an endpoint\'s request', () => {
  it('is refused when it is the very same one again', async () => {
    const endpoint = await enrolled()
    const headers = await signatureOf(endpoint, 'GET', tags)
    expect((await send('GET', tags, { headers })).status).toBe(200)
    expect((await send('GET', tags, { headers })).code).toBe('replayed')
  })
  it('with a clock wrong by days is told the EMS time and works by it', async () => {
    const endpoint = await enrolled()
    const refused = await signed(endpoint, 'GET', tags, undefined, { now: Date.now() + 3 * 86_400_000 })
    expect(refused.code).toBe('clock_skew')
    expect((await signed(endpoint, 'GET', tags, undefined, { now: Number(refused.json.emsTime) })).status).toBe(200)
  })
  it('is refused after its certificate was revoked', async () => {
    const endpoint = await enrolled()
    const serial = readCertificate(endpoint.certificate)?.serial ?? ''
    expect((await admin('POST', `/endpoints/${endpoint.uid}/certificates/${serial}/revoke`, {})).status).toBe(200)
    expect((await signed(endpoint, 'GET', tags)).code).toBe('certificate_revoked')
  })
  it('is refused after deregistration, with the signed document that says so', async () => {
    const endpoint = await enrolled()
    await admin('POST', `/endpoints/${endpoint.uid}/deregister`, { reason: 'left' })
    const refused = await signed(endpoint, 'GET', tags)
    expect(refused.code).toBe('deregistered')
    const { items } = (await admin('GET', '/authorities')).json as { items: { certificate: string }[] }
    const opened = await openDocument(String(refused.json.document), { kind: 'deregistration', to: endpoint.uid, authorities: [await trustAuthority(items[0]?.certificate ?? '')], now: Date.now() })
    expect(opened.ok && opened.payload.body.reason).toBe('left')
  })
})

describe('a renewal', () => {
  const renew = async (endpoint: Awaited<ReturnType<typeof enrolled>>, keys: CryptoKeyPair) => signed(endpoint, 'POST', '/api/v1/endpoint/renew', { csr: await createCsr(keys, 'x') })
  it('whose reply was lost gives the same certificate again, and the old one works until the new one is used', async () => {
    const endpoint = await enrolled()
    const keys = await generateKey()
    const [first, second] = [await renew(endpoint, keys), await renew(endpoint, keys)]
    expect(second.json.certificate).toBe(first.json.certificate)
    expect((await signed(endpoint, 'GET', tags)).status).toBe(200)
    const renewed = { ...endpoint, keys, certificate: der(first.json.certificate) }
    expect((await signed(renewed, 'GET', tags)).status).toBe(200)
    expect((await signed(endpoint, 'GET', tags)).code).toBe('certificate_revoked')
    const { json } = await admin('GET', `/endpoints/${endpoint.uid}`)
    expect((json.certificates as { serial: string }[]).map(({ serial }) => serial)).toEqual([readCertificate(renewed.certificate)?.serial])
  })
  it('leaves at most one unused certificate', async () => {
    const endpoint = await enrolled()
    const abandoned = await generateKey()
    const first = await renew(endpoint, abandoned)
    await renew(endpoint, await generateKey())
    expect((await signed({ ...endpoint, keys: abandoned, certificate: der(first.json.certificate) }, 'GET', tags)).code).toBe('certificate_revoked')
  })
})

describe('a browser certificate', () => {
  it('carries the same UID, and signs nothing to the EMS', async () => {
    const endpoint = await enrolled()
    const keys = await generateKey()
    const { json } = await signed(endpoint, 'POST', '/api/v1/endpoint/browser-certificate', { csr: await createCsr(keys, 'x'), user: 'alice' })
    const certificate = der(json.certificate)
    expect([readCertificate(certificate)?.commonName, readCertificate(certificate)?.purpose]).toEqual([endpoint.uid, 'browser'])
    expect((await signed({ ...endpoint, keys, certificate }, 'GET', tags)).code).toBe('wrong_purpose')
  })
})

describe('a roll-over of the CA', () => {
  it('keeps those of the old one working and lets a new one be introduced by either pin', async () => {
    const endpoint = await enrolled()
    const [old] = ((await admin('GET', '/authorities')).json as { items: { pin: string }[] }).items
    const next = await admin('POST', '/authorities/roll', {})
    expect((await signed(endpoint, 'GET', tags)).status).toBe(200)
    expect((await signed(await enrolled(), 'GET', tags)).status).toBe(200)
    for (const pin of [old?.pin, next.json.pin]) expect((await send('POST', '/api/v1/introduce', { body: { challenge: 'cd'.repeat(32), pin } })).status).toBe(200)
  })
})
