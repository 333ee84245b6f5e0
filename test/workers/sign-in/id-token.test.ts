// The word of an identity provider, by the front door: what is believed of it, and each reason for which it is not.
import { UnsecuredJWT } from 'jose'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { utf8 } from '../../../identity/encoding.ts'
import { dump } from '../dump.ts'
import { enrolled, linux, report, type Endpoint } from '../ems.ts'
import { begin, nonceFor, ownIdentity, present, providerOf, signIn, wireProviders, type Provider } from './provider.ts'

const seconds = () => Math.floor(Date.now() / 1000)
const identityRows = async () => ((await dump()).endpoint_sections as { section: string }[]).filter(({ section }) => section === 'identity')

beforeAll(() => { wireProviders() })
afterAll(() => { vi.unstubAllGlobals() })

describe('an ID token', () => {
  let provider: Provider
  let endpoint: Endpoint
  beforeAll(async () => {
    provider = await providerOf({ sessionSeconds: 3600 })
  })
  beforeEach(async () => {
    endpoint = await enrolled()
    await report(endpoint, 1, { os: linux() })
  })

  it('of the sign-in begun makes its person the verified user, from when it was proved to the end of the session', async () => {
    const begun = await begin(endpoint, provider)
    expect(begun.json).toMatchObject({ providers: [provider.name], begun: { provider: { name: provider.name, issuer: provider.issuer, clientId: 'sallyport-agent', scopes: ['openid', 'profile', 'email'], sessionSeconds: 3600 }, nonce: expect.stringMatching(/^[\w-]{43}$/) as unknown } })
    const at = (seconds() - 60) * 1000
    const { status, json } = await signIn(endpoint, provider, { auth_time: at / 1000 })
    const user = { issuer: provider.issuer, subject: 'person-1', email: 'alice@example.com', name: 'Alice', groups: ['staff'], authenticatedAt: at, expiresAt: at + 3_600_000 }
    expect([status, json]).toEqual([200, { provider: provider.name, user }])
    expect(await ownIdentity(endpoint)).toEqual({ provider: provider.name, user })
  })

  const refused: [string, string, (nonce: string) => Promise<string> | string, RegExp][] = [
    ['of another audience', 'audience', (nonce) => provider.token(nonce, { aud: 'another' }), /issued to another application/],
    ['of several audiences that does not say whose it is', 'audience', (nonce) => provider.token(nonce, { aud: ['sallyport-agent', 'another'] }), /issued to another application/],
    ['of several audiences that says it is another\'s', 'audience', (nonce) => provider.token(nonce, { aud: ['sallyport-agent', 'another'], azp: 'another' }), /issued to another application/],
    ['handed on by another application', 'audience', (nonce) => provider.token(nonce, { azp: 'another' }), /issued to another application/],
    ['without an audience', 'claim', (nonce) => provider.token(nonce, { aud: null }), /"aud"/],
    ['of another issuer', 'issuer', (nonce) => provider.token(nonce, { iss: `${provider.issuer}/` }), /issued by another/],
    ['with another nonce', 'nonce', () => provider.token('A'.repeat(43)), /does not belong to the sign-in/],
    ['without a nonce', 'nonce', (nonce) => provider.token(nonce, { nonce: null }), /does not belong to the sign-in/],
    ['with a nonce that is none', 'nonce', (nonce) => provider.token(nonce, { nonce: [nonce] }), /does not belong to the sign-in/],
    ['that has expired', 'expired', (nonce) => provider.token(nonce, { exp: seconds() - 61 }), /has expired/],
    ['without an end', 'claim', (nonce) => provider.token(nonce, { exp: null }), /"exp"/],
    ['of the future', 'future', (nonce) => provider.token(nonce, { iat: seconds() + 90 }), /of the future/],
    ['proved in the future', 'future', (nonce) => provider.token(nonce, { auth_time: seconds() + 90 }), /of the future/],
    ['not valid yet', 'future', (nonce) => provider.token(nonce, { nbf: seconds() + 90 }), /of the future/],
    ['proved too long ago', 'too-old', (nonce) => provider.token(nonce, { auth_time: seconds() - 3600 }), /longer ago than a sign-in lasts/],
    ['proved at no time', 'claim', (nonce) => provider.token(nonce, { auth_time: 'yesterday' }), /"auth_time"/],
    ['that does not say when the person proved it, because the device did not ask,', 'claim', (nonce) => provider.token(nonce, { auth_time: null }), /"auth_time"/],
    ['that is not signed', 'algorithm', (nonce) => new UnsecuredJWT({ nonce, sub: 'x', iss: provider.issuer, aud: 'sallyport-agent', iat: seconds(), exp: seconds() + 60 }).encode(), /asymmetric/],
    ['signed with the public key as a shared secret', 'algorithm', async (nonce) => await provider.sign({ nonce, sub: 'x', iss: provider.issuer, aud: 'sallyport-agent', iat: seconds(), exp: seconds() + 60 }, { alg: 'HS256' }, utf8(await provider.publicPem())), /asymmetric/],
    ['that names a key which is not published', 'key', (nonce) => provider.token(nonce, {}, { kid: 'unheard-of' }), /names no key/],
    ['whose signature is another\'s', 'signature', async (nonce) => (await provider.token(nonce)).replace(/\.[^.]+$/, `.${(await provider.token(nonce, { sub: 'x' })).split('.')[2]}`), /does not verify/],
    ['that was altered', 'signature', async (nonce) => {
      const [header, body, signature] = (await provider.token(nonce)).split('.')
      return `${header}.${btoa(atob((body ?? '').replaceAll('-', '+').replaceAll('_', '/')).replace('person-1', 'person-2')).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')}.${signature}`
    }, /does not verify/],
    ['with a demand that nobody knows', 'algorithm', async (nonce) => (await provider.token(nonce)).replace(/^[^.]+/, btoa('{"alg":"RS256","kid":"first","crit":["x"],"x":1}').replaceAll('=', '')), /algorithm/],
    ['that is no JSON', 'malformed', () => 'e30.e30.e30', /not a signed JWT/],
    ['without a subject', 'claim', (nonce) => provider.token(nonce, { sub: null }), /"sub"/],
    ['whose subject hides what it is', 'claim', (nonce) => provider.token(nonce, { sub: 'a\u202eb' }), /"sub"/],
    ['with an e-mail that is none', 'claim', (nonce) => provider.token(nonce, { email: 'alice' }), /"email"/],
    ['with a name that is none', 'claim', (nonce) => provider.token(nonce, { name: 'a\nb' }), /"name"/],
  ]
  it.each(refused)('%s is refused with its own sentence, and nothing is stored', async (_, reason, make, sentence) => {
    const token = await make(await nonceFor(endpoint, provider))
    const before = await dump()
    const answer = await present(endpoint, provider, token)
    expect(answer).toMatchObject({ status: 422, code: 'invalid', json: { detail: expect.stringMatching(sentence) as unknown, errors: [{ pointer: '/idToken', detail: reason }] } })
    expect(await dump()).toEqual(before)
  })

  it('of several audiences is taken when it says that it is ours', async () => {
    expect((await signIn(endpoint, provider, { aud: ['another', 'sallyport-agent'], azp: 'sallyport-agent' })).status).toBe(200)
  })
  it('of another endpoint\'s sign-in is refused, and of no sign-in at all', async () => {
    const other = await enrolled()
    const token = await provider.token(await nonceFor(other, provider))
    expect(await present(endpoint, provider, token)).toMatchObject({ status: 409, code: 'conflict', json: { detail: expect.stringMatching(/No sign-in/) as unknown } })
    await nonceFor(endpoint, provider)
    expect(await present(endpoint, provider, token)).toMatchObject({ status: 422, json: { errors: [{ detail: 'nonce' }] } })
    expect((await present(other, provider, token)).status).toBe(200)
  })
  it('takes an e-mail only where the provider verified it, unless the organisation owns every address', async () => {
    expect((await signIn(endpoint, provider, { email_verified: false })).json.user).not.toHaveProperty('email')
    expect((await signIn(endpoint, provider, { email_verified: null })).json.user).not.toHaveProperty('email')
    expect((await signIn(endpoint, provider, { email_verified: 'true', email: 'not even one' })).json.user).not.toHaveProperty('email')
    const owned = await providerOf({ trustEmail: 'always' })
    expect((await signIn(endpoint, owned, { email_verified: null })).json).toMatchObject({ user: { email: 'alice@example.com' } })
  })
  it('takes an e-mail only of the domains that the provider may speak for, whatever it says of it', async () => {
    const own = await providerOf({ trustEmail: 'always', emailDomains: ['example.com', 'example.org'] })
    for (const email of ['alice@EXAMPLE.com', 'alice@example.org']) expect((await signIn(endpoint, own, { email })).json).toMatchObject({ user: { email } })
    for (const email of ['alice@corp.test', 'alice@sub.example.com', 'alice@example.com.corp.test', 'alice@notexample.com', 'example.com@corp.test']) expect((await signIn(endpoint, own, { email })).json.user, email).not.toHaveProperty('email')
    expect((await signIn(endpoint, own, { email: ['alice@example.com'] })).status).toBe(422)
  })
  it.each<[string, Record<string, unknown>, string, unknown]>([
    ['are taken from the claim that is set', { roles: ['ops', 'ops', 'staff'], groups: ['other'] }, 'told', ['ops', 'staff']],
    ['may be none', { roles: [] }, 'told', []],
    ['are not told without the claim', {}, 'absent', undefined],
    ['are not told where there are too many', { roles: Array.from({ length: 257 }, (_, n) => `group-${n}`) }, 'too-many', undefined],
    ['are not told where the provider says there are too many', { _claim_names: { roles: 'src1' } }, 'overage', undefined],
    ['are not told where they are no list', { roles: 'admins' }, 'no-list', undefined],
    ['are not told where one of them does not fit', { roles: ['staff', 'x'.repeat(257)] }, 'unfit', undefined],
    ['are not told where one of them is no text', { roles: ['staff', { name: 'admins' }] }, 'unfit', undefined],
  ])('groups %s', async (_, claims, told, groups) => {
    const own = await providerOf({ groupsClaim: 'roles' })
    const log = vi.spyOn(console, 'log').mockImplementation(() => undefined)
    const { status, json } = await signIn(endpoint, own, claims)
    const lines = log.mock.calls.map(([line]) => JSON.parse(String(line)) as Record<string, unknown>)
    log.mockRestore()
    expect([status, (json.user as { groups?: unknown }).groups]).toEqual([200, groups])
    expect(lines.find(({ event }) => event === 'signed-in')).toMatchObject({ groups: told === 'told' ? (groups as unknown[]).length : `not told: ${told}` })
  })
  it('spends its sign-in: again it answers the same, another one not, and once another is begun neither', async () => {
    const nonce = await nonceFor(endpoint, provider)
    const [first, second] = [await provider.token(nonce), await provider.token(nonce, { sub: 'person-2' })]
    const answer = await present(endpoint, provider, first)
    expect(await present(endpoint, provider, first)).toEqual(answer)
    expect(await present(endpoint, provider, second)).toMatchObject({ status: 409, json: { detail: expect.stringMatching(/spent/) as unknown } })
    expect(await ownIdentity(endpoint)).toMatchObject({ user: { subject: 'person-1' } })
    await nonceFor(endpoint, provider)
    expect(await present(endpoint, provider, first)).toMatchObject({ status: 422, json: { errors: [{ detail: 'nonce' }] } })
    expect(await ownIdentity(endpoint)).toMatchObject({ user: { subject: 'person-1' } })
  })
  it('of two at once for one sign-in lets one through', async () => {
    const nonce = await nonceFor(endpoint, provider)
    const tokens = await Promise.all(['a', 'b', 'c', 'd'].map((sub) => provider.token(nonce, { sub })))
    const answers = await Promise.all(tokens.map((token) => present(endpoint, provider, token)))
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409])
    const won = answers.find(({ status }) => status === 200)
    expect(await ownIdentity(endpoint)).toEqual(won?.json)
    expect((await identityRows()).length).toBeGreaterThan(0)
  })
})
