// A gateway that does not acknowledge: what was written stands, whoever can come again is told to, and the gateway is told by what comes next.
import { beforeEach, describe, expect, it, vi } from 'vitest'
import type { Env } from '../../../workers/env.ts'
import { keepHouse } from '../../../workers/flows/keep-house.ts'
import { atRest, reEvaluate } from '../../../workers/flows/re-evaluate.ts'
import { enrolled, linux, report, sendTo, signed } from '../ems.ts'
import { contextOf, envWith, real, reEvaluated, reportTo } from '../standing.ts'
import { addGateway, clear, osAtLeast, ruleSetOf, seed, tagged } from './fleet.ts'

const { DB } = real

describe('a gateway that does not acknowledge', () => {
  /** The first `times` pokes are lost on the way; what comes later arrives. */
  const deaf = (times: number) => {
    let lost = 0
    const told: string[] = []
    const namespace = { getByName: (name: string) => ({ poke: async (...given: Parameters<ReturnType<Env['FCM_NOTIFY']['getByName']>['poke']>) => {
      if (lost++ < times) throw new Error('the object is gone')
      told.push(name)
      await real.FCM_NOTIFY.getByName(name).poke(...given)
    } }) } as unknown as Env['FCM_NOTIFY']
    return { namespace, told }
  }
  beforeEach(async () => {
    await clear()
    await addGateway('SPGW00000000000D')
  })
  const cursor = async () => (await real.FCM_NOTIFY.getByName('SPGW00000000000D').cursor())?.revision
  const head = async () => (await DB.prepare('SELECT max(revision) AS r FROM change_log').first<{ r: number }>())?.r

  it('makes the report wait: it is taken, answered 503, and the same one again writes nothing and tells the gateway', async () => {
    const endpoint = await enrolled()
    await report(endpoint, 1, { os: linux('12.8') })
    const { namespace } = deaf(1)
    const bindings = envWith({ FCM_NOTIFY: namespace })
    const first = await reportTo(bindings, endpoint, 2, { os: linux('13.1') })
    expect([first.status, first.json.retryAfterSeconds, await cursor() === await head()]).toEqual([503, 1, false])
    const before = await head()
    expect((await reportTo(bindings, endpoint, 2, { os: linux('13.1') })).status).toBe(200)
    expect([await head(), await cursor()]).toEqual([before, before])
  })
  it('does not keep a revoked or deregistered endpoint in: the records and its channel are cut, and the same call again tells the gateway', async () => {
    const endpoint = await enrolled()
    const ended: unknown[][] = []
    const channel = { getByName: () => ({ end: (...given: unknown[]) => Promise.resolve(void ended.push(['end', ...given])), push: (...given: unknown[]) => Promise.resolve(void ended.push(['push', ...given])) }) } as unknown as Env['ENDPOINT_CHANNEL']
    const { namespace } = deaf(1)
    const bindings = envWith({ FCM_NOTIFY: namespace, ENDPOINT_CHANNEL: channel })
    const call = () => sendTo(bindings, 'POST', `/api/v1/admin/endpoints/${endpoint.uid}/deregister`, { body: {}, headers: { authorization: `Bearer ${real.ADMIN_TOKEN}` } })
    expect((await call()).status).toBe(503)
    expect(ended).toEqual([['push', endpoint.uid, expect.objectContaining({ type: 'document' })], ['end', endpoint.uid, null, 'deregistered']])
    expect((await signed(endpoint, 'GET', '/api/v1/endpoint/tags')).code).toBe('deregistered')
    const before = await head()
    expect([(await call()).status, await head(), await cursor()]).toEqual([200, before, before])
  })
  it('does not make an administrator send an edit again: it stands, once, and the re-evaluation tells the gateway', async () => {
    const started: unknown[] = []
    const untold = { getByName: () => ({ start: (tell: unknown) => Promise.resolve(void started.push(tell)) }) } as unknown as Env['RE_EVALUATION']
    const { namespace } = deaf(1)
    const logged = vi.spyOn(console, 'log').mockImplementation(() => undefined)
    const answer = await sendTo(envWith({ FCM_NOTIFY: namespace, RE_EVALUATION: untold }), 'POST', '/api/v1/admin/rule-sets', { body: ruleSetOf('modern', [osAtLeast('13')]), headers: { authorization: `Bearer ${real.ADMIN_TOKEN}` } })
    logged.mockRestore()
    expect([answer.status, started]).toEqual([200, [true]])
    await real.RE_EVALUATION.getByName('one').start(true)
    await reEvaluated()
    expect(await cursor()).toBe(await head())
  })
  it('for long is told again every five seconds, and not in every step', async () => {
    const { namespace, told } = deaf(1_000)
    const context = contextOf(envWith({ FCM_NOTIFY: namespace }))
    const now = Date.now()
    const [first, second] = [await reEvaluate(context, { ...atRest, owed: now }, now), await reEvaluate(context, { ...atRest, owed: now + 4_000 }, now)]
    expect([first.next, first.standing.owed, second.next, second.standing.owed, told]).toEqual([now + 5_000, now + 5_000, now + 4_000, now + 4_000, []])
  })
  it('nor does an object of the re-evaluation that is gone: the edit stands, and the cron begins it', async () => {
    const endpoint = await enrolled()
    await report(endpoint, 1, { os: linux('13.1') })
    const gone = { getByName: () => ({ start: () => Promise.reject(new Error('the object is gone')) }) } as unknown as Env['RE_EVALUATION']
    const answer = await sendTo(envWith({ RE_EVALUATION: gone }), 'POST', '/api/v1/admin/rule-sets', { body: ruleSetOf('modern', [osAtLeast('13')]), headers: { authorization: `Bearer ${real.ADMIN_TOKEN}` } })
    expect(answer.status).toBe(200)
    await keepHouse(real, Date.now())
    await reEvaluated()
    expect(await tagged('modern')).toEqual({ present: 1 })
  })
  it('is told again by the re-evaluation that it did not hear, once a page and not once an endpoint', async () => {
    await seed(0, 300, { os: linux('13.1') })
    const untold = { getByName: () => ({ start: () => Promise.resolve() }) } as unknown as Env['RE_EVALUATION']
    await sendTo(envWith({ RE_EVALUATION: untold }), 'POST', '/api/v1/admin/rule-sets', { body: ruleSetOf('modern', [osAtLeast('13')]), headers: { authorization: `Bearer ${real.ADMIN_TOKEN}` } })
    const { namespace, told } = deaf(1)
    const context = contextOf(envWith({ FCM_NOTIFY: namespace }))
    const first = await reEvaluate(context, atRest, Date.now())
    expect([first.written, first.standing.owed, told, first.next]).toEqual([300, expect.any(Number), [], expect.any(Number)])
    const second = await reEvaluate(context, first.standing, Date.now())
    expect([second.standing.owed, told, await cursor()]).toEqual([null, ['SPGW00000000000D'], await head()])
  })
})
