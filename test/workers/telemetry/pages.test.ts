// What an edit costs that leaves nearly everybody alone: counted, at every size of sections, and never at the price of an endpoint that it changes.
import { beforeEach, describe, expect, it } from 'vitest'
import { atRest, reEvaluate, type Standing, type Step } from '../../../workers/flows/re-evaluate.ts'
import { PAGE } from '../../../workers/flows/behind.ts'
import { nothingRead, pauseAfter } from '../../../workers/flows/pause.ts'
import type { Env } from '../../../workers/env.ts'
import { admin, linux, sendTo, TOKEN } from '../ems.ts'
import { meter } from '../meter.ts'
import { contextOf, envWith, real, reEvaluated } from '../standing.ts'
import { addRuleSet, clear, contradictions, osAtLeast, ruleSetOf, seed, tagged, uidOf } from './fleet.ts'

const { DB } = real
const untold = { getByName: () => ({ start: () => Promise.resolve(), due: () => Promise.resolve(), progress: () => real.RE_EVALUATION.getByName('one').progress() }) } as unknown as Env['RE_EVALUATION']
const quietly = (method: string, path: string, body?: object) => sendTo(envWith({ RE_EVALUATION: untold }), method, `/api/v1/admin${path}`, { body, headers: { authorization: `Bearer ${TOKEN}` } })
const network = (groups: number) => ({ interfaces: Array.from({ length: groups }, (_, n) => ({ name: `eth${n}`, mac: `02:00:00:00:${(n >> 8).toString(16).padStart(2, '0')}:${(n & 255).toString(16).padStart(2, '0')}`, addresses: [{ ip: `10.${n % 250}.${n % 7}.${n % 199}`, prefix: 8 }] })), defaultGateways: [], dnsServers: [] })

/** Steps until nothing is due, each within the limits of one invocation. */
async function worked() {
  const metered = meter(DB)
  const sum = { steps: 0, evaluated: 0, written: 0, rowsWritten: 0, bytesRead: 0 }
  let standing: Standing = atRest
  for (let step: Step = { standing, busy: true, next: 0, evaluated: 0, written: 0 }; step.busy || (step.next !== null && step.next <= Date.now() + 60_000);) {
    metered.reset()
    step = await reEvaluate(contextOf(envWith({ DB: metered.database, RE_EVALUATION: untold })), standing, Date.now())
    standing = step.standing
    Object.assign(sum, { steps: sum.steps + 1, evaluated: sum.evaluated + step.evaluated, written: sum.written + step.written, rowsWritten: sum.rowsWritten + metered.tally.rowsWritten, bytesRead: sum.bytesRead + metered.tally.bytesRead })
    if (sum.steps > 200) throw new Error('it does not end')
  }
  return { ...sum, standing }
}
const bytesOfSections = async (sections: readonly string[]) =>
  (await DB.prepare('SELECT sum(length(uid) + length(section) + length(hash) + 8 + length(body)) AS n FROM endpoint_sections WHERE section IN (SELECT value FROM json_each(?))').bind(JSON.stringify(sections)).first<{ n: number }>())?.n ?? 0

describe('an edit that leaves nearly everybody alone', () => {
  beforeEach(clear)

  it('reads at most twice the bytes of the sections that the rule set reads, and none of what else is stored, whether they hold its tag or not', async () => {
    const id = await addRuleSet('modern', [osAtLeast('12'), { type: 'ip-range', ranges: ['10.0.0.0/8'] }])
    for (let n = 0; n < 10; n++) await addRuleSet(`other ${n}`, [osAtLeast('11')])
    await reEvaluated()
    await seed(0, 800, { os: linux('13.1'), network: network(2), user: { account: 'a', fullName: 'x'.repeat(200) } })
    await seed(800, 400, { os: linux('11.1'), network: network(2) })
    await seed(1_200, 10, { os: linux('12.5'), network: network(2) })
    // As the others left them: worked out with the rules as they are.
    await quietly('PUT', `/rule-sets/${id}`, ruleSetOf('modern', [osAtLeast('12.1'), { type: 'ip-range', ranges: ['10.0.0.0/8'] }]))
    await worked()
    expect(await tagged('modern')).toEqual({ present: 810 })
    await quietly('PUT', `/rule-sets/${id}`, ruleSetOf('modern', [osAtLeast('13'), { type: 'ip-range', ranges: ['10.0.0.0/8'] }]))
    const { evaluated, written, rowsWritten, bytesRead, steps } = await worked()
    expect([evaluated, written, await tagged('modern')]).toEqual([1_210, 10, { present: 800 }])
    expect(rowsWritten).toBeLessThanOrEqual(3 * 10 + 20)
    expect(bytesRead).toBeLessThanOrEqual(2 * await bytesOfSections(['os', 'network']))
    expect(steps).toBeLessThan(6)
    expect(await contradictions()).toEqual([])
  })

  it('over sections that are too large for a page of ordinary size reads fewer at once, and works out the same', async () => {
    await seed(0, 120, { os: linux('13.1'), network: network(800) })
    await seed(120, 3, { os: linux('13.1'), network: network(1) })
    const id = await addRuleSet('office', [{ type: 'ip-range', ranges: ['10.0.0.0/8'] }])
    await reEvaluated()
    await quietly('PUT', `/rule-sets/${id}`, ruleSetOf('office', [{ type: 'ip-range', ranges: ['10.0.0.0/8', '192.168.0.0/16'] }]))
    expect([(await worked()).written, await tagged('office')]).toEqual([0, { present: 123 }])
    await quietly('PUT', `/rule-sets/${id}`, ruleSetOf('office', [{ type: 'ip-range', ranges: ['192.168.0.0/16'] }]))
    expect([(await worked()).written, await tagged('office')]).toEqual([123, {}])
    expect(await contradictions()).toEqual([])
  })

  it('takes no page with it when verdicts are torn: that endpoint is set aside, the others are left alone', async () => {
    await seed(0, 50, { os: linux('13.1') })
    const id = await addRuleSet('modern', [osAtLeast('12')])
    await reEvaluated()
    await DB.prepare('UPDATE endpoints SET verdicts = \'{torn\' WHERE uid = ?').bind(uidOf(7)).run()
    await quietly('PUT', `/rule-sets/${id}`, ruleSetOf('modern', [osAtLeast('13')]))
    const { written, evaluated, standing } = await worked()
    expect([written, evaluated, Object.keys(standing.aside)]).toEqual([0, 49, [uidOf(7)]])
    expect((await admin('GET', '/re-evaluation')).json.running).toBe(true)
  })

  it('that gives another tag, or is no longer report-only, changes whoever it holds for although its verdict is the same', async () => {
    await seed(0, 30, { os: linux('13.1') })
    const id = await addRuleSet('modern', [osAtLeast('12')], { mode: 'shadow' })
    await reEvaluated()
    expect(await tagged('modern')).toEqual({})
    await quietly('PUT', `/rule-sets/${id}`, ruleSetOf('modern', [osAtLeast('12')]))
    expect([(await worked()).written, await tagged('modern')]).toEqual([30, { present: 30 }])
    await quietly('PUT', `/rule-sets/${id}`, ruleSetOf('newer', [osAtLeast('12')]))
    expect([(await worked()).written, await tagged('modern'), await tagged('newer')]).toEqual([30, {}, { present: 30 }])
    expect(await contradictions()).toEqual([])
  })
})

describe('the pause after a step', () => {
  const quiet = { tripMs: 2, endpointMs: 0.01 }
  it('is none while nobody else asks, as long as the step at most while others do, and none in the first step, which has nothing to compare with', () => {
    expect(pauseAfter({ quiet, tripMs: 2, read: { endpoints: PAGE, ms: 10 }, tookMs: 100 }).pauseMs).toBe(0)
    expect(pauseAfter({ quiet, tripMs: 4, read: { endpoints: PAGE, ms: 14 }, tookMs: 100 }).pauseMs).toBe(29)
    expect(pauseAfter({ quiet, tripMs: 60, read: nothingRead, tookMs: 100 }).pauseMs).toBe(100)
    expect(pauseAfter({ quiet: undefined, tripMs: 60, read: { endpoints: PAGE, ms: 100 }, tookMs: 100 }).pauseMs).toBe(0)
    expect(pauseAfter({ quiet, tripMs: 9, read: nothingRead, tookMs: -5 }).pauseMs).toBe(0)
  })
  it('learns what is quiet at once, and that quiet has become slower little by little', () => {
    expect(pauseAfter({ quiet, tripMs: 1, read: { endpoints: 100, ms: 0.5 }, tookMs: 100 }).quiet).toEqual({ tripMs: 1, endpointMs: 0.005 })
    const slower = pauseAfter({ quiet, tripMs: 9, read: { endpoints: 100, ms: 9 }, tookMs: 100 }).quiet
    expect([slower.tripMs > 2 && slower.tripMs < 2.1, (slower.endpointMs ?? 0) < 0.011]).toEqual([true, true])
    expect(pauseAfter({ quiet, tripMs: 9, read: nothingRead, tookMs: 100 }).quiet.endpointMs).toBe(0.01)
  })
})
