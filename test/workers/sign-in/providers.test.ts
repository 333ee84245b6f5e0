// Identity providers: what is asked of them and when, what they answer wrongly, and what becomes of whoever is signed in by one that goes.
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { admin, enrolled, linux, report, sendTo, signatureOf, type Endpoint } from '../ems.ts'
import { by, dataOf, joined, update } from '../gateway.ts'
import { meter } from '../meter.ts'
import { contextOf, envWith, interposed, real } from '../standing.ts'
import { reEvaluate, atRest } from '../../../workers/flows/re-evaluate.ts'
import { begin, CLIENT, nonceFor, ownIdentity, present, providerOf, signIn, wireProviders, type Provider } from './provider.ts'

const { DB } = real
const CONFIGURATION = '/.well-known/openid-configuration'
const list = async () => (await admin('GET', '/identity-providers')).json.items as { name: string }[]
const tagOf = async ({ uid }: Endpoint) => ((await admin('GET', `/endpoints/${uid}`)).json.tags as { state: string }[])[0]?.state

beforeAll(() => { wireProviders() })
afterAll(() => { vi.unstubAllGlobals() })
beforeEach(async () => { await DB.batch(['identity_providers', 'sign_ins', 'endpoints', 'endpoint_sections', 'endpoint_tags', 'rule_sets', 'tags', 'gateways'].map((table) => DB.prepare(`DELETE FROM ${table}`))) })

describe('an identity provider', () => {
  it('is set by name with what is not said by default, listed by name, replaced, and removed', async () => {
    const b = await providerOf({ groupsClaim: 'roles', redirectPort: 8400 })
    const a = await providerOf()
    await admin('PUT', '/identity-providers/a-first', { issuer: a.issuer, clientId: 'x' })
    expect(await list()).toEqual([
      { name: 'a-first', issuer: a.issuer, clientId: 'x', scopes: ['openid', 'profile', 'email'], groupsClaim: 'groups', trustEmail: 'verified', sessionSeconds: 43_200 },
      expect.objectContaining({ name: b.name, groupsClaim: 'roles', redirectPort: 8400 }), expect.objectContaining({ name: a.name }),
    ])
    const { json } = await admin('GET', '/identity-providers?limit=1')
    expect([(json.items as object[]).length, json.next]).toEqual([1, 'a-first'])
    expect((await admin('GET', `/identity-providers?limit=1&after=${String(json.next)}`)).json).toMatchObject({ items: [{ name: b.name }] })
    expect((await admin('PUT', '/identity-providers/a-first', { issuer: b.issuer, clientId: 'y', trustEmail: 'always' })).json).toMatchObject({ issuer: b.issuer, clientId: 'y', trustEmail: 'always' })
    expect((await admin('DELETE', '/identity-providers/a-first')).json).toEqual({ ok: true })
    expect((await admin('DELETE', '/identity-providers/a-first')).code).toBe('not_found')
    expect((await list()).length).toBe(2)
  })
  it('that is none is refused with its place', async () => {
    for (const [body, pointer] of [
      [{ issuer: 'http://id.example.com', clientId: 'x' }, '/issuer'], [{ issuer: 'https://id.example.com?x=1', clientId: 'x' }, '/issuer'], [{ issuer: 'https://id.example.com', clientId: '' }, '/clientId'],
      [{ issuer: 'https://id.example.com', clientId: 'x', scopes: ['profile'], check: false }, '/scopes'], [{ issuer: 'https://id.example.com', clientId: 'x', sessionSeconds: 1 }, '/sessionSeconds'],
      ...['https://id.example.com\n', ' https://id.example.com', 'https://id.exa\tmple.com', 'https://id.example.com/?', 'https://id.example.com/#', 'https:\\\\id.example.com', 'https:id.example.com', 'https://id.example.com/\u001b[2J', 'https://id.example.com/\u202e'].map((issuer) => [{ issuer, clientId: 'x', check: false }, '/issuer'] as const),
    ] as const) expect(await admin('PUT', '/identity-providers/x', body)).toMatchObject({ status: 422, json: { errors: [{ pointer }] } })
    expect(await list()).toEqual([])
  })
  it('is one of 32 at most', async () => {
    for (let n = 0; n < 32; n++) expect((await admin('PUT', `/identity-providers/p${n}`, { issuer: 'https://id.example.com', clientId: 'x', check: false })).status).toBe(200)
    expect((await admin('PUT', '/identity-providers/one-more', { issuer: 'https://id.example.com', clientId: 'x', check: false })).code).toBe('conflict')
    expect((await admin('PUT', '/identity-providers/p7', { issuer: 'https://id.example.com', clientId: 'y', check: false })).status).toBe(200)
  })
  it('is chosen by whoever begins, where there are several; the only one needs no choice', async () => {
    const endpoint = await enrolled()
    expect(await begin(endpoint)).toMatchObject({ status: 404, json: { detail: expect.stringMatching(/administrator sets one/) as unknown } })
    const one = await providerOf()
    expect((await begin(endpoint)).json).toMatchObject({ providers: [one.name], begun: { provider: { name: one.name } } })
    const two = await providerOf()
    expect((await begin(endpoint)).json).toEqual({ providers: [one.name, two.name].sort(), begun: null })
    expect((await begin(endpoint, two)).json).toMatchObject({ begun: { provider: { name: two.name } } })
    expect(await begin(endpoint, { name: 'unheard-of' } as Provider)).toMatchObject({ status: 404, json: { detail: expect.stringContaining(one.name) as unknown } })
    expect((await present(endpoint, one, await one.token('A'.repeat(43)))).status).toBe(409)
  })

  const wrong: [string, (provider: Provider) => void, RegExp][] = [
    ['does not answer', ({ answers }) => answers.set(CONFIGURATION, () => Promise.reject(new TypeError('connection refused'))), /does not answer/],
    ['breaks off in the middle', ({ answers }) => answers.set(CONFIGURATION, () => new Response(new ReadableStream({ start(controller) { controller.enqueue(new TextEncoder().encode('{"iss')); controller.error(new TypeError('reset')) } }))), /does not answer/],
    ['answers with an error', ({ answers }) => answers.set(CONFIGURATION, () => new Response('', { status: 502 })), /status 502/],
    ['sends elsewhere', ({ answers, issuer }) => answers.set(CONFIGURATION, () => Response.redirect(`${issuer}/keys`, 302)), /redirect, which is not followed/],
    ['answers without end', ({ answers }) => answers.set(CONFIGURATION, () => new Response(new ReadableStream({ pull(controller) { controller.enqueue(new Uint8Array(65_536)) } }))), /more than 256 KiB/],
    ['answers with what is no JSON', ({ answers }) => answers.set(CONFIGURATION, () => new Response('<html>')), /no JSON/],
    ['has no configuration', ({ answers }) => answers.set(CONFIGURATION, () => Response.json({})), /no OpenID Connect configuration/],
    ['is another', ({ answers, issuer }) => answers.set(CONFIGURATION, () => Response.json({ issuer: `${issuer}/`, jwks_uri: `${issuer}/keys` })), /another issuer/],
    ['has its keys at an address of the network around', ({ answers, issuer }) => answers.set(CONFIGURATION, () => Response.json({ issuer, jwks_uri: 'https://0xa9fea9fe/keys' })), /https:\/\/169\.254\.169\.254\/keys, which is no name of its own/],
    ['has its keys on the machine of the EMS', ({ answers, issuer }) => answers.set(CONFIGURATION, () => Response.json({ issuer, jwks_uri: 'https://localhost./keys' })), /no name of its own/],
    ['has its keys where anybody can change them on the way', ({ answers, issuer }) => answers.set(CONFIGURATION, () => Response.json({ issuer, jwks_uri: 'http://127.0.0.1/keys' })), /not at an https address/],
  ]
  const wrongKeys: typeof wrong = [
    ['gives no keys', ({ answers }) => answers.set('/keys', () => new Response('', { status: 404 })), /status 404/],
    ['sends elsewhere for its keys', ({ answers, issuer }) => answers.set('/keys', () => Response.redirect(`${issuer}/other`, 307)), /redirect/],
  ]
  it.each([...wrong, ...wrongKeys, ['gives no set of keys', ({ answers }) => answers.set('/keys', () => Response.json({ keys: 'none' })), /no set of keys/]] as typeof wrong)('that %s lets nobody in, and says so', async (_, spoil, sentence) => {
    const [provider, endpoint] = [await providerOf(), await enrolled()]
    const token = await provider.token(await nonceFor(endpoint, provider))
    spoil(provider)
    expect(await present(endpoint, provider, token)).toMatchObject({ status: 503, code: 'busy', json: { detail: expect.stringMatching(sentence) as unknown, retryAfterSeconds: 5 } })
    expect(await ownIdentity(endpoint)).toBeNull()
  })
  const unfit: typeof wrong = [
    ['publishes no place to sign in', ({ answers, issuer }) => answers.set(CONFIGURATION, () => Response.json({ issuer, jwks_uri: `${issuer}/keys` })), /no endpoints for the authorization code flow/],
    ['knows no PKCE', ({ answers, issuer }) => answers.set(CONFIGURATION, () => Response.json({ issuer, jwks_uri: `${issuer}/keys`, authorization_endpoint: 'x', token_endpoint: 'x', code_challenge_methods_supported: ['plain'] })), /PKCE/],
    ['signs with a shared secret', ({ answers, issuer }) => answers.set(CONFIGURATION, () => Response.json({ issuer, jwks_uri: `${issuer}/keys`, authorization_endpoint: 'x', token_endpoint: 'x', id_token_signing_alg_values_supported: ['HS256'] })), /signs ID tokens with none of/],
    ['publishes no key', ({ answers }) => answers.set('/keys', () => Response.json({ keys: [{ kty: 'oct' }] })), /no key that could have signed/],
  ]
  it.each([...wrong, ...wrongKeys, ...unfit])('that %s is not saved, unless it is said not to look', async (_, spoil, sentence) => {
    const provider = await providerOf()
    spoil(provider)
    const settings = { issuer: provider.issuer, clientId: 'another' }
    expect(await admin('PUT', `/identity-providers/${provider.name}`, settings)).toMatchObject({ status: 422, json: { detail: expect.stringMatching(sentence) as unknown, errors: [{ pointer: '/issuer' }] } })
    expect(await list()).toEqual([expect.objectContaining({ clientId: CLIENT })])
    expect((await admin('PUT', `/identity-providers/${provider.name}`, { ...settings, check: false })).status).toBe(200)
  })

  it('is asked for its configuration and keys once, again for a key that it did not have, and not again for one that there is not', async () => {
    const [provider, endpoint] = [await providerOf(), await enrolled()]
    provider.asked.length = 0
    const start = Date.now()
    const at = async (afterMs: number, claims: object, header: object) => {
      vi.useFakeTimers({ toFake: ['Date'], now: start + afterMs })
      try {
        return (await present(endpoint, provider, await provider.token(await nonceFor(endpoint, provider), { ...claims }, { ...header }))).status
      } finally {
        vi.useRealTimers()
      }
    }
    const asked = () => provider.asked.splice(0).map((url) => url.slice(provider.issuer.length))
    expect([await at(0, {}, {}), await at(1000, {}, {}), asked()]).toEqual([200, 200, [CONFIGURATION, '/keys']])
    await provider.rotate('second')
    expect([await at(2000, {}, {}), asked()]).toEqual([422, []])
    expect([await at(31_000, {}, {}), asked()]).toEqual([200, ['/keys']])
    expect([await at(32_000, {}, { kid: 'made-up' }), await at(33_000, {}, { kid: 'made-up-2' }), asked()]).toEqual([422, 422, []])
    expect([await at(62_000, {}, { kid: 'made-up' }), await at(63_000, {}, { kid: 'made-up' }), asked()]).toEqual([422, 422, ['/keys']])
    expect([await at(601_000, {}, {}), asked()]).toEqual([200, [CONFIGURATION, '/keys']])
  })
  it('that does not answer is not asked by everybody at once, and is asked again five seconds later', async () => {
    const [provider, endpoint] = [await providerOf(), await enrolled()]
    const token = await provider.token(await nonceFor(endpoint, provider))
    const answer = provider.answers.get(CONFIGURATION)
    provider.answers.delete(CONFIGURATION)
    provider.asked.length = 0
    for (let n = 0; n < 3; n++) expect((await present(endpoint, provider, token)).status).toBe(503)
    expect(provider.asked.length).toBe(1)
    provider.answers.set(CONFIGURATION, answer ?? (() => new Response()))
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 5001 })
    expect((await present(endpoint, provider, token)).status).toBe(200)
    vi.useRealTimers()
  })
  it.each([['can not be had', null], ['are none', () => Response.json({ keys: 'none' })]] as const)('whose keys %s is asked for a key that is made up once in five seconds, and whoever shows one that is known gets in', async (_, answers) => {
    const [provider, endpoint] = [await providerOf(), await enrolled()]
    const start = Date.now()
    const at = async (afterMs: number, header: object) => {
      vi.useFakeTimers({ toFake: ['Date'], now: start + afterMs })
      try {
        return (await present(endpoint, provider, await provider.token(await nonceFor(endpoint, provider), {}, { ...header }))).status
      } finally {
        vi.useRealTimers()
      }
    }
    expect(await at(0, {})).toBe(200)
    if (answers === null) provider.answers.delete('/keys')
    else provider.answers.set('/keys', answers)
    provider.asked.length = 0
    expect([await at(60_000, { kid: 'made-up' }), await at(60_001, { kid: 'made-up-2' }), await at(60_002, { kid: 'made-up-3' }), await at(60_003, {}), provider.asked.length]).toEqual([503, 503, 503, 200, 1])
    expect([await at(65_001, { kid: 'made-up' }), provider.asked.length]).toEqual([503, 2])
  })
  it('that names its keys by what a terminal obeys is told of without it', async () => {
    const provider = await providerOf()
    provider.answers.set(CONFIGURATION, () => Response.json({ issuer: provider.issuer, jwks_uri: `${provider.issuer}/\u001b]0;x\u0007\u202ekeys`, authorization_endpoint: 'x', token_endpoint: 'x' }))
    const { status, json } = await admin('PUT', `/identity-providers/${provider.name}`, { issuer: provider.issuer, clientId: CLIENT })
    expect([status, /[\u0007\u001b\u202e]/.test(String(json.detail)), json.detail]).toEqual([422, false, expect.stringContaining('/%1B]0;x%07%E2%80%AEkeys')])
  })
  it('that was removed while a token is looked at lets nobody in', async () => {
    const [provider, endpoint] = [await providerOf(), await enrolled()]
    const body = { provider: provider.name, idToken: await provider.token(await nonceFor(endpoint, provider)) }
    let removed = 0
    const between = interposed(DB, { async before(sql) {
      if (sql.some((each) => each.startsWith('update "sign_ins"')) && removed++ === 0) expect((await admin('DELETE', `/identity-providers/${provider.name}`)).status).toBe(200)
    } })
    const path = '/api/v1/endpoint/identity'
    const answer = await sendTo(envWith({ DB: between }), 'POST', path, { body, headers: await signatureOf(endpoint, 'POST', path, body) })
    expect([removed, answer.status, await ownIdentity(endpoint)]).toEqual([1, 404, null])
  })
})

describe('whoever is signed in', () => {
  /** The re-evaluation is not told: what it would do, the test does itself. */
  const silent = { getByName: () => ({ start: () => Promise.resolve(), due: () => Promise.resolve() }) } as never
  const quietly = (method: string, path: string, body?: object) => sendTo(envWith({ RE_EVALUATION: silent }), method, `/api/v1/admin${path}`, { body, headers: { authorization: `Bearer ${real.ADMIN_TOKEN ?? ''}` } })
  const setting = (provider: Provider, changes: object) => quietly('PUT', `/identity-providers/${provider.name}`, { issuer: provider.issuer, clientId: CLIENT, check: false, ...changes })
  let provider: Provider
  let endpoint: Endpoint
  beforeEach(async () => {
    provider = await providerOf({ sessionSeconds: 3600 })
    await admin('POST', '/rule-sets', { name: 'verified', tag: 'verified', rules: { linux: { conditions: [{ type: 'user-identity', verified: true }] } } })
    endpoint = await enrolled()
    await report(endpoint, 1, { os: linux() })
    await signIn(endpoint, provider)
    expect(await tagOf(endpoint)).toBe('present')
  })
  it.each<[string, (each: Provider) => Promise<unknown>]>([
    ['removed', ({ name }) => quietly('DELETE', `/identity-providers/${name}`)],
    ['another issuer', (each) => setting(each, { issuer: 'https://other.example.com', sessionSeconds: 3600 })],
    ['another client', (each) => setting(each, { clientId: 'other', sessionSeconds: 3600 })],
    ['trusted otherwise', (each) => setting(each, { trustEmail: 'always', sessionSeconds: 3600 })],
    ['of other domains', (each) => setting(each, { emailDomains: ['example.org'], sessionSeconds: 3600 })],
    ['of shorter sessions', (each) => setting(each, { sessionSeconds: 3599 })],
  ])('by a provider that is %s is signed out: at once for the EMS, within a moment for gateways', async (_, change) => {
    const gateway = await joined()
    await update(gateway.serial, { share_mode: 1, share_tag_types: [1] })
    await change(provider)
    expect(await ownIdentity(endpoint)).toBeNull()
    // A report that comes first finds nobody, and keeps it due.
    await report(endpoint, 2, { os: linux('13') })
    expect(await tagOf(endpoint)).toBe('unknown')
    expect((await admin('GET', `/endpoints/${endpoint.uid}`)).json).toMatchObject({ signedInBy: null, facts: expect.not.objectContaining({ identity: expect.anything() as unknown }) as unknown })
    const step = await reEvaluate(contextOf(real), atRest, Date.now())
    expect([step.written, await DB.prepare('SELECT identity_by, identity_until, next_due FROM endpoints WHERE uid = ?').bind(endpoint.uid).first(), await DB.prepare('SELECT 1 FROM endpoint_sections WHERE section = \'identity\'').first()])
      .toEqual([1, { identity_by: null, identity_until: null, next_due: null }, null])
    const page = dataOf(await by(gateway, 'GET', '/api/v1/report/fct/sysinfo')).data as Record<string, object>
    expect(page[endpoint.uid]).not.toHaveProperty('verified_user')
    expect((await DB.prepare('SELECT tables FROM change_log WHERE uid = ? ORDER BY revision DESC LIMIT 1').bind(endpoint.uid).first<{ tables: string }>())?.tables).toContain('sysinfo')
  })
  it('by a provider whose record is damaged can not be verified anew, and is signed out when it is set again', async () => {
    await DB.prepare('UPDATE identity_providers SET body = \'{\' WHERE name = ?').bind(provider.name).run()
    expect([(await begin(endpoint)).status, await list()]).toEqual([404, []])
    expect([(await setting(provider, { sessionSeconds: 3600 })).status, await ownIdentity(endpoint), (await list()).length]).toEqual([200, null, 1])
  })
  it('stays so when the provider is set again as it is, or to what does not touch what was said', async () => {
    await setting(provider, { sessionSeconds: 3600 })
    await setting(provider, { sessionSeconds: 7200, scopes: ['openid', 'groups'], redirectPort: 9000 })
    expect([await ownIdentity(endpoint), await tagOf(endpoint)]).toEqual([expect.anything(), 'present'])
    const limited = { sessionSeconds: 7200, emailDomains: ['example.com', 'example.org'] }
    await setting(provider, limited)
    await signIn(endpoint, provider)
    await setting(provider, limited)
    expect(await ownIdentity(endpoint)).not.toBeNull()
  })
  it('by a provider that is removed is signed out, hundreds of them within the limits of each invocation', async () => {
    const copies = Array.from({ length: 500 }, (_, n) => n.toString(16).padStart(32, '0'))
    const columns = (await DB.prepare('SELECT name FROM pragma_table_info(\'endpoints\')').all<{ name: string }>()).results.map(({ name }) => name).filter((name) => name !== 'uid').join(', ')
    await DB.batch([
      DB.prepare(`INSERT INTO endpoints (uid, ${columns}) SELECT j.value, ${columns} FROM endpoints CROSS JOIN json_each(?) j WHERE uid = ?`).bind(JSON.stringify(copies), endpoint.uid),
      DB.prepare('INSERT INTO endpoint_sections SELECT j.value, section, hash, at, body FROM endpoint_sections CROSS JOIN json_each(?) j WHERE uid = ?').bind(JSON.stringify(copies), endpoint.uid),
      DB.prepare('INSERT INTO endpoint_tags SELECT tag_uid, j.value, state, valid_until, since FROM endpoint_tags CROSS JOIN json_each(?) j WHERE uid = ?').bind(JSON.stringify(copies), endpoint.uid),
    ])
    expect((await quietly('DELETE', `/identity-providers/${provider.name}`)).status).toBe(200)
    const metered = meter(DB)
    let [standing, written, steps] = [atRest, 0, 0]
    for (let next: number | null = 0; next !== null && steps < 20; steps++) {
      metered.reset()
      const step = await reEvaluate(contextOf(envWith({ DB: metered.database })), standing, Date.now());
      [standing, written, next] = [step.standing, written + step.written, step.next !== null && step.next <= Date.now() + 60_000 ? step.next : null]
    }
    expect(written).toBe(501)
    expect(await DB.prepare('SELECT count(*) AS n FROM endpoint_sections WHERE section = \'identity\'').first()).toEqual({ n: 0 })
    expect(await DB.prepare('SELECT count(*) AS n FROM endpoints WHERE identity_by IS NOT NULL OR identity_until IS NOT NULL OR next_due IS NOT NULL').first()).toEqual({ n: 0 })
    expect(await DB.prepare('SELECT state, count(*) AS n FROM endpoint_tags GROUP BY state').all().then(({ results }) => results)).toEqual([{ state: 'unknown', n: 501 }])
  })
})
