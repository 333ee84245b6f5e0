// Who is signed in, by the front door: tags and gateways hear of it at once, and of its end, whichever way it ends.
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { admin, enrolled, linux, report, sendTo, signatureOf, type Endpoint } from '../ems.ts'
import { by, dataOf, greeted, joined, messageOf, update, type Frame, type Gateway } from '../gateway.ts'
import { meter } from '../meter.ts'
import { contextOf, envWith, interposed, real } from '../standing.ts'
import { reEvaluate, atRest } from '../../../workers/flows/re-evaluate.ts'
import { begin, nonceFor, ownIdentity, present, providerOf, signIn, wireProviders, type Provider } from './provider.ts'

const { DB } = real
const seconds = () => Math.floor(Date.now() / 1000)
const tagOf = async ({ uid }: Endpoint) => ((await admin('GET', `/endpoints/${uid}`)).json.tags as { state: string; validUntil: number | null }[])[0]
const logged = async ({ uid }: Endpoint) => (await DB.prepare('SELECT tables FROM change_log WHERE uid = ? ORDER BY revision').bind(uid).all<{ tables: string }>()).results.map(({ tables }) => tables)
const sectionOf = ({ uid }: Endpoint) => DB.prepare('SELECT at FROM endpoint_sections WHERE uid = ? AND section = \'identity\'').bind(uid).first()
const pageOf = async (gateway: Gateway, { uid }: Endpoint) => (dataOf(await by(gateway, 'GET', '/api/v1/report/fct/sysinfo')).data as Record<string, { verified_user?: object } | undefined>)[uid]
const watching = async () => {
  const gateway = await joined()
  await update(gateway.serial, { share_mode: 1, share_tag_types: [1] })
  return gateway
}
const recordIn = (frame: Frame, uid: string) => {
  const told = messageOf(frame, 'changed')
  return told?.table === 'sysinfo' ? (told.data as Record<string, { verified_user?: object } | null> | undefined)?.[uid] : undefined
}

beforeAll(() => { wireProviders() })
afterAll(() => { vi.unstubAllGlobals() })

describe('a person who signs in', () => {
  let provider: Provider
  let endpoint: Endpoint
  beforeAll(async () => { provider = await providerOf({ sessionSeconds: 3600 }) })
  beforeEach(async () => {
    await DB.batch(['rule_sets', 'tags', 'gateways', 'endpoints'].map((table) => DB.prepare(`DELETE FROM ${table}`)))
    await admin('POST', '/rule-sets', { name: 'staff', tag: 'staff', rules: { linux: { conditions: [{ type: 'user-identity', verified: true, groups: ['staff'], issuer: provider.issuer }] } } })
    endpoint = await enrolled()
    await report(endpoint, 1, { os: linux() })
  })

  it('has the tag of the group until the session ends, and gateways know who it is, before that is answered', async () => {
    const gateway = await watching()
    const { listening } = await greeted(gateway)
    expect(await tagOf(endpoint)).toMatchObject({ state: 'unknown' })
    const authTime = seconds() - 30
    expect((await signIn(endpoint, provider, { auth_time: authTime })).status).toBe(200)
    expect(await tagOf(endpoint)).toMatchObject({ state: 'present', validUntil: (authTime + 3600) * 1000 })
    expect((await logged(endpoint)).at(-1)).toBe('uid_tags,tags,sysinfo')
    const user = { issuer: provider.issuer, subject: 'person-1', email: 'alice@example.com', name: 'Alice', groups: ['staff'], authenticated_at: authTime, expires_at: authTime + 3600 }
    const noticed = await listening.next((frame) => recordIn(frame, endpoint.uid)?.verified_user !== undefined)
    expect([recordIn(noticed, endpoint.uid)?.verified_user, (await pageOf(gateway, endpoint))?.verified_user]).toEqual([user, user])
    expect((await admin('GET', `/endpoints/${endpoint.uid}`)).json).toMatchObject({ signedInBy: provider.name, facts: { identity: { provenance: 'proved', value: { subject: 'person-1' } } } })
  })
  it('signs in before the first report too, and the tag is told with that', async () => {
    const fresh = await enrolled()
    expect((await signIn(fresh, provider)).status).toBe(200)
    expect(await tagOf(fresh)).toBeUndefined()
    await report(fresh, 1, { os: linux() })
    expect(await tagOf(fresh)).toMatchObject({ state: 'present' })
  })
  it('loses the tag when the session ends, without a report, while gateways have the end itself', async () => {
    const gateway = await watching()
    await signIn(endpoint, provider, { auth_time: seconds() - 3590 })
    const end = (await tagOf(endpoint))?.validUntil ?? 0
    expect(end).toBeGreaterThan(Date.now())
    const later = { ...contextOf(real), now: () => end + 1 }
    expect((await reEvaluate(later, atRest, end + 1)).written).toBe(1)
    expect(await tagOf(endpoint)).toMatchObject({ state: 'unknown', validUntil: null })
    expect((await pageOf(gateway, endpoint))?.verified_user).toMatchObject({ expires_at: Math.floor(end / 1000) })
    const [tag] = (await admin('GET', '/tags')).json.items as { uid: string }[]
    vi.useFakeTimers({ toFake: ['Date'], now: end + 1 })
    const explained = (await admin('GET', `/endpoints/${endpoint.uid}/tags/${tag?.uid}`)).json
    vi.useRealTimers()
    expect(explained).toMatchObject({ state: 'unknown', ruleSets: [{ conditions: [{ seen: expect.stringMatching(/alice@example.com by .* too long ago/) as unknown, mend: expect.stringMatching(/^Sign in .*agent sign-in/) as unknown }] }] })
  })
  it('is read so where nobody is signed in', async () => {
    const [tag] = (await admin('GET', '/tags')).json.items as { uid: string }[]
    expect((await admin('GET', `/endpoints/${endpoint.uid}/tags/${tag?.uid}`)).json).toMatchObject({ state: 'unknown', ruleSets: [{ conditions: [{ value: 'unknown', seen: 'nobody is signed in', wanted: 'a verified user in staff', mend: 'Sign in as a verified user in staff: agent sign-in.' }] }] })
  })
  it('is replaced by whoever signs in next', async () => {
    await signIn(endpoint, provider)
    expect((await signIn(endpoint, provider, { sub: 'person-2', groups: ['guests'] })).status).toBe(200)
    expect([await tagOf(endpoint), (await ownIdentity(endpoint))?.user.subject]).toEqual([undefined, 'person-2'])
  })
  it.each<[string, (each: Endpoint) => Promise<{ status: number }>]>([
    ['signs out', async (each) => await sendTo(real, 'DELETE', '/api/v1/endpoint/identity', { headers: await signatureOf(each, 'DELETE', '/api/v1/endpoint/identity') })],
    ['is signed out by an administrator', (each) => admin('POST', `/endpoints/${each.uid}/sign-out`, {})],
  ])('who %s has no tag any more, and gateways know nobody; said again it is the same', async (_, out) => {
    const gateway = await watching()
    const nonce = await nonceFor(endpoint, provider)
    const token = await provider.token(nonce)
    await present(endpoint, provider, token)
    for (let n = 0; n < 2; n++) {
      expect((await out(endpoint)).status).toBe(200)
      expect([await tagOf(endpoint), await ownIdentity(endpoint), await sectionOf(endpoint)]).toEqual([expect.objectContaining({ state: 'unknown' }), null, null])
      expect(await pageOf(gateway, endpoint)).not.toHaveProperty('verified_user')
    }
    // The token that was good is good for nothing now, and a sign-in that was begun is void.
    expect((await present(endpoint, provider, token)).status).toBe(409)
    const next = await provider.token(await nonceFor(endpoint, provider))
    await out(endpoint)
    expect([(await present(endpoint, provider, next)).status, await ownIdentity(endpoint)]).toEqual([409, null])
  })
  it('who is signed out while the token is looked at is not signed in after it', async () => {
    const token = await provider.token(await nonceFor(endpoint, provider))
    let out = 0
    const between = interposed(DB, { async before(sql) {
      if (sql.some((each) => each.startsWith('update "sign_ins"')) && out++ === 0) expect((await admin('POST', `/endpoints/${endpoint.uid}/sign-out`, {})).status).toBe(200)
    } })
    const body = { provider: provider.name, idToken: token }
    const path = '/api/v1/endpoint/identity'
    const answer = await sendTo(envWith({ DB: between }), 'POST', path, { body, headers: await signatureOf(endpoint, 'POST', path, body) })
    expect([out, answer.status, await ownIdentity(endpoint), await sectionOf(endpoint)]).toEqual([1, 409, null, null])
  })
  it('is nobody\'s any more once the endpoint is deregistered', async () => {
    await signIn(endpoint, provider)
    await begin(endpoint, provider)
    await admin('POST', `/endpoints/${endpoint.uid}/deregister`, { reason: '' })
    expect([await sectionOf(endpoint), await DB.prepare('SELECT * FROM sign_ins WHERE uid = ?').bind(endpoint.uid).first(), (await admin('GET', `/endpoints/${endpoint.uid}`)).json.signedInBy]).toEqual([null, null, null])
  })
  it('of whom an agent only says so is nobody', async () => {
    expect((await report(endpoint, 2, { identity: { issuer: provider.issuer, subject: 'x', authenticatedAt: 1, expiresAt: null } })).status).toBe(422)
  })

  it('costs what it should: two trips to begin and to sign in, and a row for each thing that changes', async () => {
    await watching()
    const metered = meter(DB)
    const bindings = envWith({ DB: metered.database })
    const call = async (method: string, path: string, body?: unknown) => {
      metered.reset()
      const answer = await sendTo(bindings, method, path, { body, headers: await signatureOf(endpoint, method, path, body) })
      expect(answer.status).toBe(200)
      return { json: answer.json, cost: [metered.tally.trips, metered.tally.rowsWritten] }
    }
    const path = '/api/v1/endpoint/identity'
    const begun = await call('POST', `${path}/begin`, { provider: provider.name })
    const idToken = await provider.token((begun.json.begun as { nonce: string }).nonce)
    await call('GET', path)
    const taken = await call('POST', path, { provider: provider.name, idToken })
    const again = await call('POST', path, { provider: provider.name, idToken })
    const told = await call('GET', path)
    const out = await call('DELETE', path)
    expect({ begun: begun.cost, taken: taken.cost, again: again.cost, told: told.cost, out: out.cost }).toEqual({ begun: [2, 1], taken: [2, 7], again: [2, 0], told: [1, 0], out: [3, 5] })
  })
})
