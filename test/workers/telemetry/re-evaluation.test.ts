// An edit of the rules reaches every endpoint that it concerns, once, at a price that is counted, whatever ends on the way.
import { beforeEach, describe, expect, it } from 'vitest'
import { evictDurableObject, runInDurableObject } from 'cloudflare:test'
import type { ReEvaluation } from '../../../durable-objects/re-evaluation.ts'
import { atRest, reEvaluate } from '../../../workers/flows/re-evaluate.ts'
import type { Env } from '../../../workers/env.ts'
import { admin, enrolled, linux, report, signed } from '../ems.ts'
import { contextOf, envWith, interposed, real, reEvaluated } from '../standing.ts'
import { addRuleSet, clear, contradictions, network, osAtLeast, ruleSetOf, seed, tagged, uidOf } from './fleet.ts'
import { quietly, rowOf, worked } from './stepping.ts'

const { DB } = real
const windows = { type: 'windows' as const, name: 'Windows 11', version: '10.0.22631', kernel: '', architecture: 'x64' }
const object = () => real.RE_EVALUATION.getByName('one')

describe('an edit of the rules', () => {
  beforeEach(clear)

  it('of one of 200 rule sets works out that one, for the systems it concerns, and writes rows for endpoints whose tag changes and no other', async () => {
    await seed(0, 900, { os: linux('12.8') })
    await seed(900, 100, { os: linux('13.1') })
    await seed(1000, 500, { os: windows })
    const ids = await Promise.all(Array.from({ length: 200 }, (_, n) => addRuleSet(`tag ${n}`, [osAtLeast('14')])))
    await reEvaluated()
    const before = await rowOf(5)
    expect((await quietly('PUT', `/rule-sets/${ids[7]}`, ruleSetOf('tag 7', [osAtLeast('13')]))).status).toBe(200)
    const { evaluated, written, rowsWritten } = await worked()
    expect([evaluated, written, await tagged('tag 7')]).toEqual([1000, 100, { present: 100 }])
    // Three rows each: the endpoint, its tag, the log. And where the round stands.
    expect(rowsWritten).toBeLessThanOrEqual(3 * 100 + 20)
    expect(await rowOf(5)).toEqual(before)
    expect(await contradictions()).toEqual([])
    // Those it cost no row are up to date all the same.
    expect((await admin('GET', '/re-evaluation')).json).toMatchObject({ running: false, aside: 0 })
    expect((await worked()).evaluated).toBe(0)
  })

  it('that changes every endpoint stays within the limits of each invocation', async () => {
    await seed(0, 2_000, { os: linux('13.1'), network: network('10.0.0.1') })
    await quietly('POST', '/rule-sets', ruleSetOf('modern', [osAtLeast('13'), { type: 'ip-range', ranges: ['10.0.0.0/8'] }]))
    const { written, rowsWritten, steps } = await worked()
    expect([written, await tagged('modern'), steps < 15]).toEqual([2_000, { present: 2_000 }, true])
    expect(rowsWritten).toBeLessThanOrEqual(3 * 2_000 + 20)
    expect(await contradictions()).toEqual([])
  })

  it('reads each endpoint once, whatever the size of the fleet, and no section of those that it can not concern', async () => {
    await seed(0, 4_000, { os: windows })
    await seed(4_000, 500, { os: linux('13.1') })
    await addRuleSet('modern', [osAtLeast('99')])
    await reEvaluated()
    await quietly('POST', '/rule-sets', ruleSetOf('newer', [osAtLeast('99')]))
    const { evaluated, written, rowsRead } = await worked()
    // A page that looked for its endpoints among all of them would read twice that.
    expect([evaluated, written, rowsRead < 10 * 4_500]).toEqual([500, 0, true])
  })

  it('whose changes are more than one commit takes goes on with what was left', async () => {
    // Names of certificates make each row of the log large.
    await seed(0, 600, { os: linux('13.1') })
    const certificates = JSON.stringify(Array.from({ length: 32 }, (_, n) => ({ serial: n.toString(16).toUpperCase().padStart(40, '0'), purpose: 'browser', user: 'u'.repeat(200), notAfter: 9e12 })))
    await DB.prepare('UPDATE endpoints SET certificates = ?').bind(certificates).run()
    await quietly('POST', '/rule-sets', ruleSetOf('modern', [osAtLeast('13')]))
    const { written, evaluated, steps } = await worked()
    expect([written, await tagged('modern'), steps < 12, evaluated < 900]).toEqual([600, { present: 600 }, true, true])
    expect(await contradictions()).toEqual([])
  })

  it('of a name, a message or a comment evaluates nothing, tells no agent, and shows at once', async () => {
    const endpoint = await enrolled()
    await report(endpoint, 1, { os: linux() })
    const id = await addRuleSet('modern', [osAtLeast('13'), { type: 'file', path: '/etc/x' }])
    await reEvaluated()
    const [tag] = (await signed(endpoint, 'GET', '/api/v1/endpoint/tags')).json.tags as { tagUid: string; ruleSets: { message: string }[] }[]
    const before = (await admin('GET', '/re-evaluation')).json
    const versions = (await report(endpoint, 2, {})).json.documents
    await admin('PUT', `/rule-sets/${id}`, ruleSetOf('modern', [osAtLeast('13'), { type: 'file', path: '/etc/x' }], { name: 'renamed', message: 'Update it.', comment: 'x' }))
    expect((await admin('GET', '/re-evaluation')).json).toEqual(before)
    expect((await report(endpoint, 2, {})).json.documents).toEqual(versions)
    const { json } = await admin('GET', `/endpoints/${endpoint.uid}/tags/${tag?.tagUid}`)
    expect((json.ruleSets as { name: string; message: string }[])[0]).toMatchObject({ name: 'renamed', message: 'Update it.' })
  })

  it('that asks agents nothing new leaves their document as it is; one that does makes it newer', async () => {
    const endpoint = await enrolled()
    const id = await addRuleSet('modern', [osAtLeast('13')])
    const rules = async () => ((await report(endpoint, 1, {})).json.documents as { rules: number }).rules
    const before = await rules()
    await admin('PUT', `/rule-sets/${id}`, ruleSetOf('modern', [osAtLeast('14')]))
    expect(await rules()).toBe(before)
    await admin('PUT', `/rule-sets/${id}`, ruleSetOf('modern', [osAtLeast('14'), { type: 'file', path: '/etc/x' }]))
    const asked = await rules()
    expect(asked).toBeGreaterThan(before)
    await admin('DELETE', `/rule-sets/${id}`)
    expect(await rules()).toBeGreaterThan(asked)
  })

  it('that takes a system out, disables or removes a rule set takes its tag from those who have it, and asks no one else', async () => {
    await seed(0, 50, { os: linux('13.1') })
    await seed(50, 50, { os: windows })
    const both = { rules: { linux: { conditions: [osAtLeast('1')] }, windows: { conditions: [osAtLeast('1')] } } }
    const id = await addRuleSet('any', [], both)
    const other = await addRuleSet('linux only', [osAtLeast('13')])
    await reEvaluated()
    expect(await tagged('any')).toEqual({ present: 100 })
    await quietly('PUT', `/rule-sets/${id}`, ruleSetOf('any', [osAtLeast('1')]))
    expect([(await worked()).written, await tagged('any')]).toEqual([50, { present: 50 }])
    await quietly('PUT', `/rule-sets/${id}`, ruleSetOf('any', [osAtLeast('1')], { enabled: false }))
    expect([(await worked()).written, await tagged('any')]).toEqual([50, {}])
    await quietly('DELETE', `/rule-sets/${other}`)
    expect([(await worked()).written, (await DB.prepare('SELECT count(*) AS n FROM endpoint_tags').first<{ n: number }>())?.n]).toEqual([50, 0])
  })

  it('for one system makes the tag unknown where the system was never reported', async () => {
    await seed(0, 3, { network: network('10.0.0.1') })
    await quietly('POST', '/rule-sets', { name: 'w', tag: 'w', rules: { windows: { conditions: [osAtLeast('1')] } } })
    await worked()
    expect(await tagged('w')).toEqual({ unknown: 3 })
  })

  it('is not forgotten while a step is at work: what came in the middle is begun after it', async () => {
    await reEvaluated()
    let told = 0
    const bindings = envWith({ DB: interposed(DB, { after: async ({ sql }) => { if (told++ === 0 && sql.length > 0) await object().start() } }) })
    await runInDurableObject(object(), async (instance: ReEvaluation, { storage }) => {
      const held = (instance as unknown as { env: Env }).env
      Object.assign(instance, { env: bindings })
      await instance.alarm()
      Object.assign(instance, { env: held })
      expect(await storage.getAlarm()).not.toBeNull()
      await storage.deleteAlarm()
    })
  })

  it('is gone on with after a crash, and its progress is there to be read', async () => {
    await seed(0, 1_200, { os: linux('13.1') })
    await quietly('POST', '/rule-sets', ruleSetOf('modern', [osAtLeast('13')]))
    expect((await admin('GET', '/re-evaluation')).json).toMatchObject({ running: true, total: 1_200, done: 0, since: null })
    // One step; the alarm for the next waits for the test.
    await runInDurableObject(object(), async (instance: ReEvaluation, { storage }) => {
      await instance.alarm()
      await storage.setAlarm(Date.now() + 3_600_000)
    })
    const midway = (await admin('GET', '/re-evaluation')).json as { done: number; total: number }
    expect([midway.total, midway.done > 0 && midway.done < 1_200]).toEqual([1_200, true])
    await evictDurableObject(object())
    await reEvaluated()
    expect((await admin('GET', '/re-evaluation')).json).toMatchObject({ running: false, total: 1_200, done: 1_200, since: expect.any(Number) })
    expect(await tagged('modern')).toEqual({ present: 1_200 })
    // Nobody was evaluated twice: one row of the log each.
    expect((await DB.prepare('SELECT count(*) AS n FROM change_log WHERE uid < ? AND tables = ?').bind(uidOf(1_200), 'uid_tags,tags').first<{ n: number }>())?.n).toBeGreaterThanOrEqual(1_200)
  })

  it('made again and again reaches the last endpoint too: a round goes on from where the one before it stood', async () => {
    await seed(0, 1_500, { os: linux('13.1') })
    await quietly('POST', '/rule-sets', ruleSetOf('first', [osAtLeast('13')]))
    let standing = atRest
    for (let edit = 0; edit < 3; edit++) {
      standing = (await reEvaluate(contextOf(real), standing, Date.now())).standing
      await quietly('POST', '/rule-sets', ruleSetOf(`edit ${edit}`, [osAtLeast('99')]))
    }
    expect(await tagged('first')).toEqual({ present: 1_500 })
    await worked(standing)
    expect((await admin('GET', '/re-evaluation')).json.running).toBe(false)
  })

  it('begins anew when the database was restored to a time before', async () => {
    await seed(0, 1_200, { os: linux('13.1') })
    await quietly('POST', '/rule-sets', ruleSetOf('modern', [osAtLeast('13')]))
    const { standing } = await reEvaluate(contextOf(real), atRest, Date.now())
    expect(await tagged('modern')).toEqual({ present: 1_000 })
    // As it was before the step: the rows of the endpoints and of the log.
    await DB.batch([DB.prepare('UPDATE endpoints SET tags = \'[]\', verdicts = \'{}\', rules_revision = 0'), DB.prepare('DELETE FROM endpoint_tags'), DB.prepare('DELETE FROM change_log WHERE uid IS NOT NULL')])
    await worked(standing)
    expect(await tagged('modern')).toEqual({ present: 1_200 })
  })
})
