// What an edit of a rule set does not do at once: transitions, report-only rule sets; and endpoints that flap.
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { evictDurableObject, runDurableObjectAlarm } from 'cloudflare:test'
import { conditionKey } from '../../../domain/tagging/condition-key.ts'
import type { Env } from '../../../workers/env.ts'
import type { Sections, VerdictValue } from '../../../protocol/facts.ts'
import { admin, enrolled, linux, report, signed } from '../ems.ts'
import { real, reEvaluated } from '../standing.ts'
import { addRuleSet, asking, clear, contradictions, osAtLeast, ruleSetOf, seed, tagged, uidOf } from './fleet.ts'
import { metered, quietly, workedAt } from './stepping.ts'

const { DB } = real
const [marker, other] = [asking('/etc/marker'), asking('/etc/other')]
const answered = (...given: readonly (readonly [typeof marker, VerdictValue])[]): Sections['verdicts'] =>
  ({ answers: Object.fromEntries(given.map(([condition, value]) => [conditionKey(condition), { value, seen: 'as seen', at: 1 }])) })
const standing = async (id: string) => (await admin('GET', `/rule-sets/${id}`)).json.standing

describe('an edit that asks agents something new', () => {
  beforeEach(clear)

  it('takes no tag away while they owe the answer, for a minute; it is shown how many still owe', async () => {
    await seed(0, 300, { os: linux('13.1'), verdicts: answered([marker, 'true']) })
    await seed(300, 50, { os: linux('11.1'), verdicts: answered([marker, 'true']) })
    const id = await addRuleSet('safe', [marker])
    await reEvaluated()
    expect(await tagged('safe')).toEqual({ present: 350 })
    const edited = Date.now()
    await quietly('PUT', `/rule-sets/${id}`, ruleSetOf('safe', [marker, other, osAtLeast('12')]))
    const { next } = await workedAt(Date.now())
    // What the EMS knows against it is not put off.
    expect([await tagged('safe'), await standing(id)]).toEqual([{ present: 300 }, { holds: 300, unknown: 0, owing: 300, standing: 300 }])
    expect([next !== null && next >= edited + 60_000, next !== null && next <= Date.now() + 60_000]).toEqual([true, true])
    const { results } = await DB.prepare('SELECT DISTINCT valid_until = ? AS same FROM endpoint_tags').bind(next).all()
    expect(results).toEqual([{ same: 1 }])
    expect((await admin('GET', `/rule-sets/${id}/endpoints?limit=1`)).json).toMatchObject({ items: [{ uid: uidOf(0), hostName: 'laptop', value: 'true', owes: true, standsUntil: next }], next: uidOf(0) })
    // Falls due by itself, whoever was restarted meanwhile: it stands in the database.
    expect((await workedAt((next ?? 0) - 1)).written).toBe(0)
    expect((await workedAt(next ?? 0)).written).toBe(300)
    expect([await tagged('safe'), await standing(id)]).toEqual([{ unknown: 300 }, { holds: 0, unknown: 300, owing: 300, standing: 0 }])
    expect(await contradictions()).toEqual([])
  })

  it('is decided by the first answer, and by nobody else’s', async () => {
    const [quick, slow] = [await enrolled(), await enrolled()]
    for (const each of [quick, slow]) await report(each, 1, { os: linux(), verdicts: answered([marker, 'true']) })
    const id = await addRuleSet('safe', [marker])
    await reEvaluated()
    await admin('PUT', `/rule-sets/${id}`, ruleSetOf('safe', [marker, other]))
    // A report of something else before the object came to it is no answer.
    await report(slow, 2, { network: { interfaces: [], defaultGateways: [], dnsServers: [] } })
    const explained = async ({ uid }: { uid: string }) => (await admin('GET', `/endpoints/${uid}/tags/${String((await admin('GET', `/rule-sets/${id}`)).json.tagUid)}`)).json
    expect(await explained(slow)).toMatchObject({ state: 'present', validUntil: expect.any(Number), ruleSets: [{ value: 'true', standsUntil: expect.any(Number), conditions: [{ value: 'true' }, { value: 'unknown', seen: 'the agent has not answered yet' }] }] })
    await report(quick, 2, { verdicts: answered([marker, 'true'], [other, 'false']) })
    expect((await explained(quick)).state).toBe('absent')
    await reEvaluated()
    expect([await tagged('safe'), await standing(id)]).toEqual([{ present: 1 }, { holds: 1, unknown: 0, owing: 1, standing: 1 }])
    await report(slow, 3, { verdicts: answered([marker, 'true'], [other, 'true']) })
    expect([await tagged('safe'), await standing(id)]).toEqual([{ present: 1 }, { holds: 1, unknown: 0, owing: 0, standing: 0 }])
  })

  it('is remembered by the database alone: the object that works it off may die', async () => {
    await seed(0, 20, { os: linux(), verdicts: answered([marker, 'true']) })
    const id = await addRuleSet('safe', [marker], { transitionSeconds: 1 })
    await reEvaluated()
    await admin('PUT', `/rule-sets/${id}`, ruleSetOf('safe', [marker, other], { transitionSeconds: 1 }))
    await reEvaluated()
    await evictDurableObject(real.RE_EVALUATION.getByName('one'))
    await expect.poll(async () => {
      await runDurableObjectAlarm(real.RE_EVALUATION.getByName('one'))
      return await tagged('safe')
    }, { timeout: 30_000 }).toEqual({ unknown: 20 })
  })

  it('with a transition of 0 takes effect at once', async () => {
    await seed(0, 20, { os: linux(), verdicts: answered([marker, 'true']) })
    const id = await addRuleSet('safe', [marker])
    await reEvaluated()
    await quietly('PUT', `/rule-sets/${id}`, ruleSetOf('safe', [marker, other], { transitionSeconds: 0 }))
    await workedAt(Date.now())
    expect(await tagged('safe')).toEqual({ unknown: 20 })
  })
})

describe('an edit that means the same', () => {
  beforeEach(clear)
  it('evaluates nothing, pushes nothing to any agent and writes three rows, whatever the fleet', async () => {
    await seed(0, 200, { os: linux('13.1'), verdicts: answered([marker, 'true']) })
    const id = await addRuleSet('safe', [marker, osAtLeast('12')])
    await reEvaluated()
    let pushes = 0
    const channels = { getByName: () => ({ announce: () => { pushes++; return Promise.resolve() } }) } as unknown as Env['ENDPOINT_CHANNEL']
    const put = async (body: object) => {
      metered.reset()
      await quietly('PUT', `/rule-sets/${id}`, body, { ENDPOINT_CHANNEL: channels, DB: metered.database })
      return { rows: metered.tally.rowsWritten, work: await workedAt(Date.now()) }
    }
    const turned = { rules: { linux: { logic: '1 AND (2)', conditions: [{ path: '/etc/marker', negate: false, type: 'file' }, { version: '12', comparator: '>=', type: 'os-version' }] } } }
    for (const more of [{ name: 'renamed' }, { comment: 'x', message: 'Mend it.', transitionSeconds: 5 }, turned]) {
      const { rows, work } = await put(ruleSetOf('safe', [marker, osAtLeast('12')], more))
      expect([rows <= 3, work.written, pushes]).toEqual([true, 0, 0])
    }
    await put(ruleSetOf('safe', [marker, other, osAtLeast('12')]))
    expect(pushes).toBe(16)
  })
})

describe('a report-only rule set', () => {
  beforeEach(clear)
  it('gives nobody its tag, is explained and counted, and is switched on by the facts that are stored', async () => {
    const endpoint = await enrolled()
    await report(endpoint, 1, { os: linux('13.1'), verdicts: answered([marker, 'true']) })
    await seed(0, 40, { os: linux('13.1'), verdicts: answered([marker, 'true']) })
    await seed(40, 10, { os: linux('13.1') })
    const before = (await DB.prepare('SELECT count(*) AS n FROM change_log WHERE uid IS NOT NULL AND tables LIKE ?').bind('%uid_tags%').first<{ n: number }>())?.n
    const id = await addRuleSet('safe', [marker, osAtLeast('13')], { mode: 'shadow' })
    await reEvaluated()
    expect([await tagged('safe'), await standing(id)]).toEqual([{}, { holds: 41, unknown: 10, owing: 10, standing: 0 }])
    // No gateway hears of it.
    expect((await DB.prepare('SELECT count(*) AS n FROM change_log WHERE uid IS NOT NULL AND tables LIKE ?').bind('%uid_tags%').first<{ n: number }>())?.n).toBe(before)
    const listed: { uid: string; value: string }[] = []
    for (let after: string | null = ''; after !== null;) {
      const { json } = await admin('GET', `/rule-sets/${id}/endpoints?limit=20${after === '' ? '' : `&after=${after}`}`)
      listed.push(...json.items as typeof listed)
      after = json.next as string | null
    }
    expect([listed.length, listed.filter(({ value }) => value === 'true').length, new Set(listed.map(({ uid }) => uid)).size]).toEqual([51, 41, 51])
    // Explained to administrators as what it is; the device itself is told nothing of it.
    const { tagUid } = (await admin('GET', `/rule-sets/${id}`)).json
    expect((await admin('GET', `/endpoints/${endpoint.uid}/tags/${String(tagUid)}`)).json).toMatchObject({ tag: 'safe', state: 'absent', shadow: 'present', ruleSets: [{ value: 'true', shadow: true, conditions: [{ seen: 'as seen' }, {}] }] })
    expect([(await signed(endpoint, 'GET', '/api/v1/endpoint/tags')).json, (await signed(endpoint, 'GET', `/api/v1/endpoint/tags/${String(tagUid)}`)).status]).toEqual([{ tags: [] }, 404])
    // Agents are asked what it asks, so that switching it on needs no new answer.
    await quietly('PUT', `/rule-sets/${id}`, ruleSetOf('safe', [marker, osAtLeast('13')]))
    await workedAt(Date.now())
    expect(await tagged('safe')).toEqual({ present: 41, unknown: 10 })
    await quietly('PUT', `/rule-sets/${id}`, ruleSetOf('safe', [marker, osAtLeast('13')], { mode: 'shadow' }))
    await workedAt(Date.now())
    expect([await tagged('safe'), await standing(id)]).toEqual([{}, { holds: 41, unknown: 10, owing: 10, standing: 0 }])
    expect(await contradictions()).toEqual([])
  })
  it('that gives the same tag as another one takes nothing from it', async () => {
    await seed(0, 10, { os: linux('13.1') })
    await addRuleSet('modern', [osAtLeast('13')])
    await addRuleSet('modern', [marker], { name: 'stricter', mode: 'shadow' })
    await reEvaluated()
    expect(await tagged('modern')).toEqual({ present: 10 })
  })
})

describe('an endpoint whose tags change again and again', () => {
  beforeEach(clear)
  it('is marked once and shown, at no further row; its tags take effect as before', async () => {
    const endpoint = await enrolled()
    await addRuleSet('modern', [osAtLeast('13')])
    await report(endpoint, 1, { os: linux('13.1') })
    await reEvaluated()
    const logged = vi.spyOn(console, 'log')
    const said = () => logged.mock.calls.filter(([line]) => String(line).includes('endpoint-flapping')).length
    const shown = async () => (await admin('GET', `/endpoints/${endpoint.uid}`)).json.flappingSince
    const rows: number[] = []
    for (let change = 1; change <= 9; change++) {
      const before = (await DB.prepare('SELECT count(*) AS n FROM change_log').first<{ n: number }>())?.n ?? 0
      expect((await report(endpoint, 1 + change, { os: linux(change % 2 === 1 ? '11.1' : '13.1') })).status).toBe(200)
      rows.push(((await DB.prepare('SELECT count(*) AS n FROM change_log').first<{ n: number }>())?.n ?? 0) - before)
      expect([change, await tagged('modern'), said(), await shown() === null]).toEqual([change, change % 2 === 1 ? {} : { present: 1 }, change > 6 ? 1 : 0, change <= 6])
    }
    logged.mockRestore()
    expect(rows).toEqual(Array.from({ length: 9 }, () => 1))
    expect((await admin('GET', '/endpoints')).json).toMatchObject({ items: [{ flappingSince: expect.any(Number) }] })
    // Ten minutes later.
    await DB.prepare('UPDATE endpoints SET tag_changes = json_set(tag_changes, \'$.at\', json_array(?))').bind(Date.now() - 600_000).run()
    expect(await shown()).toBeNull()
  })
  it('by time alone is marked too, those that were written and no other', async () => {
    const now = Date.now()
    await seed(0, 4, { os: linux('13.1'), vulnerabilities: { scannedAt: now, scanner: 's', found: [] } })
    await DB.prepare('UPDATE endpoint_sections SET at = ?').bind(now).run()
    await addRuleSet('clean', [{ type: 'vulnerable-devices', negate: true, severity: 'high', scannedWithinSeconds: 60 }])
    await reEvaluated()
    expect(await tagged('clean')).toEqual({ present: 4 })
    await DB.prepare('UPDATE endpoints SET tag_changes = ? WHERE uid < ?').bind(JSON.stringify({ at: [1, 2, 3, 4, 5, 6].map((n) => now + n), flappingSince: null }), uidOf(2)).run()
    const logged = vi.spyOn(console, 'log')
    await workedAt(now + 60_000)
    const said = logged.mock.calls.map(([line]) => String(line)).filter((line) => line.includes('endpoint-flapping'))
    logged.mockRestore()
    expect([await tagged('clean'), said.length, said.every((line) => [uidOf(0), uidOf(1)].some((uid) => line.includes(uid)))]).toEqual([{ unknown: 4 }, 2, true])
    expect((await DB.prepare('SELECT uid FROM endpoints WHERE json_extract(tag_changes, \'$.flappingSince\') IS NOT NULL ORDER BY uid').all()).results).toEqual([{ uid: uidOf(0) }, { uid: uidOf(1) }])
  })
  it('by an administrator’s edits is not: they are not its doing', async () => {
    await seed(0, 3, { os: linux('13.1') })
    const id = await addRuleSet('modern', [osAtLeast('13')])
    await reEvaluated()
    for (let edit = 0; edit < 8; edit++) {
      await quietly('PUT', `/rule-sets/${id}`, ruleSetOf('modern', [osAtLeast(edit % 2 === 0 ? '14' : '13')]))
      await workedAt(Date.now())
    }
    expect((await DB.prepare('SELECT DISTINCT tag_changes FROM endpoints').all()).results).toEqual([{ tag_changes: '{"at":[],"flappingSince":null}' }])
  })
})
