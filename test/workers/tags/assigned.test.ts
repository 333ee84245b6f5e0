// Tags that are set: told to gateways at once, by their entitlement; ended by time without a report; dropped by no evaluation; explained.
import { beforeEach, describe, expect, it } from 'vitest'
import { MOST_ASSIGNED } from '../../../domain/tagging/assigned.ts'
import { atRest, reEvaluate } from '../../../workers/flows/re-evaluate.ts'
import { admin, enrolled, linux, report, reportBody, sendTo, signatureOf, signed, TOKEN, type Endpoint } from '../ems.ts'
import { by, greeted, joined, update, type Frame, type Gateway, type Listening } from '../gateway.ts'
import { meter } from '../meter.ts'
import { contextOf, envWith, interposed, real, reEvaluated } from '../standing.ts'

const { DB } = real
const HOUR = 3_600_000
type Json = Record<string, unknown>
interface Member { readonly tag_name: string; readonly valid_until: number | null; readonly tag_properties: { readonly type: number } }

const make = async (name: string, type: 3 | 4) => String((await admin('POST', '/tags', { name, type })).json.uid)
const set = (tag: string, uids: readonly string[], body: object = {}) => admin('POST', `/tags/${tag}/assign`, { uids, ...body })
const clear = (tag: string, uids: readonly string[], body: object = {}) => admin('POST', `/tags/${tag}/clear`, { uids, ...body })
const importance = (uids: readonly string[], level: string | null) => admin('POST', '/importance', { uids, importance: level })
const explained = async ({ uid }: Endpoint, tag: string) => (await admin('GET', `/endpoints/${uid}/tags/${tag}`)).json
const tagsOf = async ({ uid }: Endpoint) => ((await admin('GET', `/endpoints/${uid}`)).json.tags as { tagUid: string; state: string; validUntil: number | null }[])
const bears = async (endpoint: Endpoint, tag: string) => (await tagsOf(endpoint)).some(({ tagUid, state }) => tagUid === tag && state === 'present')
const namesOf = async (endpoint: Endpoint) => {
  const all = (await admin('GET', '/tags?limit=200')).json.items as { uid: string; name: string }[]
  return (await tagsOf(endpoint)).map(({ tagUid }) => all.find(({ uid }) => uid === tagUid)?.name ?? tagUid).sort()
}
/** Members as a frame tells them; null: nothing of that endpoint in it. */
function membersIn(frame: Frame, uid: string): readonly Member[] | null {
  for (const message of frame) {
    if (message.type !== 'changed' || message.table !== 'uid_tags') continue
    const lists = (message.data as { uid_tag_lists?: Record<string, { members: Member[] } | null> } | undefined)?.uid_tag_lists
    if (lists?.[uid] !== undefined) return lists[uid]?.members ?? []
  }
  return null
}
const told = async (listening: Listening<Frame>, uid: string, fits: (members: readonly Member[]) => boolean) => {
  const frame = await listening.next((each) => {
    const members = membersIn(each, uid)
    return members !== null && fits(members)
  })
  return membersIn(frame, uid) ?? []
}
const names = (members: readonly Member[]) => members.map(({ tag_name: name }) => name)
const seeing = async (gateway: Gateway, types: readonly number[]) => {
  await update(gateway.serial, { share_mode: 1, share_tag_types: types })
  return (await greeted(gateway)).listening
}
const reporting = async () => {
  const endpoint = await enrolled()
  await report(endpoint, 1, { os: linux() })
  return endpoint
}
/** One step of the re-evaluation, by a clock of its own. */
const at = (now: number) => reEvaluate({ ...contextOf(real), now: () => now }, atRest, now)

describe('a tag that is set', () => {
  beforeEach(async () => {
    await DB.batch(['rule_sets', 'rule_changes', 'tags', 'endpoint_tags', 'endpoints', 'gateways'].map((table) => DB.prepare(`DELETE FROM ${table}`)))
  })

  it('is told to the gateways that are entitled to its type, and to no other', async () => {
    const [endpoint, all, rulesOnly] = [await reporting(), await joined(), await joined()]
    const [hears, hearsRules] = [await seeing(all, [1, 2, 3, 4]), await seeing(rulesOnly, [1])]
    const [infected, mine] = [await make('infected', 4), await make('finance', 3)]
    const { json } = await set(infected, [endpoint.uid], { source: 'analyzer', reason: 'beacon seen' })
    expect(json).toEqual({ changed: 1, unchanged: 0, unknown: [], full: [] })
    const [member] = await told(hears, endpoint.uid, (members) => names(members).includes('infected'))
    expect([member?.tag_properties.type, member?.valid_until]).toEqual([4, null])
    await set(mine, [endpoint.uid])
    expect(names(await told(hears, endpoint.uid, (members) => members.length === 2)).sort()).toEqual(['finance', 'infected'])
    // It is told that something changed of that endpoint, and sees none of it.
    expect(hearsRules.frames.flatMap((frame) => membersIn(frame, endpoint.uid) ?? [])).toEqual([])
    await clear(infected, [endpoint.uid], { source: 'analyzer' })
    expect(names(await told(hears, endpoint.uid, (members) => members.length === 1))).toEqual(['finance'])
  })

  it('ends at its time with no report, and the gateway hears it', async () => {
    const [endpoint, gateway] = [await reporting(), await joined()]
    const [hears, tag, until] = [await seeing(gateway, [4]), await make('infected', 4), Date.now() + HOUR]
    await set(tag, [endpoint.uid], { source: 'analyzer', until })
    expect((await told(hears, endpoint.uid, ({ length }) => length === 1))[0]?.valid_until).toBe(until)
    expect((await at(until - 1)).written).toBe(0)
    expect((await at(until)).written).toBe(1)
    expect(await told(hears, endpoint.uid, ({ length }) => length === 0)).toEqual([])
    expect(await tagsOf(endpoint)).toEqual([])
    expect(await DB.prepare('SELECT next_due FROM endpoints WHERE uid = ?').bind(endpoint.uid).first('next_due')).toBeNull()
  })

  it('sets the alarm of the re-evaluation, so that its end needs nobody; and why it is gone is still told', async () => {
    const [endpoint, tag, until] = [await reporting(), await make('soon', 4), Date.now() + 2_000]
    await set(tag, [endpoint.uid], { source: 'analyzer', until })
    await expect.poll(() => tagsOf(endpoint), { timeout: 30_000 }).toEqual([])
    expect(await explained(endpoint, tag)).toMatchObject({ state: 'absent', assigned: [{ source: 'analyzer', until }] })
  })

  it('by two sources lasts as long as the last, and each clears its own', async () => {
    const [endpoint, tag, now] = [await reporting(), await make('infected', 4), Date.now()]
    await set(tag, [endpoint.uid], { source: 'analyzer', until: now + HOUR })
    await set(tag, [endpoint.uid], { source: 'edr', until: now + 2 * HOUR })
    expect((await tagsOf(endpoint))[0]?.validUntil).toBe(now + 2 * HOUR)
    await at(now + HOUR)
    expect(await bears(endpoint, tag)).toBe(true)
    expect((await clear(tag, [endpoint.uid], { source: 'nobody' })).json).toMatchObject({ changed: 0, unchanged: 1 })
    expect(await bears(endpoint, tag)).toBe(true)
    await clear(tag, [endpoint.uid], { source: 'edr' })
    expect(await bears(endpoint, tag)).toBe(true)
    await clear(tag, [endpoint.uid], { source: 'analyzer' })
    expect(await bears(endpoint, tag)).toBe(false)
  })

  it('is extended by its source', async () => {
    const [endpoint, tag, now] = [await reporting(), await make('infected', 4), Date.now()]
    await set(tag, [endpoint.uid], { source: 'analyzer', until: now + HOUR })
    await set(tag, [endpoint.uid], { source: 'analyzer', until: now + 3 * HOUR })
    await at(now + 2 * HOUR)
    expect(await bears(endpoint, tag)).toBe(true)
    await at(now + 3 * HOUR)
    expect(await bears(endpoint, tag)).toBe(false)
  })

  it('survives reports, edits of rules, and their removal', async () => {
    const [endpoint, tag] = [await reporting(), await make('finance', 3)]
    await set(tag, [endpoint.uid])
    const { json } = await admin('POST', '/rule-sets', { name: 'any', tag: 'managed', rules: { linux: { conditions: [{ type: 'os-version', comparator: '>=', version: '12' }] } } })
    await reEvaluated()
    expect(await namesOf(endpoint)).toEqual(['finance', 'managed'])
    await report(endpoint, 2, { os: linux('13.0') })
    expect(await namesOf(endpoint)).toEqual(['finance', 'managed'])
    await admin('DELETE', `/rule-sets/${String(json.id)}`)
    await reEvaluated()
    expect(await namesOf(endpoint)).toEqual(['finance'])
  })

  it('is read by rules, set, cleared and ended', async () => {
    const [endpoint, tag] = [await reporting(), await make('finance', 3)]
    const rules = { linux: { conditions: [{ type: 'tag-present', tag: 'finance' }, { type: 'os-version', comparator: '>=', version: '12' }] } }
    expect((await admin('POST', '/rule-sets', { name: 'safe finance', tag: 'may-pay', rules })).status).toBe(200)
    await reEvaluated()
    expect(await namesOf(endpoint)).toEqual([])
    const soon = (expected: string[]) => expect.poll(() => namesOf(endpoint), { timeout: 30_000 }).toEqual(expected)
    await set(tag, [endpoint.uid])
    await soon(['finance', 'may-pay'])
    await clear(tag, [endpoint.uid])
    await soon([])
    expect((await admin('DELETE', `/tags/${tag}`)).json).toMatchObject({ code: 'conflict', detail: expect.stringContaining('"safe finance" reads') as string })
    await set(tag, [endpoint.uid], { until: Date.now() + HOUR })
    await soon(['finance', 'may-pay'])
    await set(tag, [endpoint.uid], { until: Date.now() + 1_000 })
    await soon([])
  })

  it('is kept by a report that was computed before it was set', async () => {
    const [endpoint, tag] = [await reporting(), await make('finance', 3)]
    let first = true
    const bindings = envWith({
      DB: interposed(DB, {
        async before(sql) {
          if (!first || !sql.some((each) => each.startsWith('update "endpoints"'))) return
          first = false
          await set(tag, [endpoint.uid])
        },
      }),
    })
    const body = await reportBody(2, { os: linux('13.0') })
    const answer = await sendTo(bindings, 'POST', '/api/v1/endpoint/report', { body, headers: await signatureOf(endpoint, 'POST', '/api/v1/endpoint/report', body) })
    expect([answer.status, first]).toEqual([200, false])
    expect(await bears(endpoint, tag)).toBe(true)
    expect(await DB.prepare('SELECT sequence FROM endpoints WHERE uid = ?').bind(endpoint.uid).first('sequence')).toBe(2)
  })

  it('by two at once is both, each in a row of the log', async () => {
    const [endpoint, one, two] = [await reporting(), await make('infected', 4), await make('finance', 3)]
    let first = true
    const bindings = envWith({
      DB: interposed(DB, {
        async before(sql) {
          if (!first || !sql.some((each) => each.startsWith('update "endpoints"'))) return
          first = false
          await set(two, [endpoint.uid])
        },
      }),
    })
    const { json } = await sendTo(bindings, 'POST', `/api/v1/admin/tags/${one}/assign`, { body: { uids: [endpoint.uid] }, headers: { authorization: `Bearer ${TOKEN}` } })
    expect([json.changed, first, await namesOf(endpoint)]).toEqual([1, false, ['finance', 'infected']])
    expect(await DB.prepare('SELECT count(*) AS n FROM change_log WHERE uid = ? AND tables = ?').bind(endpoint.uid, 'uid_tags,tags').first('n')).toBe(2)
  })

  it('stands when a gateway could not be told; said again it is told, and not written again', async () => {
    const [endpoint, gateway, tag] = [await reporting(), await joined(), await make('infected', 4)]
    const hears = await seeing(gateway, [4])
    const deaf = { getByName: () => ({ poke: () => Promise.reject(new Error('away')) }) } as unknown as typeof real.FCM_NOTIFY
    const path = `/api/v1/admin/tags/${tag}/assign`
    const refused = await sendTo(envWith({ FCM_NOTIFY: deaf }), 'POST', path, { body: { uids: [endpoint.uid] }, headers: { authorization: `Bearer ${TOKEN}` } })
    expect([refused.status, refused.code, await bears(endpoint, tag)]).toEqual([503, 'busy', true])
    expect((await set(tag, [endpoint.uid])).json).toMatchObject({ changed: 0, unchanged: 1 })
    expect(names(await told(hears, endpoint.uid, ({ length }) => length === 1))).toEqual(['infected'])
  })

  it('is told to a gateway in own mode only of endpoints behind it', async () => {
    const [mine, foreign, gateway, tag] = [await reporting(), await reporting(), await joined(), await make('infected', 4)]
    await update(gateway.serial, { share_mode: 0, share_tag_types: [4] })
    await by(gateway, 'POST', '/api/v1/report/fct/subscribe', { update: [{ uids: { [mine.uid]: { subscribe: true } } }] })
    const { listening } = await greeted(gateway)
    await set(tag, [foreign.uid])
    await set(tag, [mine.uid])
    expect(names(await told(listening, mine.uid, ({ length }) => length === 1))).toEqual(['infected'])
    expect(listening.frames.flatMap((frame) => membersIn(frame, foreign.uid) ?? [])).toEqual([])
  })

  it('costs 3 trips and 3 rows, nothing when it stands, and no more trips for 200 endpoints', async () => {
    const [endpoint, tag] = [await reporting(), await make('finance', 3)]
    const [{ database, tally, reset }, path] = [meter(DB), `/api/v1/admin/tags/${tag}/assign`]
    const send = async (uids: readonly string[]) => {
      reset()
      return await sendTo(envWith({ DB: database }), 'POST', path, { body: { uids }, headers: { authorization: `Bearer ${TOKEN}` } })
    }
    expect((await send([endpoint.uid])).json).toMatchObject({ changed: 1 })
    // The tag, the endpoints, the commit.
    expect(tally).toMatchObject({ trips: 3, rowsWritten: 3 })
    expect((await send([endpoint.uid])).json).toMatchObject({ changed: 0, unchanged: 1 })
    expect(tally.rowsWritten).toBe(0)
    const many = Array.from({ length: 199 }, (_, at) => at.toString(16).padStart(32, '0'))
    await DB.prepare('INSERT INTO endpoints (uid, version, registered, group_name, host_name, os, agent_version, protocol, enrolled_at, last_report_at) SELECT value, 1, 1, \'\', \'laptop\', \'linux\', \'0.1.0\', \'7.0.0\', 1, 1 FROM json_each(?)').bind(JSON.stringify(many)).run()
    expect((await send([...many, 'f'.repeat(32)])).json).toEqual({ changed: 199, unchanged: 0, unknown: ['f'.repeat(32)], full: [] })
    expect(tally.trips).toBeLessThanOrEqual(3)
    expect(tally.rowsWritten).toBe(199 * 3)
    expect((await admin('POST', `/tags/${tag}/assign`, { uids: Array.from({ length: 201 }, (_, at) => at.toString(16).padStart(32, '0')) })).status).toBe(422)
  })

  it('is listed with who bears it, and by whom it was set, page by page', async () => {
    const [endpoints, tag] = [[await reporting(), await reporting()], await make('infected', 4)]
    await set(tag, endpoints.map(({ uid }) => uid), { source: 'analyzer', reason: 'beacon seen' })
    const first = (await admin('GET', `/tags/${tag}/endpoints?limit=1`)).json
    const second = (await admin('GET', `/tags/${tag}/endpoints?limit=1&after=${String(first.next)}`)).json
    expect([...first.items as object[], ...second.items as object[]]).toMatchObject(endpoints.map(({ uid }) => uid).sort().map((uid) => ({ uid, state: 'present', assigned: [{ source: 'analyzer', reason: 'beacon seen' }] })))
    expect(second.next).toBeNull()
  })

  it('is bounded in number for one endpoint', async () => {
    const [endpoint, tag] = [await reporting(), await make('infected', 4)]
    for (let source = 0; source < MOST_ASSIGNED; source++) await set(tag, [endpoint.uid], { source: `source ${source}` })
    expect((await set(tag, [endpoint.uid], { source: 'one more' })).json).toEqual({ changed: 0, unchanged: 0, unknown: [], full: [endpoint.uid] })
    expect((await set(tag, [endpoint.uid], { source: 'source 1', reason: 'again' })).json).toMatchObject({ changed: 1 })
  })

  it('goes with the endpoint, and can not be set on one that is deregistered', async () => {
    const [endpoint, tag] = [await reporting(), await make('finance', 3)]
    await set(tag, [endpoint.uid])
    await admin('POST', `/endpoints/${endpoint.uid}/deregister`, {})
    expect(await tagsOf(endpoint)).toEqual([])
    expect((await set(tag, [endpoint.uid])).json).toMatchObject({ changed: 0, unknown: [endpoint.uid] })
    expect(await DB.prepare('SELECT count(*) AS n FROM endpoint_tags').first('n')).toBe(0)
  })

  it('refuses what would mean nothing', async () => {
    const [endpoint, tag] = [await reporting(), await make('infected', 4)]
    expect((await set(tag, [endpoint.uid], { until: 1 })).json).toMatchObject({ code: 'invalid', errors: [{ pointer: '/until' }] })
    expect((await admin('POST', '/tags', { name: 'infected', type: 3 })).code).toBe('conflict')
    expect((await admin('POST', '/tags', { name: 'x', type: 1 })).code).toBe('invalid')
    expect((await admin('POST', '/rule-sets', { name: 'r', tag: 'infected', rules: { linux: { conditions: [{ type: 'os-version', comparator: '>=', version: '12' }] } } })).json).toMatchObject({ code: 'invalid', errors: [{ pointer: '/tag' }] })
    const { tagUid } = (await admin('POST', '/rule-sets', { name: 'r', tag: 'managed', rules: { linux: { conditions: [{ type: 'os-version', comparator: '>=', version: '12' }] } } })).json as { tagUid: string }
    expect((await set(tagUid, [endpoint.uid])).code).toBe('invalid')
    await set(tag, [endpoint.uid])
    expect((await admin('DELETE', `/tags/${tag}`)).code).toBe('conflict')
    await clear(tag, [endpoint.uid])
    expect((await admin('DELETE', `/tags/${tag}`)).status).toBe(200)
    expect((await set(tag, [endpoint.uid])).code).toBe('not_found')
  })
})

describe('importance', () => {
  beforeEach(async () => {
    await DB.batch(['rule_sets', 'tags', 'endpoint_tags', 'endpoints', 'gateways'].map((table) => DB.prepare(`DELETE FROM ${table}`)))
  })

  it('is one of four: another takes the place of the one before, in one row of the log', async () => {
    const endpoint = await reporting()
    await importance([endpoint.uid], 'low')
    expect(await namesOf(endpoint)).toEqual(['importance:low'])
    await importance([endpoint.uid], 'critical')
    expect(await namesOf(endpoint)).toEqual(['importance:critical'])
    const custom = await make('finance', 3)
    await set(custom, [endpoint.uid])
    // By its own UID it is no other tag.
    await set('00000000-0000-4000-8000-000000000103', [endpoint.uid])
    expect(await namesOf(endpoint)).toEqual(['finance', 'importance:high'])
    await importance([endpoint.uid], null)
    expect(await namesOf(endpoint)).toEqual(['finance'])
    expect((await importance([endpoint.uid], null)).json).toMatchObject({ changed: 0, unchanged: 1 })
    const { results } = await DB.prepare('SELECT tables FROM change_log WHERE uid = ? ORDER BY revision').bind(endpoint.uid).all<{ tables: string }>()
    expect(results.slice(2).map(({ tables }) => tables)).toEqual(['uid_tags,tags', 'uid_tags,tags', 'uid_tags,tags', 'uid_tags,tags', 'uid_tags,tags'])
  })

  it('whose name another tag has taken is refused with a reason', async () => {
    const endpoint = await reporting()
    await make('importance:high', 3)
    const { code, json } = await importance([endpoint.uid], 'high')
    expect([code, String(json.detail)]).toEqual(['conflict', expect.stringContaining('importance:high')])
  })
})

describe('explained', () => {
  beforeEach(async () => {
    await DB.batch(['rule_sets', 'tags', 'endpoint_tags', 'endpoints', 'gateways'].map((table) => DB.prepare(`DELETE FROM ${table}`)))
  })

  it('is who set it, when, why and until when; why not as well; and that no rule gives it', async () => {
    const [endpoint, tag, until] = [await reporting(), await make('infected', 4), Date.now() + HOUR]
    expect(await explained(endpoint, tag)).toMatchObject({ tag: 'infected', state: 'absent', ruleSets: [], assigned: [] })
    await set(tag, [endpoint.uid], { source: 'analyzer', reason: 'beacon seen', until })
    expect(await explained(endpoint, tag)).toMatchObject({ state: 'present', validUntil: until, ruleSets: [], assigned: [{ source: 'analyzer', reason: 'beacon seen', until }] })
    const { tagUid } = (await admin('POST', '/rule-sets', { name: 'off', enabled: false, tag: 'nobody', rules: { linux: { conditions: [{ type: 'os-version', comparator: '>=', version: '12' }] } } })).json as { tagUid: string }
    const none: Json = await explained(endpoint, tagUid)
    expect(none).toMatchObject({ state: 'absent', ruleSets: [] })
    expect(none).not.toHaveProperty('assigned')
    expect((await admin('GET', `/endpoints/${endpoint.uid}/tags/00000000-0000-4000-8000-00000000ffff`)).code).toBe('not_found')
  })

  it('to the device says neither who set it nor why', async () => {
    const [endpoint, tag] = [await reporting(), await make('stolen', 3)]
    await set(tag, [endpoint.uid], { source: 'anna', reason: 'police report 17' })
    const { json } = await signed(endpoint, 'GET', '/api/v1/endpoint/tags')
    expect(json.tags).toMatchObject([{ tag: 'stolen', state: 'present' }])
    expect(JSON.stringify(json)).not.toMatch(/anna|police/)
    expect(JSON.stringify((await signed(endpoint, 'GET', `/api/v1/endpoint/tags/${tag}`)).json)).not.toMatch(/anna|police/)
  })
})
