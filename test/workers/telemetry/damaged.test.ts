// Facts and rules that are damaged in the database: what they decide is unknown and shown, and nothing else stops.
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { deflateRawSync } from 'node:zlib'
import { atRest } from '../../../workers/flows/re-evaluate.ts'
import { admin, enrolled, linux, report, reportBody, signed } from '../ems.ts'
import { envWith, interposed, real, reEvaluated } from '../standing.ts'
import { addRuleSet, clear, contradictions, network, osAtLeast, ruleSetOf, seed, tagged, uidOf } from './fleet.ts'
import { quietly, rowOf, worked } from './stepping.ts'

const { DB } = real

describe('an endpoint that breaks', () => {
  beforeEach(clear)
  const damage = (n: number, section: string, body: Uint8Array) => DB.prepare('UPDATE endpoint_sections SET body = ? WHERE uid = ? AND section = ?').bind(body, uidOf(n), section).run()

  it('by a stored section that can not be unpacked is unknown, the others go on, and the section is asked for anew', async () => {
    const endpoint = await enrolled()
    await report(endpoint, 1, { os: linux('13.1'), network: network('10.0.0.1') })
    await seed(0, 20, { os: linux('13.1'), network: network('10.0.0.1') })
    await DB.prepare('UPDATE endpoint_sections SET body = ? WHERE uid = ? AND section = ?').bind(new Uint8Array([1, 2, 3]), endpoint.uid, 'network').run()
    await damage(3, 'network', deflateRawSync('null'))
    await quietly('POST', '/rule-sets', ruleSetOf('office', [{ type: 'ip-range', ranges: ['10.0.0.0/8'] }]))
    await quietly('POST', '/rule-sets', ruleSetOf('modern', [osAtLeast('13')]))
    const logged = vi.spyOn(console, 'log')
    await worked()
    expect(logged.mock.calls.filter(([line]) => String(line).includes('section-damaged'))).toHaveLength(2)
    logged.mockRestore()
    expect([await tagged('office'), await tagged('modern')]).toEqual([{ present: 19, unknown: 2 }, { present: 21 }])
    const body = await reportBody(2, { os: linux('13.1'), network: network('10.0.0.1') })
    const asked = await signed(endpoint, 'POST', '/api/v1/endpoint/report', { ...body, sections: {} })
    expect([asked.status, asked.json.wanted]).toEqual([200, ['network']])
    expect((await report(endpoint, 2, { network: network('10.0.0.1') })).status).toBe(200)
    expect(await tagged('office')).toEqual({ present: 20, unknown: 1 })
    expect(await contradictions()).toEqual([])
  })

  it('by a damaged section takes every tag that reads it, also those of rule sets that were not edited', async () => {
    await seed(0, 4, { os: linux('13.1'), network: network('10.0.0.1') })
    await addRuleSet('office', [{ type: 'ip-range', ranges: ['10.0.0.0/8'] }])
    await addRuleSet('both', [{ type: 'ip-range', ranges: ['10.0.0.0/8'] }, osAtLeast('13')])
    await reEvaluated()
    await damage(2, 'network', new Uint8Array([1, 2, 3]))
    await quietly('POST', '/rule-sets', ruleSetOf('home', [{ type: 'ip-range', ranges: ['192.168.0.0/16'] }]))
    await worked()
    expect([await tagged('office'), await tagged('both'), await tagged('home')]).toEqual([{ present: 3, unknown: 1 }, { present: 3, unknown: 1 }, { unknown: 1 }])
    expect(await contradictions()).toEqual([])
  })
  it('takes no report with it: what is damaged is asked for, what was sent is taken', async () => {
    const endpoint = await enrolled()
    await addRuleSet('office', [{ type: 'ip-range', ranges: ['10.0.0.0/8'] }])
    await report(endpoint, 1, { os: linux('13.1'), network: network('10.0.0.1') })
    await DB.prepare('UPDATE endpoint_sections SET body = ? WHERE uid = ? AND section = ?').bind(new Uint8Array([1, 2, 3]), endpoint.uid, 'network').run()
    const body = await reportBody(2, { os: linux('13.2'), network: network('10.0.0.1') })
    const answer = await signed(endpoint, 'POST', '/api/v1/endpoint/report', { ...body, sections: { os: linux('13.2') } })
    expect([answer.status, answer.json.wanted, await tagged('office')]).toEqual([200, ['network'], { unknown: 1 }])
    expect((await admin('GET', `/endpoints/${endpoint.uid}`)).status).toBe(200)
    expect((await admin('POST', `/endpoints/${endpoint.uid}/deregister`, {})).status).toBe(200)
  })

  it('by a fact that a condition fails on is unknown in that tag only, and falls due again', async () => {
    await seed(0, 5, { os: linux('13.1'), network: network('10.0.0.1') })
    await damage(2, 'network', deflateRawSync('{}'))
    await quietly('POST', '/rule-sets', ruleSetOf('office', [{ type: 'ip-range', ranges: ['10.0.0.0/8'] }]))
    await quietly('POST', '/rule-sets', ruleSetOf('modern', [osAtLeast('13')]))
    await worked()
    expect([await tagged('office'), await tagged('modern'), (await rowOf(2))?.next_due]).toEqual([{ present: 4, unknown: 1 }, { present: 5 }, expect.any(Number)])
  })

  it('altogether is set aside and shown, the others go on, and when it is mended the edit reaches it', async () => {
    await seed(0, 20, { os: linux('13.1') })
    await DB.prepare('UPDATE endpoints SET verdicts = \'{torn\' WHERE uid = ?').bind(uidOf(7)).run()
    await quietly('POST', '/rule-sets', ruleSetOf('modern', [osAtLeast('13')]))
    const { standing } = await worked()
    expect([await tagged('modern'), Object.keys(standing.aside)]).toEqual([{ present: 19 }, [uidOf(7)]])
    expect((await admin('GET', '/re-evaluation')).json.running).toBe(true)
    await DB.prepare('UPDATE endpoints SET verdicts = \'{}\' WHERE uid = ?').bind(uidOf(7)).run()
    await worked(standing, undefined, () => Date.now() + 600_000)
    expect([await tagged('modern'), (await admin('GET', '/re-evaluation')).json.running]).toEqual([{ present: 20 }, false])
  })

  it('in the database itself is found by halving the page, and set aside alone', async () => {
    await seed(0, 40, { os: linux('13.1') })
    await quietly('POST', '/rule-sets', ruleSetOf('modern', [osAtLeast('13')]))
    const torn = interposed(DB, { before: () => undefined })
    const original = torn.batch.bind(torn)
    torn.batch = (async (statements: D1PreparedStatement[]) => {
      // Whatever is written for that one fails.
      const results = await DB.prepare('SELECT version FROM endpoints WHERE uid = ?').bind(uidOf(11)).first<{ version: number }>()
      const answer = await original(statements)
      const after = await DB.prepare('SELECT version FROM endpoints WHERE uid = ?').bind(uidOf(11)).first<{ version: number }>()
      if (after?.version !== results?.version) {
        await DB.prepare('UPDATE endpoints SET version = 1, tags = \'[]\', verdicts = \'{}\', rules_revision = 0 WHERE uid = ?').bind(uidOf(11)).run()
        await DB.prepare('DELETE FROM endpoint_tags WHERE uid = ?').bind(uidOf(11)).run()
        throw new Error('D1_ERROR: disk I/O error')
      }
      return answer
    }) as never
    const { standing } = await worked(atRest, envWith({ DB: torn }))
    expect([await tagged('modern'), Object.keys(standing.aside)]).toEqual([{ present: 39 }, [uidOf(11)]])
  })
})

describe('a rule set that can not be read', () => {
  beforeEach(clear)
  it('makes its tag unknown everywhere and takes no other with it; it can be seen, and replaced', async () => {
    const endpoint = await enrolled()
    let sequence = 1
    await report(endpoint, sequence, { os: linux('13.1') })
    const [id, other] = [await addRuleSet('modern', [osAtLeast('13')]), await addRuleSet('newer', [osAtLeast('13')])]
    await reEvaluated()
    for (const body of ['{torn', '{}', JSON.stringify({ id, tagUid: id, name: 'x', enabled: true, tag: 'modern', message: '', comment: '', rules: { linux: { conditions: [{ type: 'gone', negate: false }] } } })]) {
      await DB.prepare('UPDATE rule_sets SET body = ? WHERE id = ?').bind(body, id).run()
      await admin('PUT', `/rule-sets/${other}`, ruleSetOf('newer', [osAtLeast(String(sequence))]))
      await reEvaluated()
      expect([body, await tagged('modern'), await tagged('newer')]).toEqual([body, { unknown: 1 }, { present: 1 }])
      expect((await report(endpoint, ++sequence, { os: linux(`13.${sequence}`) })).status).toBe(200)
      expect((await signed(endpoint, 'GET', '/api/v1/endpoint/tags')).status).toBe(200)
      expect([await tagged('modern'), await tagged('newer')]).toEqual([{ unknown: 1 }, { present: 1 }])
      expect((await admin('GET', '/rule-sets')).json.items).toHaveLength(2)
    }
    expect((await admin('PUT', `/rule-sets/${id}`, ruleSetOf('modern', [osAtLeast('13')]))).status).toBe(200)
    await reEvaluated()
    expect(await tagged('modern')).toEqual({ present: 1 })
  })
})
