// Many hands on one endpoint: reports, presence, certificates, edits of the rules, deregistration. Each writes whole or not at all, and what was computed from something older is computed anew.
import { beforeEach, describe, expect, it } from 'vitest'
import { generateKey } from '../../../identity/keys.ts'
import { createCsr } from '../../../identity/request.ts'
import { Fault } from '../../../protocol/faults.ts'
import type { Env } from '../../../workers/env.ts'
import { changeEndpoint } from '../../../workers/flows/change-endpoint.ts'
import { setOnline } from '../../../workers/flows/presence.ts'
import { atRest, reEvaluate } from '../../../workers/flows/re-evaluate.ts'
import { MAX_FULL } from '../../../workers/flows/settle.ts'
import { admin, der, enrolled, linux, report, reportBody, sendTo, signed, type Endpoint } from '../ems.ts'
import { meter } from '../meter.ts'
import { contextOf, envWith, interposed, real, reEvaluated, reportTo } from '../standing.ts'
import { addGateway, addRuleSet, clear, contradictions, network, osAtLeast, ruleSetOf, seed, tagged, uidOf } from './fleet.ts'

const { DB } = real
const path = '/api/v1/endpoint/report'
const office = { type: 'ip-range', ranges: ['10.0.0.0/8'] }
const tagsOf = async ({ uid }: { uid: string }) => ((await admin('GET', `/endpoints/${uid}`)).json.tags as { tagUid: string; state: string }[]).map(({ state }) => state)
/** Does something once, before the first trip that writes the endpoint. */
const beforeWriting = (action: () => Promise<unknown>) => {
  let done = false
  return envWith({ DB: interposed(DB, { before: async (sql) => {
    if (done || !sql.some((each) => each.startsWith('update "endpoints"'))) return
    done = true
    await action()
  } }) })
}

describe('a report', () => {
  let endpoint: Endpoint
  beforeEach(async () => {
    await clear()
    endpoint = await enrolled()
    await report(endpoint, 1, { os: linux('12.8'), network: network('192.168.0.1') })
    await addRuleSet('modern', [osAtLeast('13')])
    await addRuleSet('office', [office])
    await reEvaluated()
  })

  it('overtaken by another report of the same endpoint counts what that one brought', async () => {
    const bindings = beforeWriting(() => report(endpoint, 2, { network: network('10.0.0.1') }))
    expect((await reportTo(bindings, endpoint, 3, { os: linux('13.1') })).status).toBe(200)
    expect([await tagged('modern'), await tagged('office')]).toEqual([{ present: 1 }, { present: 1 }])
    expect(await contradictions()).toEqual([])
  })
  it('overtaken by one of a later sequence gives way to it', async () => {
    const bindings = beforeWriting(() => report(endpoint, 9, { os: linux('13.1') }))
    expect((await reportTo(bindings, endpoint, 2, { os: linux('11.0') })).code).toBe('stale_sequence')
    expect(await tagged('modern')).toEqual({ present: 1 })
  })
  it('overtaken by an edit of the rules is computed with the new ones', async () => {
    const bindings = beforeWriting(() => addRuleSet('newest', [osAtLeast('13.1')]))
    expect((await reportTo(bindings, endpoint, 2, { os: linux('13.1') })).status).toBe(200)
    expect([await tagged('modern'), await tagged('newest')]).toEqual([{ present: 1 }, { present: 1 }])
  })
  it('overtaken by deregistration writes nothing and is told so', async () => {
    const bindings = beforeWriting(() => admin('POST', `/endpoints/${endpoint.uid}/deregister`, {}))
    const { code, json } = await reportTo(bindings, endpoint, 2, { os: linux('13.1') })
    expect([code, typeof json.document, await tagsOf(endpoint), await tagged('modern')]).toEqual(['deregistered', 'string', [], {}])
    expect(await contradictions()).toEqual([])
  })
  it('overtaken by presence and by the first use of a certificate keeps both', async () => {
    const bindings = beforeWriting(() => setOnline({ env: real, waitUntil: () => undefined }, endpoint.uid, true))
    expect((await reportTo(bindings, endpoint, 2, { os: linux('13.1') })).status).toBe(200)
    expect([(await admin('GET', `/endpoints/${endpoint.uid}`)).json.online, await tagged('modern')]).toEqual([true, { present: 1 }])
  })
  it('that is the first use of a certificate counts what came by the old one while that was written', async () => {
    await addRuleSet('both', [osAtLeast('13'), office])
    await reEvaluated()
    const keys = await generateKey()
    const { json } = await signed(endpoint, 'POST', '/api/v1/endpoint/renew', { csr: await createCsr(keys, 'x') })
    const renewed = { uid: endpoint.uid, keys, certificate: der(json.certificate) }
    const bindings = beforeWriting(() => report(endpoint, 2, { network: network('10.0.0.1') }))
    expect((await reportTo(bindings, renewed, 3, { os: linux('13.1') })).status).toBe(200)
    // A rule that reads the two facts together finds them as they are.
    expect([await tagged('modern'), await tagged('office'), await tagged('both')]).toEqual([{ present: 1 }, { present: 1 }, { present: 1 }])
  })
  it('that never wins is told to come again, and has written nothing', async () => {
    let times = 0
    const bindings = envWith({ DB: interposed(DB, { before: async (sql) => {
      if (sql.some((each) => each.startsWith('update "endpoints"'))) await DB.prepare('UPDATE endpoints SET version = version + 1 WHERE uid = ?').bind(endpoint.uid).run().then(() => { times++ })
    } }) })
    const { status, json } = await reportTo(bindings, endpoint, 2, { os: linux('13.1') })
    expect([status, json.code, json.retryAfterSeconds, times, await tagged('modern')]).toEqual([503, 'busy', 1, 5, {}])
  })

  it('without anything new never takes a sequence back: an older one does not pass afterwards', async () => {
    await report(endpoint, 10, { os: linux('13.1') })
    await addRuleSet('newest', [osAtLeast('13.1')])
    // Whoever was quicker: the re-evaluation or this report.
    const empty = await reportBody(0, { os: linux('13.1') })
    expect((await signed(endpoint, 'POST', path, { ...empty, sections: {} })).json.sequence).toBe(10)
    expect((await report(endpoint, 5, { os: linux('11.0') })).code).toBe('stale_sequence')
  })
  it('after an edit that changes nothing for it writes no row, before the round has come to it and after', async () => {
    const untold = { getByName: () => ({ start: () => Promise.resolve(), due: () => Promise.resolve() }) } as unknown as Env['RE_EVALUATION']
    await sendTo(envWith({ RE_EVALUATION: untold }), 'POST', '/api/v1/admin/rule-sets', { body: ruleSetOf('newest', [osAtLeast('99')]), headers: { authorization: `Bearer ${real.ADMIN_TOKEN}` } })
    let rows = 0
    const bindings = envWith({ DB: interposed(DB, { after: ({ rowsWritten }) => { rows += rowsWritten } }) })
    expect((await reportTo(bindings, endpoint, 1, { os: linux('12.8'), network: network('192.168.0.1') })).status).toBe(200)
    expect(rows).toBe(0)
    await reEvaluate(contextOf(real), atRest, Date.now())
    expect((await reportTo(bindings, endpoint, 1, { os: linux('12.8'), network: network('192.168.0.1') })).status).toBe(200)
    expect(rows).toBe(0)
  })
  it('that is an endpoint\'s first is worked out whole, however long ago the rules were edited', async () => {
    await addRuleSet('file', [{ type: 'file', path: '/etc/x' }])
    await reEvaluated()
    const fresh = await enrolled()
    await report(fresh, 1, { os: linux('13.1') })
    expect((await tagsOf(fresh)).sort()).toEqual(['present', 'unknown', 'unknown'])
  })
  it('is refused when what it would store is larger than an endpoint may keep', async () => {
    const random = () => Array.from(crypto.getRandomValues(new Uint8Array(60)), (byte) => String.fromCharCode(0x4e00 + byte * 80)).join('')
    const packages = Array.from({ length: 8_000 }, () => ({ ecosystem: 'deb' as const, name: random(), version: '1' }))
    expect((await report(endpoint, 2, { software: { packages } })).code).toBe('too_large')
    expect((await report(endpoint, 2, { os: linux('13.1') })).status).toBe(200)
  })
})

describe('a page of the re-evaluation', () => {
  beforeEach(clear)
  it('that others are quicker in writes the rest, and computes those anew', async () => {
    await seed(0, 20, { os: linux('13.1') })
    await addRuleSet('modern', [osAtLeast('99')])
    await reEvaluated()
    const untold = { getByName: () => ({ start: () => Promise.resolve() }) } as unknown as Env['RE_EVALUATION']
    await sendTo(envWith({ RE_EVALUATION: untold }), 'POST', '/api/v1/admin/rule-sets', { body: ruleSetOf('newer', [osAtLeast('13')]), headers: { authorization: `Bearer ${real.ADMIN_TOKEN}` } })
    const bindings = beforeWriting(async () => {
      await admin('POST', `/endpoints/${uidOf(3)}/deregister`, {})
      await setOnline({ env: real, waitUntil: () => undefined }, uidOf(4), true)
      await changeEndpoint(contextOf(real), uidOf(5), () => ({ set: { account: 'x' }, tables: ['sysinfo'] }))
    })
    const first = await reEvaluate(contextOf(bindings), atRest, Date.now())
    expect([first.written, await tagged('newer')]).toEqual([17, { present: 17 }])
    const second = await reEvaluate(contextOf(bindings), first.standing, Date.now())
    expect([second.written, await tagged('newer'), await contradictions()]).toEqual([2, { present: 19 }, []])
  })
  it('whose endpoints are all gone when it reads them goes on behind them', async () => {
    await seed(0, 1_500, { os: linux('13.1') })
    const untold = { getByName: () => ({ start: () => Promise.resolve() }) } as unknown as Env['RE_EVALUATION']
    await sendTo(envWith({ RE_EVALUATION: untold }), 'POST', '/api/v1/admin/rule-sets', { body: ruleSetOf('modern', [osAtLeast('13')]), headers: { authorization: `Bearer ${real.ADMIN_TOKEN}` } })
    let done = false
    const bindings = envWith({ DB: interposed(DB, { before: async (sql) => {
      if (done || !sql.some((each) => each.includes('from "endpoint_sections"'))) return
      done = true
      await DB.prepare('UPDATE endpoints SET registered = 0 WHERE uid < ?').bind(uidOf(1_000)).run()
    } }) })
    const first = await reEvaluate(contextOf(bindings), atRest, Date.now())
    expect([first.written, first.standing.round?.at]).toEqual([0, uidOf(999)])
    const second = await reEvaluate(contextOf(bindings), first.standing, Date.now())
    expect([second.written, await tagged('modern')]).toEqual([500, { present: 500 }])
  })
  it('computed with rules that were edited meanwhile writes nothing', async () => {
    await seed(0, 5, { os: linux('13.1') })
    const untold = { getByName: () => ({ start: () => Promise.resolve() }) } as unknown as Env['RE_EVALUATION']
    const quietly = (tag: string, version: string) => sendTo(envWith({ RE_EVALUATION: untold }), 'POST', '/api/v1/admin/rule-sets', { body: ruleSetOf(tag, [osAtLeast(version)]), headers: { authorization: `Bearer ${real.ADMIN_TOKEN}` } })
    await quietly('modern', '13')
    const step = await reEvaluate(contextOf(beforeWriting(() => quietly('newer', '13'))), atRest, Date.now())
    expect([step.written, await tagged('modern')]).toEqual([0, {}])
    await reEvaluate(contextOf(real), step.standing, Date.now())
    expect([await tagged('modern'), await tagged('newer')]).toEqual([{ present: 5 }, { present: 5 }])
  })
  it('takes turns with verdicts that fall due by time, and neither keeps the other waiting', async () => {
    const scanned = { type: 'vulnerable-devices', severity: 'high', scannedWithinSeconds: 60, negate: true }
    const many = 2 * MAX_FULL - 50
    await seed(0, many, { os: linux('13.1'), vulnerabilities: { scannedAt: 1, scanner: 's', found: [] } })
    await addRuleSet('clean', [scanned])
    await reEvaluated()
    await DB.prepare('UPDATE endpoints SET next_due = 5').run()
    const untold = { getByName: () => ({ start: () => Promise.resolve() }) } as unknown as Env['RE_EVALUATION']
    await sendTo(envWith({ RE_EVALUATION: untold }), 'POST', '/api/v1/admin/rule-sets', { body: ruleSetOf('modern', [osAtLeast('13')]), headers: { authorization: `Bearer ${real.ADMIN_TOKEN}` } })
    const due = async () => (await DB.prepare('SELECT count(*) AS n FROM endpoints WHERE next_due = 5').first<{ n: number }>())?.n ?? 0
    const first = await reEvaluate(contextOf(real), atRest, Date.now())
    expect([await due(), await tagged('modern')]).toEqual([many - MAX_FULL, { present: MAX_FULL }])
    const second = await reEvaluate(contextOf(real), first.standing, Date.now())
    // Those that the page of the round found due were worked out whole.
    expect([await due(), await tagged('modern')]).toEqual([0, { present: many }])
    expect(second.next).not.toBeNull()
  })
})

describe('a fleet that is due altogether', () => {
  it('is worked through in pages that no invocation’s limits forbid', async () => {
    await clear()
    const metered = meter(DB)
    const facts = { os: linux('13.1'), network: network('10.0.0.1'), user: { account: 'a' }, agent: { version: '1', protocol: '7.0.0', profileVersion: 0, rulesVersion: 0 }, verdicts: { answers: {} }, vulnerabilities: { scannedAt: 1, scanner: 's', found: [] } }
    await seed(0, 1_000, facts)
    await DB.prepare('UPDATE endpoints SET next_due = 5').run()
    const untold = { getByName: () => ({ start: () => Promise.resolve() }) } as unknown as Env['RE_EVALUATION']
    await sendTo(envWith({ RE_EVALUATION: untold }), 'POST', '/api/v1/admin/rule-sets', { body: ruleSetOf('modern', [osAtLeast('13')]), headers: { authorization: `Bearer ${real.ADMIN_TOKEN}` } })
    let [standing, steps] = [{ ...atRest, dueFirst: false }, 0]
    for (let next: number | null = 0; next !== null && steps < 40; steps++) {
      metered.reset()
      const step = await reEvaluate(contextOf(envWith({ DB: metered.database })), standing, Date.now())
      ;[standing, next] = [step.standing, step.next]
    }
    expect([await tagged('modern'), (await DB.prepare('SELECT count(*) AS n FROM endpoints WHERE next_due IS NOT NULL').first<{ n: number }>())?.n, steps < 12]).toEqual([{ present: 1_000 }, 0, true])
  })
})

describe('everything at once', () => {
  /** It stands; a gateway that did not acknowledge it in time is told by what comes next. */
  const written = (work: Promise<unknown>) => work.catch((cause: unknown) => {
    if (!(cause instanceof Fault && cause.code === 'busy')) throw cause
  })
  it('leaves every endpoint whole: its row, its tags and the log say the same, and it is what working it out anew gives', async () => {
    await clear()
    await addGateway('SPGW00000000000E')
    const endpoints = await Promise.all(Array.from({ length: 6 }, () => enrolled()))
    await Promise.all(endpoints.map((each) => report(each, 1, { os: linux('12.8'), network: network('192.168.0.1') })))
    const [modern] = await Promise.all([addRuleSet('modern', [osAtLeast('13')]), addRuleSet('office', [office])])
    let sequence = 1
    for (let round = 0; round < 6; round++) {
      sequence++
      await Promise.all([
        ...endpoints.map((each, n) => report(each, sequence, { os: linux(`1${(n + round) % 5}.1`), network: network(round % 2 === 0 ? '10.0.0.1' : '192.168.0.1') })),
        ...endpoints.map((each, n) => written(setOnline({ env: real, waitUntil: () => undefined }, each.uid, (n + round) % 2 === 0))),
        admin('PUT', `/rule-sets/${modern}`, ruleSetOf('modern', [osAtLeast(String(11 + round % 4))])),
        ...(round === 4 ? [admin('POST', `/endpoints/${endpoints[0]?.uid}/deregister`, {})] : []),
      ])
    }
    await reEvaluated()
    expect(await contradictions()).toEqual([])
    const stored = async () => (await DB.prepare('SELECT uid, tags, verdicts FROM endpoints ORDER BY uid').all()).results
    const before = await stored()
    expect((before.find(({ uid }) => uid === endpoints[0]?.uid))?.tags).toBe('[]')
    // From scratch: nothing is known of any verdict.
    await DB.batch([DB.prepare('UPDATE rules_state SET revision = revision + 1, changed_at = changed_at + 1 WHERE id = 1'), DB.prepare('DELETE FROM rule_changes')])
    await real.RE_EVALUATION.getByName('one').start()
    await reEvaluated()
    expect(await stored()).toEqual(before)
  })
})
