// A report becomes facts, tags and one row of the log, at a price that is counted; two writers never tear an endpoint.
import { beforeEach, describe, expect, it } from 'vitest'
import { createExecutionContext, evictDurableObject, runInDurableObject, waitOnExecutionContext } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { conditionKey } from '../../../domain/tagging/condition-key.ts'
import { makeContext } from '../../../workers/context.ts'
import { readConfig, type Env } from '../../../workers/env.ts'
import { commitEndpoint } from '../../../workers/flows/commit-endpoint.ts'
import worker from '../../../workers/index.ts'
import { drizzle } from 'drizzle-orm/d1'
import { eq } from 'drizzle-orm'
import { endpoints } from '../../../schema/endpoint.ts'
import { packSection } from '../../../workers/flows/facts.ts'
import { insertSection } from '../../../schema/queries/guarded.ts'
import { admin, enrolled, linux, ORIGIN, report, reportBody, signatureOf, signed, type Endpoint } from '../ems.ts'
import { meter } from '../meter.ts'
import { reEvaluated } from '../standing.ts'

const real = env as unknown as Env
const { DB } = real
const file = { type: 'file', negate: false, path: '/etc/marker' }
const answer = (value: 'true' | 'false') => ({ answers: { [conditionKey(file)]: { value, seen: `${file.path} ${value}`, at: 1_790_000_000_000 } } })
const tagsOf = async ({ uid }: Endpoint) => ((await admin('GET', `/endpoints/${uid}`)).json.tags as { state: string }[]).map(({ state }) => state)
const logOf = async ({ uid }: Endpoint) => (await DB.prepare('SELECT tables, entry FROM change_log WHERE uid = ? ORDER BY revision').bind(uid).all<{ tables: string; entry: string }>()).results
const metered = meter(DB)
const meteredEnv: Env = { ...real, FCM_NOTIFY: real.FCM_NOTIFY, ENDPOINT_CHANNEL: real.ENDPOINT_CHANNEL, RE_EVALUATION: real.RE_EVALUATION, DB: metered.database, ADMIN_TOKEN: real.ADMIN_TOKEN, WRAPPING_KEYS: real.WRAPPING_KEYS, PUBLIC_ORIGIN: real.PUBLIC_ORIGIN }

async function reportMetered(endpoint: Endpoint, sequence: number, sections: Parameters<typeof reportBody>[1]) {
  const body = await reportBody(sequence, sections)
  const path = '/api/v1/endpoint/report'
  const request = new Request(`${ORIGIN}${path}`, { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json', ...await signatureOf(endpoint, 'POST', path, body) } })
  const context = createExecutionContext()
  metered.reset()
  const response = await worker.fetch(request, meteredEnv, context)
  const tally = { ...metered.tally }
  await waitOnExecutionContext(context)
  return { status: response.status, json: await response.json<Record<string, unknown>>(), tally }
}
const addGateway = (n: number) => DB.prepare('INSERT INTO gateways (serial, name, state, reason, key_hash, fingerprint, csr, joined_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)')
  .bind(`SPGW00000000000${n}`, 'gw', 'authorised', '', `hash${n}`, '', '', 0).run()
const gateway = (n: number) => real.FCM_NOTIFY.getByName(`SPGW00000000000${n}`)

describe('a report', () => {
  beforeEach(async () => {
    await DB.batch(['rule_sets', 'tags', 'gateways'].map((table) => DB.prepare(`DELETE FROM ${table}`)))
    await admin('POST', '/rule-sets', { name: 'marker', tag: 'compliant', rules: { linux: { conditions: [file] } } })
  })

  it('gives a tag when the agent\'s answer says so, takes it when it changes, and says unknown before', async () => {
    const endpoint = await enrolled()
    expect((await report(endpoint, 1, { os: linux() })).status).toBe(200)
    expect(await tagsOf(endpoint)).toEqual(['unknown'])
    await report(endpoint, 2, { verdicts: answer('true') })
    expect(await tagsOf(endpoint)).toEqual(['present'])
    await report(endpoint, 3, { verdicts: answer('false') })
    expect(await tagsOf(endpoint)).toEqual([])
    expect((await logOf(endpoint)).map(({ tables }) => tables)).toEqual(['sysinfo', 'uid_tags,tags,sysinfo', 'uid_tags,tags', 'uid_tags,tags'])
  })

  it('that flips one tag with three gateways costs 2 D1 trips, at most 8 rows written and one object call each, with no read in it', async () => {
    for (const n of [1, 2, 3]) await addGateway(n)
    const endpoint = await enrolled()
    await report(endpoint, 1, { os: linux(), verdicts: answer('true') })
    const { status, tally } = await reportMetered(endpoint, 2, { verdicts: answer('false') })
    expect([status, tally.trips]).toEqual([200, 2])
    const [head] = (await DB.prepare('SELECT revision, mark FROM change_log ORDER BY revision DESC LIMIT 1').all<{ revision: number; mark: string }>()).results
    const written = await Promise.all([1, 2, 3].map(async (n) => {
      expect(await gateway(n).cursor()).toEqual(head)
      return await runInDurableObject(gateway(n), (_, { storage }) => storage.sql.exec('SELECT revision FROM journal WHERE revision = ?', head?.revision ?? 0).toArray().length)
    }))
    expect(tally.rowsWritten + written.reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(8)
  })

  it('that says a section is unknown voids what was held of it: its tag is unknown, its addresses are gone, and repeated it writes nothing', async () => {
    const endpoint = await enrolled()
    const network = { interfaces: [{ name: 'eth0', addresses: [{ ip: '192.0.2.7', prefix: 24 }] }], defaultGateways: [], dnsServers: [] }
    await report(endpoint, 1, { os: linux(), network, verdicts: answer('true') })
    expect(await tagsOf(endpoint)).toEqual(['present'])
    const body = { ...await reportBody(2, {}), unknown: ['verdicts', 'network', 'hardware'] }
    expect((await signed(endpoint, 'POST', '/api/v1/endpoint/report', body)).json.sequence).toBe(2)
    expect(await tagsOf(endpoint)).toEqual(['unknown'])
    const row = await DB.prepare('SELECT addresses, version FROM endpoints WHERE uid = ?').bind(endpoint.uid).first<{ addresses: string; version: number }>()
    expect(row?.addresses).toBe('{"ips":[],"macs":[]}')
    expect((await signed(endpoint, 'POST', '/api/v1/endpoint/report', body)).status).toBe(200)
    expect((await DB.prepare('SELECT version FROM endpoints WHERE uid = ?').bind(endpoint.uid).first<{ version: number }>())?.version).toBe(row?.version)
  })

  it('that changes nothing writes no row, whether it carries sections or only hashes', async () => {
    const endpoint = await enrolled()
    await report(endpoint, 1, { os: linux() })
    const again = await reportMetered(endpoint, 2, { os: linux() })
    expect([again.status, again.tally.rowsWritten, again.tally.trips]).toEqual([200, 0, 1])
  })

  it('repeated after a lost reply writes nothing; an older one is refused and told where to go on', async () => {
    const endpoint = await enrolled()
    await report(endpoint, 1, { os: linux() })
    await report(endpoint, 2, { os: linux('13.0') })
    const repeated = await reportMetered(endpoint, 2, { os: linux('13.0') })
    expect([repeated.status, repeated.tally.rowsWritten]).toEqual([200, 0])
    const older = await report(endpoint, 1, { os: linux('11.0') })
    expect([older.code, older.json.sequence]).toEqual(['stale_sequence', 2])
  })

  it('is told which sections the EMS does not hold', async () => {
    const endpoint = await enrolled()
    const body = await reportBody(1, { os: linux() })
    const path = '/api/v1/endpoint/report'
    const hashesOnly = { ...body, sections: {} }
    const response = await worker.fetch(new Request(`${ORIGIN}${path}`, { method: 'POST', body: JSON.stringify(hashesOnly), headers: { 'content-type': 'application/json', ...await signatureOf(endpoint, 'POST', path, hashesOnly) } }), real, createExecutionContext())
    expect((await response.json<{ wanted: string[] }>()).wanted).toEqual(['os'])
  })

  it('with a hash that is not its section\'s, or a section of the wrong shape, changes nothing', async () => {
    const endpoint = await enrolled()
    expect((await report(endpoint, 1, { os: { ...linux(), type: 'beos' as never } })).code).toBe('invalid')
    expect((await report(endpoint, 1, { os: { ...linux(), name: 'evil\u0007' } })).code).toBe('invalid')
    const made = Object.fromEntries(Array.from({ length: 1_001 }, (_, n) => [`ck_${String(n).padStart(32, '0')}`, { value: 'true' as const, seen: '', at: 1 }]))
    expect((await report(endpoint, 1, { verdicts: { answers: made } })).code).toBe('invalid')
    expect(await logOf(endpoint)).toHaveLength(1)
  })

  it('is computed anew when another writer was first: of two stale writers one writes, and nothing of the other', async () => {
    const endpoint = await enrolled()
    await report(endpoint, 1, { os: linux() })
    const db = drizzle(DB)
    const [row] = await db.select().from(endpoints).where(eq(endpoints.uid, endpoint.uid))
    if (row === undefined) throw new Error('the endpoint is gone')
    const context = makeContext(real, readConfig(real), new Request(ORIGIN), createExecutionContext())
    const revision = row.rulesRevision
    const write = (mark: string) => commitEndpoint(context, {
      endpoint: row, rulesRevision: revision, set: { account: mark }, tables: ['sysinfo'], concerned: [],
      also: (guard) => [insertSection(db, guard, { section: mark, hash: mark, at: 1, body: packSection('{}') })],
    })
    const outcomes = await Promise.all([write('first'), write('second')])
    expect(outcomes.map(({ ok }) => ok).sort()).toEqual([false, true])
    const sections = (await DB.prepare('SELECT section FROM endpoint_sections WHERE uid = ? AND section IN (\'first\', \'second\')').bind(endpoint.uid).all<{ section: string }>()).results
    const [after] = await db.select().from(endpoints).where(eq(endpoints.uid, endpoint.uid))
    expect(sections.map(({ section }) => section)).toEqual([after?.account])
    expect(await logOf(endpoint)).toHaveLength(3)
  })

  it('computed with rules that changed meanwhile is not written', async () => {
    const endpoint = await enrolled()
    const db = drizzle(DB)
    const [row] = await db.select().from(endpoints).where(eq(endpoints.uid, endpoint.uid))
    if (row === undefined) throw new Error('the endpoint is gone')
    const context = makeContext(real, readConfig(real), new Request(ORIGIN), createExecutionContext())
    expect(await commitEndpoint(context, { endpoint: row, rulesRevision: -1, set: {}, tables: ['sysinfo'], concerned: [] })).toEqual({ ok: false, reason: 'conflict' })
    expect(await logOf(endpoint)).toHaveLength(1)
  })
})

describe('a follower of the log', () => {
  const name = 4
  beforeEach(async () => {
    await DB.batch([DB.prepare('DELETE FROM gateways'), DB.prepare('DELETE FROM rule_sets')])
    // Nothing more is written by the edits before.
    await reEvaluated()
    await addGateway(name)
  })
  const head = async () => (await DB.prepare('SELECT revision, mark FROM change_log ORDER BY revision DESC LIMIT 1').first<{ revision: number; mark: string }>())

  it('is where the log is after each report, also after eviction', async () => {
    const endpoint = await enrolled()
    await report(endpoint, 1, { os: linux() })
    expect(await gateway(name).cursor()).toEqual(await head())
    await evictDurableObject(gateway(name))
    expect(await gateway(name).cursor()).toEqual(await head())
  })
  it('that missed pokes reads what it missed from the log', async () => {
    const endpoint = await enrolled()
    await DB.prepare('UPDATE gateways SET state = \'denied\'').run()
    for (let i = 1; i <= 20; i++) await report(endpoint, i, { os: linux(`12.${i}`) })
    await DB.prepare('UPDATE gateways SET state = \'authorised\'').run()
    await report(endpoint, 21, { os: linux('13.0') })
    const revisions = await runInDurableObject(gateway(name), (_, { storage }) => storage.sql.exec<{ revision: number }>('SELECT revision FROM journal ORDER BY revision').toArray().map(({ revision }) => revision))
    const { results } = await DB.prepare('SELECT revision FROM change_log ORDER BY revision').all<{ revision: number }>()
    expect(revisions.slice(-21)).toEqual(results.map(({ revision }) => revision).slice(-21))
  })
  it('notices a restored database by the mark and begins anew', async () => {
    const endpoint = await enrolled()
    await report(endpoint, 1, { os: linux() })
    await DB.prepare('UPDATE change_log SET mark = \'0000000000000000\' WHERE revision = (SELECT max(revision) FROM change_log)').run()
    await report(endpoint, 2, { os: linux('13.0') })
    expect(await gateway(name).cursor()).toEqual(await head())
    // Increments reach back to the reload and no further: whoever holds an older watermark loads anew.
    const [kept] = await runInDurableObject(gateway(name), (_, { storage }) => storage.sql.exec<{ value: string }>('SELECT value FROM kept WHERE name = \'settings\'').toArray())
    expect((JSON.parse(kept?.value ?? '{}') as { floor: number }).floor).toBe((await head())?.revision)
  })
})

describe('an edit of the rules', () => {
  it('evaluates every endpoint anew, and removing the rule takes its tag', async () => {
    const endpoint = await enrolled()
    await report(endpoint, 1, { os: linux() })
    const { json } = await admin('POST', '/rule-sets', { name: 'modern', tag: 'modern', rules: { linux: { conditions: [{ type: 'os-version', comparator: '>=', version: '12' }] } } })
    await reEvaluated()
    expect(await tagsOf(endpoint)).toContain('present')
    await admin('DELETE', `/rule-sets/${String(json.id)}`)
    await reEvaluated()
    expect(await tagsOf(endpoint)).toEqual([])
  })
})
