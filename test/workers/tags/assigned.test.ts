// Tags that are set: dropped by no evaluation, changed by many at once, paid for and bounded; of one importance; explained.
import { beforeEach, describe, expect, it } from 'vitest'
import { MOST_ASSIGNED } from '../../../domain/tagging/assigned.ts'
import { admin, linux, report, reportBody, sendTo, signatureOf, signed, TOKEN } from '../ems.ts'
import { meter } from '../meter.ts'
import { envWith, interposed, real, reEvaluated } from '../standing.ts'
import { bears, clear, cleared, explained, HOUR, importance, make, namesOf, reporting, set, tagsOf } from './setting.ts'

const { DB } = real
type Json = Record<string, unknown>

describe('a tag that is set', () => {
  beforeEach(cleared)

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
  beforeEach(cleared)

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
  beforeEach(cleared)

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
