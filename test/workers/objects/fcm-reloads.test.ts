// FcmNotify begins anew: loads that break off, places in the log that are gone, frames that do not hold what is missing, entitlements that change.
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { MAX_NOTIFY_FRAME_BYTES } from '../../../protocol/fabric/notify.ts'
import * as fabric from '../../../protocol/operations/fabric.ts'
import { keepHouse } from '../../../workers/flows/keep-house.ts'
import { enrolled, report, type Endpoint } from '../ems.ts'
import { real, still } from '../standing.ts'
import { by, dataOf, greeted, has, joined, messageOf, update } from '../gateway.ts'
import { answer, DB, everything, head, markedEndpoint, object, reloaded, tablesOf, uidsRead } from './marked-endpoint.ts'

/** Endpoints that the records hold, with tags if any; nobody is told of them. */
const insertEndpoints = (count: number, tags: readonly string[] = [], prefix = 'a') => DB.prepare(`INSERT INTO endpoints (uid, registered, group_name, host_name, os, agent_version, protocol, enrolled_at, last_report_at, tags)
  SELECT ?1 || substr('0000000000000000000000000000000' || value, -31), 1, '', 'host', 'linux', '1', '7.0.0', 1, 1, ?2 FROM json_each(?3)`)
  .bind(prefix, JSON.stringify(tags.map((tagUid) => ({ tagUid, state: 'present', validUntil: null }))), JSON.stringify(Array.from({ length: count }, (_, n) => n))).run()

let endpoint: Endpoint
beforeEach(async () => {
  endpoint = await markedEndpoint()
})

describe('a load', () => {
  /** Rows of each answer of D1 while `work` runs. */
  async function rowsOf(work: () => Promise<unknown>): Promise<number[]> {
    const rows: number[] = []
    const statement = Object.getPrototypeOf(DB.prepare('SELECT 1')) as D1PreparedStatement
    const raw = statement.raw as (this: D1PreparedStatement) => Promise<unknown[]>
    const spy = vi.spyOn(statement, 'raw').mockImplementation(async function read(this: D1PreparedStatement) {
      const answered = await raw.call(this)
      rows.push(answered.length)
      return answered
    })
    await work()
    spy.mockRestore()
    return rows
  }

  it('of five thousand endpoints is read in pages of two thousand rows at most, and each of them is there', async () => {
    await insertEndpoints(5_000)
    const keys = await joined()
    await still()
    const rows = await rowsOf(() => object(keys).configure(keys.serial))
    expect([Math.max(...rows), rows.filter((count) => count === 2_000).length]).toEqual([2_000, 2])
    expect((await uidsRead(keys)).size).toBe(5_001)
  })
  it('that broke off begins anew, and is whole', async () => {
    await insertEndpoints(2_500)
    const gateway = await joined()
    await still()
    const statement = Object.getPrototypeOf(DB.prepare('SELECT 1')) as D1PreparedStatement
    const spy = vi.spyOn(statement, 'raw').mockImplementationOnce(() => Promise.reject(new Error('the database went away')))
    await runInDurableObject(object(gateway), async (instance) => { await expect(instance.configure(gateway.serial)).rejects.toThrow('Failed query') })
    spy.mockRestore()
    await evictDurableObject(object(gateway))
    expect((await uidsRead(gateway)).size).toBe(2_501)
  })
})

describe('a follower', () => {
  it('whose place in the log was trimmed away loads anew, and so does a reader with an ancient watermark', async () => {
    const gateway = await joined()
    const { listening, current } = await greeted(gateway)
    await DB.prepare('UPDATE gateways SET state = \'denied\'').run()
    for (let n = 2; n < 25; n++) await report(endpoint, n, { verdicts: answer(n % 2 === 1) })
    await DB.prepare('UPDATE gateways SET state = \'authorised\'').run()
    await DB.prepare('UPDATE change_log SET at = 1 WHERE revision < (SELECT max(revision) FROM change_log)').run()
    await keepHouse(real, Date.now())
    expect((await DB.prepare('SELECT count(*) AS n FROM change_log').first<{ n: number }>())?.n).toBe(1)
    expect(await runDurableObjectAlarm(object(gateway))).toBe(true)
    const frame = await listening.next(has('reload'))
    expect([reloaded(frame).length, messageOf(frame, 'current')?.revision]).toEqual([6, await head()])
    const { greeting } = await greeted(gateway, everything(current))
    expect([reloaded(greeting).length, tablesOf(greeting)]).toEqual([6, []])
    for (const wrong of [current, '1.0000000000000000', '9007199254740991.0123456789abcdef']) {
      const page = dataOf(await by(gateway, 'GET', `${fabric.uidTags.get.path}?updated_after=${wrong}`)) as { is_snapshot: boolean; data: { uid_tag_lists: object } }
      expect([page.is_snapshot, Object.keys(page.data.uid_tag_lists)]).toEqual([true, [endpoint.uid]])
    }
  })
  it('of a database that was restored to an earlier state forgets what came after, and tells the truth again', async () => {
    const gateway = await joined()
    const { listening } = await greeted(gateway)
    const before = await DB.prepare('SELECT max(revision) AS n FROM change_log').first<{ n: number }>()
    const other = await enrolled()
    await listening.next(has('changed'))
    await DB.batch([DB.prepare('DELETE FROM change_log WHERE revision > ?').bind(before?.n ?? 0), DB.prepare('DELETE FROM endpoints WHERE uid = ?').bind(other.uid)])
    await runDurableObjectAlarm(object(gateway))
    expect(reloaded(await listening.next(has('reload')))).toHaveLength(6)
    expect([...await uidsRead(gateway)]).toEqual([endpoint.uid])
  })
  it('written by an earlier release loads anew', async () => {
    const gateway = await joined()
    await greeted(gateway)
    await runInDurableObject(object(gateway), (_, { storage }) => {
      const [kept] = storage.sql.exec<{ value: string }>('SELECT value FROM kept WHERE name = \'settings\'').toArray()
      const { trusts: _unknown, ...older } = JSON.parse(kept?.value ?? '{}') as Record<string, unknown>
      storage.sql.exec('UPDATE kept SET value = ? WHERE name = \'settings\'', JSON.stringify(older))
    })
    await evictDurableObject(object(gateway))
    expect(await object(gateway).cursor()).toBeNull()
    expect([...await uidsRead(gateway)]).toEqual([endpoint.uid])
  })
})

describe('a frame', () => {
  it('is never larger than a reader takes, however much is missing', async () => {
    const tags = Array.from({ length: 300 }, (_, n) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`)
    await DB.prepare('INSERT INTO tags (uid, name, type, created_at) SELECT value, \'tag-\' || key, 1, 1 FROM json_each(?)').bind(JSON.stringify(tags)).run()
    const gateway = await joined()
    const { listening, current } = await greeted(gateway)
    await insertEndpoints(100, tags, 'b')
    await DB.prepare(`INSERT INTO change_log (mark, at, uid, tables, entry) SELECT '0123456789abcdef', 1, uid, 'uid_tags', json_object('uid', uid, 'registered', json('true'), 'reported', json('true'), 'online', json('false'), 'onFabric', json('false'),
      'quarantined', json('false'), 'certs', json('[]'), 'tags', json(tags), 'ips', json('[]'), 'macs', json('[]')) FROM endpoints WHERE uid LIKE 'b%'`).run()
    await report(endpoint, 2, { verdicts: answer(false) })
    const frame = await listening.next(has('changed'))
    expect(frame.find((message) => message.type === 'changed' && message.table === 'uid_tags')).not.toHaveProperty('data')
    const { greeting } = await greeted(gateway, everything(current))
    expect(tablesOf(greeting)).toContain('uid_tags')
    for (const each of [frame, greeting]) expect(JSON.stringify(each).length).toBeLessThan(MAX_NOTIFY_FRAME_BYTES / 4)
    expect((await uidsRead(gateway)).size).toBe(101)
  })
})

describe('a gateway that was put out while its object could not be told', () => {
  it('is cut at the alarm, and what its object knew is forgotten', async () => {
    const gateway = await joined()
    const { listening } = await greeted(gateway)
    await DB.prepare('UPDATE gateways SET state = \'denied\', reason = \'stolen\' WHERE serial = ?').bind(gateway.serial).run()
    await runDurableObjectAlarm(object(gateway))
    expect(messageOf(await listening.next(has('authorisation')), 'authorisation')).toMatchObject({ state: 'denied', reason: 'stolen' })
    expect(messageOf(await listening.next(has('bye')), 'bye')?.reason).toBe('deauthorised')
    expect(await object(gateway).cursor()).toBeNull()
  })
})

describe('an entitlement that changes', () => {
  it('is noticed at the alarm when its object could not be told', async () => {
    const gateway = await joined()
    const { listening } = await greeted(gateway)
    await DB.prepare('UPDATE gateways SET share_mode = 0 WHERE serial = ?').bind(gateway.serial).run()
    await runDurableObjectAlarm(object(gateway))
    expect(reloaded(await listening.next(has('reload')))).toHaveLength(6)
    expect([...await uidsRead(gateway)]).toEqual([])
  })
  it('while the gateway is away makes it load anew, though nothing else has happened', async () => {
    const gateway = await joined()
    const { listening, current } = await greeted(gateway)
    listening.socket.close(1000)
    await update(gateway.serial, { share_mode: 0 })
    const { greeting } = await greeted(gateway, { sysinfo: current, uid_tags: current, host_tags: current })
    expect(reloaded(greeting)).toEqual(expect.arrayContaining(['sysinfo', 'uid_tags', 'host_tags']))
  })
  it('by its name alone is no change of what it sees', async () => {
    const gateway = await joined()
    const { listening } = await greeted(gateway)
    await update(gateway.serial, { alias: 'edge-2' })
    await report(endpoint, 2, { verdicts: answer(false) })
    await listening.next(has('changed'))
    expect(listening.frames.slice(2).some(has('reload'))).toBe(false)
  })
  it('is told as a reload, and what it takes away is gone at once', async () => {
    const gateway = await joined()
    const { listening } = await greeted(gateway)
    await update(gateway.serial, { share_tag_types: [2] })
    expect(reloaded(await listening.next(has('reload')))).toHaveLength(6)
    expect((dataOf(await by(gateway, 'GET', fabric.uidTags.get.path)) as { data: { uid_tag_lists: Record<string, { members: unknown[] }> } }).data.uid_tag_lists[endpoint.uid]?.members).toEqual([])
    await update(gateway.serial, { share_mode: 0 })
    await listening.next(has('reload'))
    expect([...await uidsRead(gateway)]).toEqual([])
  })
})
