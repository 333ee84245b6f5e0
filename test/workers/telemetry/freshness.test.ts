// What is unchanged and was looked at again: renewed by a few guarded rows where rules demand it, told to gateways in time and not oftener, and not at all where nobody demands it.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createExecutionContext, runDurableObjectAlarm, waitOnExecutionContext } from 'cloudflare:test'
import { uidTags } from '../../../protocol/operations/fabric.ts'
import type { ReportedName, Sections } from '../../../protocol/facts.ts'
import type { TagState } from '../../../protocol/rules.ts'
import worker from '../../../workers/index.ts'
import { admin, enrolled, linux, ORIGIN, report, reportBody, signatureOf, type Endpoint } from '../ems.ts'
import { by, dataOf, greeted, has, joined } from '../gateway.ts'
import { meter } from '../meter.ts'
import { envWith, real, reEvaluated } from '../standing.ts'
import { addRuleSet, clear, contradictions, osAtLeast } from './fleet.ts'

const { DB } = real
const metered = meter(DB)
const path = '/api/v1/endpoint/report'
const hardware: Sections['hardware'] = { hostName: 'laptop', manufacturer: '', model: '', serial: '', cpu: '', cores: 4, memoryBytes: 1 }
const agentIs = (version: string): Sections['agent'] => ({ version, protocol: '7.0.0', profileVersion: 0, rulesVersion: 0 })

/** Hashes of all, and what was looked at again at these instants. */
async function confirm(endpoint: Endpoint, sections: Partial<Sections>, confirmed: Partial<Record<ReportedName, number>>, more: object = {}) {
  const body = { ...await reportBody(1, sections), sections: {}, confirmed, ...more }
  const request = new Request(`${ORIGIN}${path}`, { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json', ...await signatureOf(endpoint, 'POST', path, body) } })
  const context = createExecutionContext()
  metered.reset()
  const response = await worker.fetch(request, envWith({ DB: metered.database }), context)
  const tally = { ...metered.tally }
  await waitOnExecutionContext(context)
  return { status: response.status, json: await response.json<{ wanted?: string[] }>(), rows: tally.rowsWritten, trips: tally.trips }
}
const sectionAt = async ({ uid }: Endpoint, section: string) => (await DB.prepare('SELECT at FROM endpoint_sections WHERE uid = ? AND section = ?').bind(uid, section).first<{ at: number }>())?.at
const tagsOf = async ({ uid }: Endpoint) => (await admin('GET', `/endpoints/${uid}`)).json.tags as TagState[]
const logged = async () => (await DB.prepare('SELECT count(*) AS n FROM change_log').first<{ n: number }>())?.n
const pass = (ms: number) => vi.setSystemTime(Date.now() + ms)

describe('a section that was looked at again', () => {
  let endpoint: Endpoint
  const held = { os: linux(), hardware }
  beforeEach(async () => {
    await clear()
    vi.useFakeTimers({ now: Date.now(), toFake: ['Date'] })
    endpoint = await enrolled()
  })
  afterEach(() => { vi.useRealTimers() })

  it('costs no row and no trip more where no rule demands it, whatever is confirmed', async () => {
    await addRuleSet('modern', [osAtLeast('12')])
    await report(endpoint, 1, held)
    await reEvaluated()
    const before = await sectionAt(endpoint, 'os')
    pass(3_600_000)
    // Once, so that the rules are at hand here.
    await confirm(endpoint, held, { os: Date.now() })
    expect(await confirm(endpoint, held, { os: Date.now(), hardware: Date.now() })).toMatchObject({ status: 200, rows: 0, trips: 1, json: { wanted: [] } })
    // Nor for a rule of another system, or of another section.
    await admin('POST', '/rule-sets', { name: 'w', tag: 'w', rules: { windows: { conditions: [{ ...osAtLeast('10'), notOlderThanSeconds: 60 }] } } })
    await addRuleSet('agents', [{ type: 'agent-version', comparator: '>=', version: '1', notOlderThanSeconds: 60 }])
    await reEvaluated()
    expect((await confirm(endpoint, held, { os: Date.now(), hardware: Date.now() })).rows).toBe(0)
    expect(await sectionAt(endpoint, 'os')).toBe(before)
  })

  it('with a tag that would run out costs five rows: itself, the endpoint with its due time in the index, the tag and the log; one that has time costs two', async () => {
    await addRuleSet('fresh', [{ ...osAtLeast('12'), notOlderThanSeconds: 60 }])
    await report(endpoint, 1, held)
    await reEvaluated()
    const at = Date.now()
    expect(await tagsOf(endpoint)).toMatchObject([{ state: 'present', validUntil: at + 60_000 }])
    pass(15_000)
    expect(await confirm(endpoint, held, { os: Date.now() })).toMatchObject({ rows: 2, trips: 2 })
    expect(await tagsOf(endpoint)).toMatchObject([{ state: 'present', validUntil: at + 60_000 }])
    pass(25_000)
    const moved = await confirm(endpoint, held, { os: Date.now() })
    expect([moved.trips, moved.rows]).toEqual([2, 5])
    expect(await tagsOf(endpoint)).toMatchObject([{ state: 'present', validUntil: at + 100_000 }])
    expect(await contradictions()).toEqual([])
    // An absent tag is nobody's business: no row of the log, none of the tag.
    await addRuleSet('never', [{ ...osAtLeast('99'), notOlderThanSeconds: 60 }])
    await reEvaluated()
    const before = await logged()
    await report(endpoint, 2, { os: linux('11') })
    pass(30_000)
    const absent = await confirm(endpoint, { os: linux('11') }, { os: Date.now() })
    expect([absent.rows <= 4, (await logged() ?? 0) - (before ?? 0) <= 1]).toEqual([true, true])
  })

  it('moves the instant on by what the agent says, never beyond now, never back, and only for the hash that is held', async () => {
    await addRuleSet('fresh', [{ ...osAtLeast('12'), notOlderThanSeconds: 600 }])
    await report(endpoint, 1, held)
    await reEvaluated()
    const at = Date.now()
    pass(300_000)
    await confirm(endpoint, held, { os: at + 200_000 })
    expect(await sectionAt(endpoint, 'os')).toBe(at + 200_000)
    await confirm(endpoint, held, { os: at - 86_400_000 })
    expect(await sectionAt(endpoint, 'os')).toBe(at + 200_000)
    pass(100_000)
    await confirm(endpoint, held, { os: Date.now() + 86_400_000 })
    expect(await sectionAt(endpoint, 'os')).toBe(Date.now())
    const now = Date.now()
    pass(300_000)
    const other = await confirm(endpoint, { ...held, os: linux('13') }, { os: Date.now() })
    expect([other.rows, other.json.wanted, await sectionAt(endpoint, 'os')]).toEqual([0, ['os'], now])
    expect((await confirm(endpoint, held, { os: -1 })).status).toBe(422)
    expect((await confirm(endpoint, held, {}, { confirmed: { scores: Date.now() } })).status).toBe(422)
    expect(await sectionAt(endpoint, 'os')).toBe(now)
  })

  it('works out only rule sets that demand it fresh, and several sections together cost a row each', async () => {
    await addRuleSet('fresh', [{ ...osAtLeast('12'), notOlderThanSeconds: 60 }, { type: 'agent-version', comparator: '>=', version: '0', notOlderThanSeconds: 60 }])
    for (let n = 0; n < 20; n++) await addRuleSet(`other ${n}`, [osAtLeast('12')])
    const both = { os: linux(), agent: agentIs('1.0.0') }
    await report(endpoint, 1, both)
    await reEvaluated()
    pass(30_000)
    expect((await confirm(endpoint, both, { os: Date.now(), agent: Date.now() })).rows).toBe(6)
  })

  it('keeps an idle device for an hour with a gateway told about twice in the time demanded, and no session need end; then it stops, and the tag is unknown when it falls due', async () => {
    const gateway = await joined()
    const tagUid = await addRuleSet('fresh', [{ ...osAtLeast('12'), notOlderThanSeconds: 600 }]).then(async () => ((await admin('GET', '/tags')).json.items as { uid: string }[])[0]?.uid)
    await report(endpoint, 1, held)
    await reEvaluated()
    const { listening } = await greeted(gateway)
    const validUntil = async () => {
      const { data } = dataOf(await by(gateway, 'GET', uidTags.get.path)) as { data: { uid_tag_lists: Record<string, { members: { tag_uid: string; valid_until: number | null }[] }> } }
      return data.uid_tag_lists[endpoint.uid]?.members.find(({ tag_uid: each }) => each === tagUid)?.valid_until ?? 0
    }
    const [from, before] = [Date.now(), await logged()]
    let rows = 0
    for (let looks = 0; looks < 13; looks++) {
      pass(280_000)
      expect(await validUntil()).toBeGreaterThan(Date.now())
      rows += (await confirm(endpoint, held, { os: Date.now() })).rows
    }
    expect(await validUntil()).toBe(Date.now() + 600_000)
    expect([Date.now() - from > 3_600_000, rows, (await logged() ?? 0) - (before ?? 0)]).toEqual([true, 13 * 5, 13])
    await listening.next(has('changed'))
    pass(600_000)
    for (let step = 0; step < 20 && (await tagsOf(endpoint))[0]?.state !== 'unknown'; step++) await runDurableObjectAlarm(real.RE_EVALUATION.getByName('one'))
    expect(await tagsOf(endpoint)).toMatchObject([{ state: 'unknown', validUntil: null }])
    expect(await contradictions()).toEqual([])
    await confirm(endpoint, held, { os: Date.now() })
    expect(await tagsOf(endpoint)).toMatchObject([{ state: 'present', validUntil: Date.now() + 600_000 }])
  })

  it('is renewed once by two reports at once, and by none that was computed before another\'s change', async () => {
    await addRuleSet('fresh', [{ ...osAtLeast('12'), notOlderThanSeconds: 60 }])
    await report(endpoint, 1, held)
    await reEvaluated()
    pass(30_000)
    const outcomes = await Promise.all([confirm(endpoint, held, { os: Date.now() }), confirm(endpoint, held, { os: Date.now() }), report(endpoint, 2, { hardware: { ...hardware, cores: 8 } })])
    expect(outcomes.map(({ status }) => status)).toEqual([200, 200, 200])
    expect(await tagsOf(endpoint)).toMatchObject([{ state: 'present', validUntil: Date.now() + 60_000 }])
    expect(await contradictions()).toEqual([])
  })
})
