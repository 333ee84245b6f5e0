// What others say of an endpoint, by the front door: it becomes a tag at once, gateways hear of it, and no agent can report it or take it away.
import { beforeEach, describe, expect, it } from 'vitest'
import { env } from 'cloudflare:workers'
import type { Env } from '../../../workers/env.ts'
import { admin, enrolled, linux, report, reportBody, signed, type Endpoint } from '../ems.ts'
import { reEvaluated } from '../standing.ts'

const { DB } = env as unknown as Env
const hour = 3_600_000
const linuxRule = (name: string, ...conditions: object[]) => ({ name, tag: name, rules: { linux: { conditions } } })
const named = async ({ uid }: Endpoint): Promise<Record<string, string>> => {
  const { json } = await admin('GET', '/tags?limit=200')
  const names = new Map((json.items as { uid: string; name: string }[]).map((tag) => [tag.uid, tag.name]))
  return Object.fromEntries(((await admin('GET', `/endpoints/${uid}`)).json.tags as { tagUid: string; state: string }[]).map(({ tagUid, state }) => [names.get(tagUid) ?? '', state]))
}
const tell = ({ uid }: Endpoint, path: string, body: object) => admin('PUT', `/endpoints/${uid}/signals/${path}`, body)
const logged = async ({ uid }: Endpoint) => (await DB.prepare('SELECT tables FROM change_log WHERE uid = ? ORDER BY revision').bind(uid).all<{ tables: string }>()).results.map(({ tables }) => tables)

beforeEach(async () => {
  await DB.batch(['rule_sets', 'tags', 'gateways', 'packs'].map((table) => DB.prepare(`DELETE FROM ${table}`)))
})

describe('a signal', () => {
  let endpoint: Endpoint
  beforeEach(async () => {
    await admin('POST', '/rule-sets', linuxRule('trusted', { type: 'third-party-score', source: 'edr', comparator: '>=', score: 50, proved: true }, { type: 'sandbox-detection', negate: true }))
    endpoint = await enrolled()
    await report(endpoint, 1, { os: linux() })
  })

  it('gives and takes a tag at once, with a row of the log each time, and is unknown before and after', async () => {
    expect(await named(endpoint)).toEqual({ trusted: 'unknown' })
    expect((await tell(endpoint, 'scores/edr', { score: 80 })).status).toBe(200)
    expect(await named(endpoint)).toEqual({ trusted: 'unknown' })
    expect(await tell(endpoint, 'sandbox/box', { detections: [], expiresAt: Date.now() + hour })).toMatchObject({ status: 200, json: { expiresAt: expect.any(Number) as unknown } })
    expect(await named(endpoint)).toEqual({ trusted: 'present' })
    await tell(endpoint, 'sandbox/box', { detections: [{ name: 'EICAR', severity: 'high' }] })
    expect(await named(endpoint)).toEqual({})
    await tell(endpoint, 'sandbox/box', { detections: [] })
    expect(await named(endpoint)).toEqual({ trusted: 'present' })
    expect((await admin('DELETE', `/endpoints/${endpoint.uid}/signals/scores/edr`)).status).toBe(200)
    expect(await named(endpoint)).toEqual({ trusted: 'unknown' })
    expect((await logged(endpoint)).slice(-4)).toEqual(['uid_tags,tags', 'uid_tags,tags', 'uid_tags,tags', 'uid_tags,tags'])
  })
  it('is explained by its source, its age and how it is known', async () => {
    await tell(endpoint, 'scores/edr', { score: 12.5 })
    const [tag] = (await admin('GET', '/tags')).json.items as { uid: string }[]
    const { json } = await admin('GET', `/endpoints/${endpoint.uid}/tags/${tag?.uid}`)
    expect(json).toMatchObject({ ruleSets: [{ conditions: [{ value: 'false', seen: 'edr scores 12.5', wanted: 'the score of edr is at least 50, proved', provenance: 'proved', section: 'scores', factAt: expect.any(Number) as unknown }, { value: 'unknown', section: 'sandbox' }] }] })
  })
  it('said again changes nothing but its age, and is told of an endpoint that has not reported yet', async () => {
    const fresh = await enrolled()
    for (let n = 0; n < 2; n++) expect((await tell(fresh, 'scores/edr', { score: 80 })).status).toBe(200)
    expect(await named(fresh)).toEqual({})
    await tell(fresh, 'sandbox/box', { detections: [] })
    await report(fresh, 1, { os: linux() })
    expect(await named(fresh)).toEqual({ trusted: 'present' })
  })
  it('can not be reported by an agent, nor voided, nor asked for by its hash', async () => {
    await tell(endpoint, 'scores/edr', { score: 80 })
    await tell(endpoint, 'sandbox/box', { detections: [{ name: 'EICAR', severity: 'high' }] })
    const forged = { sources: { edr: { score: 99, at: 1, expiresAt: null } } }
    const path = '/api/v1/endpoint/report'
    expect((await signed(endpoint, 'POST', path, await reportBody(2, { scores: forged }))).status).toBe(422)
    expect((await signed(endpoint, 'POST', path, { sequence: 2, sections: {}, hashes: {}, unknown: ['sandbox'] })).status).toBe(422)
    expect((await signed(endpoint, 'POST', path, { sequence: 2, sections: {}, hashes: { sandbox: 'a'.repeat(64) } })).status).toBe(422)
    expect(await named(endpoint)).toEqual({})
    expect((await admin('GET', `/endpoints/${endpoint.uid}`)).json.facts).toMatchObject({ os: { provenance: 'claimed' }, sandbox: { provenance: 'proved', value: { sources: { box: { detections: [{ name: 'EICAR' }] } } } } })
  })
  it('is refused with its place when it is over, is none, or comes from too many', async () => {
    expect(await tell(endpoint, 'scores/edr', { score: 1, expiresAt: 5 })).toMatchObject({ status: 422, json: { errors: [{ pointer: '/expiresAt' }] } })
    expect(await tell(endpoint, 'scores/edr', { score: 'high' })).toMatchObject({ status: 422, json: { errors: [{ pointer: '/score' }] } })
    expect(await tell(endpoint, 'threats/gw', { detections: Array.from({ length: 33 }, () => ({ name: 'x', severity: 'low' })) })).toMatchObject({ status: 422 })
    expect((await tell(endpoint, 'scores/%2e%2e', { score: 1 })).status).not.toBe(200)
    expect((await tell({ ...endpoint, uid: 'f'.repeat(32) }, 'scores/edr', { score: 1 })).status).toBe(404)
    for (let n = 0; n < 8; n++) expect((await tell(endpoint, `scores/edr-${n}`, { score: n })).status).toBe(200)
    expect((await tell(endpoint, 'scores/edr-9', { score: 1 })).code).toBe('conflict')
    expect((await tell(endpoint, 'scores/edr-7', { score: 1 })).status).toBe(200)
  })
  it('from several at once is kept of each', async () => {
    const told = await Promise.all(Array.from({ length: 6 }, (_, n) => tell(endpoint, `scores/s${n}`, { score: n })))
    for (const { code } of told.filter(({ status }) => status !== 200)) expect(code).toBe('busy')
    const { facts } = (await admin('GET', `/endpoints/${endpoint.uid}`)).json as { facts: { scores: { value: { sources: object } } } }
    expect(Object.keys(facts.scores.value.sources)).toHaveLength(told.filter(({ status }) => status === 200).length)
  })
})

describe('rules that read tags', () => {
  it('follow a report and an edit through every step, in one commit', async () => {
    await admin('POST', '/rule-sets', linuxRule('modern', { type: 'os-version', comparator: '>=', version: '12' }))
    expect((await admin('POST', '/rule-sets', linuxRule('trusted', { type: 'tag-present', tag: 'modern' }, { type: 'ems-management' }))).status).toBe(200)
    const endpoint = await enrolled()
    await report(endpoint, 1, { os: linux(), agent: { version: '1.0', protocol: '7.0.0', profileVersion: 0, rulesVersion: 0 } })
    expect(await named(endpoint)).toEqual({ modern: 'present', trusted: 'present' })
    const { items } = (await admin('GET', '/rule-sets')).json as { items: { id: string; tag: string }[] }
    const id = items.find(({ tag }) => tag === 'modern')?.id ?? ''
    // The sections of whoever reads the tag are read too: `agent` is none that the edited rule set asks for.
    await admin('PUT', `/rule-sets/${id}`, linuxRule('modern', { type: 'os-version', comparator: '>=', version: '13' }))
    await reEvaluated()
    expect(await named(endpoint)).toEqual({})
    await admin('PUT', `/rule-sets/${id}`, linuxRule('modern', { type: 'os-version', comparator: '>=', version: '11' }))
    await reEvaluated()
    expect(await named(endpoint)).toEqual({ modern: 'present', trusted: 'present' })
    await report(endpoint, 2, { os: linux('10') })
    expect(await named(endpoint)).toEqual({})
  })
  it('are refused in a circle, of a tag that is not there, and keep what they read from being removed', async () => {
    const modern = (await admin('POST', '/rule-sets', linuxRule('modern', { type: 'ems-management' }))).json.id as string
    expect(await admin('POST', '/rule-sets', linuxRule('trusted', { type: 'tag-present', tag: 'modren' }))).toMatchObject({ status: 422, json: { errors: [{ pointer: '/rules/linux/conditions/0/tag', detail: 'there is no tag "modren"' }] } })
    await admin('POST', '/rule-sets', linuxRule('trusted', { type: 'tag-present', tag: 'modern' }))
    expect(await admin('PUT', `/rule-sets/${modern}`, linuxRule('modern', { type: 'tag-present', tag: 'trusted', negate: true }))).toMatchObject({ status: 422, json: { errors: [{ detail: 'closes a circle of tags: "modern" reads "trusted" reads "modern"' }] } })
    expect([(await admin('DELETE', `/rule-sets/${modern}`)).code, (await admin('PUT', `/rule-sets/${modern}`, { ...linuxRule('modern', { type: 'ems-management' }), tag: 'other' })).code]).toEqual(['conflict', 'conflict'])
  })
  it('of a pack are checked among themselves and with the others, and its tags stay while others read them', async () => {
    const pack = (version: string, ...ruleSets: object[]) => ({ name: 'p', version, issuedAt: '2026-11-25', tags: [{ name: 'modern' }, { name: 'known' }], ruleSets })
    const [modern, known] = [linuxRule('modern', { type: 'ems-management' }), (tag: string) => linuxRule('known', { type: 'tag-present', tag })]
    expect(await admin('POST', '/packs', pack('1', modern, known('x')))).toMatchObject({ status: 422, json: { errors: [{ pointer: '/ruleSets/1/rules/linux/conditions/0/tag', detail: 'there is no tag "x"' }] } })
    expect(await admin('POST', '/packs', pack('1', modern, known('known')))).toMatchObject({ status: 422, json: { errors: [{ pointer: '/ruleSets/1/rules/linux/conditions/0/tag', detail: 'closes a circle of tags: "known" reads "known"' }] } })
    const imported = await admin('POST', '/packs', pack('1', modern, known('modern')))
    expect(imported.status).toBe(200)
    await admin('POST', '/rule-sets', linuxRule('own', { type: 'tag-present', tag: 'known' }))
    const { items } = (await admin('GET', '/packs')).json as { items: { id: string }[] }
    expect((await admin('DELETE', `/packs/${items[0]?.id}`)).code).toBe('conflict')
  })
  it('are worked out anew when a tag is set or cleared', async () => {
    const tag = (await admin('POST', '/tags', { name: 'lost', type: 4 })).json.uid as string
    await admin('POST', '/rule-sets', linuxRule('at hand', { type: 'tag-present', tag: 'lost', negate: true }))
    const endpoint = await enrolled()
    await report(endpoint, 1, { os: linux() })
    expect(await named(endpoint)).toEqual({ 'at hand': 'present' })
    await admin('POST', `/tags/${tag}/assign`, { uids: [endpoint.uid] })
    await expect.poll(async () => await named(endpoint), { timeout: 30_000 }).toEqual({ lost: 'present' })
    await admin('POST', `/tags/${tag}/clear`, { uids: [endpoint.uid] })
    await expect.poll(async () => await named(endpoint), { timeout: 30_000 }).toEqual({ 'at hand': 'present' })
  })
})

describe('a custom rule', () => {
  it('is refused with the place in its expression, and gives its tag by facts of several sections', async () => {
    const custom = (expression: string) => linuxRule('sound', { type: 'custom', expression })
    expect(await admin('POST', '/rule-sets', custom('os.verison == "12"'))).toMatchObject({ status: 422, json: { errors: [{ pointer: '/rules/linux/conditions/0/expression', detail: expect.stringMatching(/at character 1$/) as unknown }] } })
    expect((await admin('POST', '/rule-sets', custom('versionAtLeast(os.version, "12") && updates.restartPending == false'))).status).toBe(200)
    const endpoint = await enrolled()
    await report(endpoint, 1, { os: linux() })
    expect(await named(endpoint)).toEqual({ sound: 'unknown' })
    await report(endpoint, 2, { updates: { restartPending: false } })
    expect(await named(endpoint)).toEqual({ sound: 'present' })
    await report(endpoint, 3, { updates: {} })
    expect(await named(endpoint)).toEqual({ sound: 'unknown' })
  })
})
