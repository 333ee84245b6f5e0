// FcmNotify in bad weather: bursts, readers that do not read, loads that break off, logs that were trimmed, databases that were restored.
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { conditionKey } from '../../../domain/tagging/condition-key.ts'
import { CALM_ENDPOINTS } from '../../../durable-objects/pending-notices.ts'
import { attachmentOf } from '../../../durable-objects/proved-socket.ts'
import { MAX_NOTIFY_FRAME_BYTES } from '../../../protocol/fabric/notify.ts'
import * as fabric from '../../../protocol/operations/fabric.ts'
import type { Env } from '../../../workers/env.ts'
import { keepHouse } from '../../../workers/flows/keep-house.ts'
import { admin, enrolled, linux, report, type Endpoint } from '../ems.ts'
import { still } from '../standing.ts'
import { by, dataOf, greeted, has, joined, messageOf, NOTIFY, open, say, update, type Frame, type Gateway, type Listening } from '../gateway.ts'

const real = env as unknown as Env
const { DB } = real
const file = { type: 'file', negate: false, path: '/etc/marker' }
const answer = (value: boolean) => ({ answers: { [conditionKey(file)]: { value: value ? 'true' as const : 'false' as const, seen: `${file.path} ${value}`, at: 1_790_000_000_000 } } })
const object = ({ serial }: Gateway) => real.FCM_NOTIFY.getByName(serial)
const tablesOf = (frame: Frame) => frame.flatMap((message) => (message.type === 'changed' ? [message.table] : []))
const reloaded = (frame: Frame) => frame.flatMap((message) => (message.type === 'reload' ? [message.table] : []))
const head = async () => {
  const row = await DB.prepare('SELECT revision, mark FROM change_log ORDER BY revision DESC LIMIT 1').first<{ revision: number; mark: string }>()
  return `${row?.revision}.${row?.mark}`
}
const everything = (watermark: string) => Object.fromEntries(['sysinfo', 'uid_tags', 'tags', 'host_tags', 'vuln', 'avatar'].map((table) => [table, watermark]))
const revisionOf = (watermark: string) => Number(watermark.split('.')[0])
/** Says that a frame was applied, as a gateway does. */
const applies = ({ socket }: Listening<Frame>) => {
  socket.addEventListener('message', ({ data }) => {
    for (const message of JSON.parse(String(data)) as Frame) if (message.type === 'changed') socket.send(JSON.stringify({ type: 'applied', table: message.table, updated_after: message.updated_after }))
  })
}
/** Endpoints that the records hold, with tags if any; nobody is told of them. */
const insertEndpoints = (count: number, tags: readonly string[] = [], prefix = 'a') => DB.prepare(`INSERT INTO endpoints (uid, registered, group_name, host_name, os, agent_version, protocol, enrolled_at, last_report_at, tags)
  SELECT ?1 || substr('0000000000000000000000000000000' || value, -31), 1, '', 'host', 'linux', '1', '7.0.0', 1, 1, ?2 FROM json_each(?3)`)
  .bind(prefix, JSON.stringify(tags.map((tagUid) => ({ tagUid, state: 'present', validUntil: null }))), JSON.stringify(Array.from({ length: count }, (_, n) => n))).run()
async function uidsRead(gateway: Gateway): Promise<Set<string>> {
  const uids = new Set<string>()
  for (let query = ''; ;) {
    const { data, updated_after: watermark, uid_offset: offset, is_final: isFinal } = dataOf(await by(gateway, 'GET', `${fabric.uidTags.get.path}${query}`)) as { data: { uid_tag_lists: object }; updated_after: string; uid_offset: string; is_final: boolean }
    for (const uid of Object.keys(data.uid_tag_lists)) uids.add(uid)
    if (isFinal) return uids
    query = `?updated_after=${watermark}&uid_offset=${offset}`
  }
}

let endpoint: Endpoint
beforeEach(async () => {
  await DB.batch(['gateways', 'rule_sets', 'tags', 'gateway_subscriptions', 'endpoints', 'sightings'].map((table) => DB.prepare(`DELETE FROM ${table}`)))
  await admin('POST', '/rule-sets', { name: 'marker', tag: 'compliant', rules: { linux: { conditions: [file] } } })
  endpoint = await enrolled()
  await report(endpoint, 1, { os: linux(), verdicts: answer(true) })
})

describe('one endpoint that changes again and again', () => {
  it('is told at once each time, to a gateway that has applied what it was told', async () => {
    const { listening } = await greeted(await joined())
    applies(listening)
    const before = listening.frames.length
    for (let n = 2; n < 12; n++) {
      await report(endpoint, n, { verdicts: answer(n % 2 === 1) })
      expect(tablesOf(await listening.next(has('changed')))).toEqual(['uid_tags', 'tags'])
    }
    expect(listening.frames.slice(before).filter(has('changed'))).toHaveLength(10)
  })
})

describe('a burst', () => {
  /** Told to the gateway: one that it did not acknowledge in time is sent again, as the EMS asks. */
  async function reported(each: Endpoint, n: number): Promise<void> {
    for (;;) {
      const { status } = await report(each, n, { verdicts: answer(n % 2 === 1) })
      if (status === 200) return
      expect(status).toBe(503)
    }
  }
  /** Every endpoint's tag flips, in parallel; what was told, and when it began and ended. */
  async function burst(endpoints: readonly Endpoint[], flips: number, listening: Listening<Frame>): Promise<{ notices: number; seconds: number }> {
    const before = listening.frames.length
    const began = Date.now()
    await Promise.all(endpoints.map(async (each) => { for (let n = 2; n < 2 + flips; n++) await reported(each, n) }))
    const last = await head()
    await listening.next((frame) => messageOf(frame, 'current')?.revision === last)
    return { notices: listening.frames.slice(before).filter(has('changed')).length, seconds: (Date.now() - began) / 1000 }
  }
  const fleetOf = async (size: number) => {
    const fleet: Endpoint[] = []
    for (let n = 0; n < size; n++) fleet.push(await enrolled())
    for (const each of fleet) await report(each, 1, { os: linux(), verdicts: answer(true) })
    return fleet
  }

  it('is told at once when it begins, then once a second, and nothing of it is lost', async () => {
    const fleet = await fleetOf(4)
    const { listening, current } = await greeted(await joined())
    const { notices, seconds } = await burst(fleet, 10, listening)
    expect(notices).toBeLessThanOrEqual(1 + Math.ceil(seconds))
    const told = listening.frames.filter(has('changed')).map((frame) => frame.find((message) => message.type === 'changed' && message.table === 'uid_tags') as Extract<Frame[number], { type: 'changed' }>)
    // The first waited for nothing: no endpoint had its second report answered before it.
    expect(revisionOf(told[0]?.updated_after ?? '') - revisionOf(current)).toBeLessThanOrEqual(fleet.length)
    // Each notice continues where the one before ended.
    expect(told.map(({ after }) => after)).toEqual([current, ...told.slice(0, -1).map(({ updated_after: until }) => until)])
  })
  it('of more endpoints than are calm is held back even for a gateway that keeps up', async () => {
    const fleet = await fleetOf(24)
    const { listening } = await greeted(await joined())
    applies(listening)
    await burst(fleet, 1, listening)
    // By the object's clock: on a slow machine the endpoints come so far apart that they are no burst.
    const told = listening.frames.filter(has('changed')).map((frame) => messageOf(frame, 'current')?.at ?? 0)
    const withinASecond = Math.max(...told.map((at) => told.filter((other) => other >= at && other < at + 1_000).length))
    // What is calm, each told at once; what waited for the frame before; and the burst.
    expect(withinASecond).toBeLessThanOrEqual(CALM_ENDPOINTS + 2)
    expect(told.length).toBeGreaterThan(0)
  })
  it('in the middle of which the object was ended is told from where each socket stands', async () => {
    const gateway = await joined()
    const { listening, current } = await greeted(gateway)
    await report(endpoint, 2, { verdicts: answer(false) })
    await listening.next(has('changed'))
    // As after a crash between writing down and telling: the socket was told less than the object knows.
    await runInDurableObject(object(gateway), (_, state) => { for (const socket of state.getWebSockets()) socket.serializeAttachment({ ...attachmentOf(socket), told: current }) })
    await evictDurableObject(object(gateway))
    await report(endpoint, 3, { verdicts: answer(true) })
    const mended = await listening.next(has('changed'))
    expect(mended.find((message) => message.type === 'changed' && message.table === 'uid_tags')).toMatchObject({ after: current, updated_after: await head() })
  })
})

describe('an object that ends between the frame and its own row', () => {
  /** What the object does instead of writing the row that it has just told of. */
  const insteadOfWriting = (gateway: Gateway, act: (state: DurableObjectState) => void) => runInDurableObject(object(gateway), (_, state) => {
    const { sql } = state.storage
    const exec = sql.exec.bind(sql)
    const spy = vi.spyOn(sql, 'exec').mockImplementation(((query: string, ...bound: never[]) => {
      if (!query.startsWith('INSERT INTO journal')) return exec(query, ...bound)
      spy.mockRestore()
      act(state)
      throw new Error('nothing was written')
    }) as never)
  })
  const members = (frame: Frame) => frame.flatMap((message) => (message.type === 'changed' && message.table === 'uid_tags' ? [Object.fromEntries(Object.entries((message.data as { uid_tag_lists: Record<string, { members: unknown[] }> }).uid_tag_lists).map(([uid, tags]) => [uid, tags.members.length]))] : []))
  const truth = async (gateway: Gateway) => (dataOf(await by(gateway, 'GET', fabric.uidTags.get.path)) as { data: { uid_tag_lists: Record<string, { members: unknown[] }> } }).data.uid_tag_lists[endpoint.uid]?.members.length

  it('by a crash knows less than it told, and tells whoever comes exactly what that one misses, and nothing that is not', async () => {
    const [gateway, other] = [await joined(), await joined()]
    const [crashing, peer] = [await greeted(gateway), await greeted(other)]
    await insteadOfWriting(gateway, (state) => { state.abort('crashed by the test') })
    const change = { verdicts: answer(false) }
    const first = await report(endpoint, 2, change)
    const frame = await crashing.listening.next(has('changed'))
    const told = messageOf(frame, 'current')?.revision ?? ''
    expect([told, members(frame)]).toEqual([await head(), [{ [endpoint.uid]: 0 }]])
    await crashing.listening.closed
    // It was in that very instant: told, and not written down. Nobody was told that the report is done.
    expect((await object(gateway).cursor())?.revision).toBeLessThan(revisionOf(told))
    expect(first.status).toBe(503)
    expect(members(await peer.listening.next(has('changed')))).toEqual([{ [endpoint.uid]: 0 }])

    const [holds, misses] = [await greeted(gateway, everything(told)), await greeted(gateway, everything(crashing.current))]
    expect([holds.greeting.map(({ type }) => type), holds.current]).toEqual([['authorisation', 'current'], told])
    expect([tablesOf(misses.greeting), members(misses.greeting), misses.current]).toEqual([['uid_tags', 'tags'], [{ [endpoint.uid]: 0 }], told])
    expect((await report(endpoint, 2, change)).status).toBe(200)
    await report(endpoint, 3, { verdicts: answer(true) })
    for (const { listening } of [holds, misses, peer]) {
      const next = await listening.next(has('changed'))
      expect(next.find((message) => message.type === 'changed' && message.table === 'uid_tags')).toMatchObject({ after: told, updated_after: await head() })
      expect(members(next)).toEqual([{ [endpoint.uid]: 1 }])
    }
    expect([await truth(gateway), await truth(other)]).toEqual([1, 1])
  })
  it('by a crash after which nothing is reported is at the head again with its gateway\'s first word', async () => {
    const gateway = await joined()
    const { listening, current } = await greeted(gateway)
    await insteadOfWriting(gateway, (state) => { state.abort('crashed by the test') })
    await report(endpoint, 2, { verdicts: answer(false) })
    await listening.next(has('changed'))
    await listening.closed
    // A watermark of another history than the one that was told leads to a clean reload.
    const foreign = `${revisionOf(await head())}.${'f'.repeat(16)}`
    expect(reloaded((await greeted(gateway, everything(foreign))).greeting)).toHaveLength(6)
    expect(tablesOf((await greeted(gateway, everything(current))).greeting)).toEqual(['uid_tags', 'tags'])
    expect(await truth(gateway)).toBe(0)
  })
  it.each(['goes on', 'is evicted'])('because it could not write, and %s, tells its socket on from where that one stands', async (then) => {
    const gateway = await joined()
    const { listening } = await greeted(gateway)
    await insteadOfWriting(gateway, () => {})
    expect((await report(endpoint, 2, { verdicts: answer(false) })).status).toBe(503)
    const told = messageOf(await listening.next(has('changed')), 'current')?.revision ?? ''
    if (then === 'is evicted') await evictDurableObject(object(gateway))
    await report(endpoint, 3, { verdicts: answer(true) })
    const next = await listening.next((frame) => members(frame).length > 0)
    expect([members(next), messageOf(next, 'current')?.revision]).toEqual([[{ [endpoint.uid]: 1 }], await head()])
    expect(next.find((message) => message.type === 'changed' && message.table === 'uid_tags')).toMatchObject({ after: told })
    expect(await truth(gateway)).toBe(1)
  })
})

describe('a subscription whose gateway was not told, because what wrote it ended', () => {
  it('is in sight from the gateway\'s next word, as is its end', async () => {
    const gateway = await joined()
    await update(gateway.serial, { share_mode: 0 })
    const { current, listening } = await greeted(gateway)
    await DB.prepare('INSERT INTO gateway_subscriptions (uid, serial) VALUES (?, ?)').bind(endpoint.uid, gateway.serial).run()
    const again = await greeted(gateway, everything(current))
    expect(tablesOf(again.greeting)).toContain('uid_tags')
    await report(endpoint, 2, { verdicts: answer(false) })
    for (const each of [listening, again.listening]) await each.next((frame) => JSON.stringify(frame).includes('"members":[]'))
    expect([...await uidsRead(gateway)]).toEqual([endpoint.uid])
    await DB.prepare('DELETE FROM gateway_subscriptions').run()
    await greeted(gateway, everything(again.current))
    expect([...await uidsRead(gateway)]).toEqual([])
  })
})

describe('sockets of one gateway', () => {
  it('are told alike, each by its own protocol; pages go by the newer one', async () => {
    const gateway = await joined()
    const [older, newer] = [await greeted(gateway, {}, '6.0.0'), await greeted(gateway, {}, '7.0.0')]
    await greeted(gateway, {}, '6.0.0')
    expect([messageOf(older.greeting, 'authorisation')?.reason, messageOf(newer.greeting, 'authorisation')?.reason]).toEqual([expect.stringMatching(/6\.2\.0.*7\.0\.0/), ''])
    await report(endpoint, 2, { verdicts: answer(false), os: linux('13.0') })
    expect([tablesOf(await older.listening.next(has('changed'))), tablesOf(await newer.listening.next(has('changed')))]).toEqual([['sysinfo'], ['sysinfo', 'uid_tags', 'tags']])
    expect([...await uidsRead(gateway)]).toEqual([endpoint.uid])
  })
  it('are so many and no more; one that has proved nothing puts out nobody', async () => {
    const gateway = await joined()
    const first = await greeted(gateway)
    const unproved: Listening<Frame>[] = []
    for (let n = 0; n < 9; n++) unproved.push(await open<Frame>(gateway, NOTIFY))
    expect(messageOf(await (unproved[0] as Listening<Frame>).next(has('bye')), 'bye')?.reason).toBe('replaced')
    for (let n = 0; n < 7; n++) await greeted(gateway)
    await report(endpoint, 2, { verdicts: answer(false) })
    expect(tablesOf(await first.listening.next(has('changed')))).toContain('uid_tags')
    await greeted(gateway)
    expect(messageOf(await first.listening.next(has('bye')), 'bye')?.reason).toBe('replaced')
  })
  it('that do not read are ended before they fill the memory; one that applies is not', async () => {
    const gateway = await joined()
    await report(endpoint, 2, { user: { account: 'a', socialIds: Array.from({ length: 16 }, (_, n) => ({ service: `${n}`, accountId: 'x'.repeat(256) })), fullName: 'y'.repeat(256) } })
    await DB.prepare('UPDATE endpoints SET certificates = ? WHERE uid = ?').bind(JSON.stringify(Array.from({ length: 400 }, (_, n) => ({ serial: String(n).padStart(40, '0'), purpose: 'browser', user: 'z'.repeat(100), notAfter: 1 }))), endpoint.uid).run()
    const [idle, busy] = [await greeted(gateway), await greeted(gateway)]
    const look = (listening: Listening<Frame>) => { say(listening, { type: 'lookup', uid: endpoint.uid }) }
    for (let n = 0; n < 100 && !idle.listening.frames.some(has('bye')); n++) {
      look(idle.listening)
      look(busy.listening)
      await busy.listening.next(has('found'))
      say(busy.listening, { type: 'applied', table: 'sysinfo', updated_after: '' })
    }
    expect(messageOf(await idle.listening.next(has('bye')), 'bye')?.reason).toBe('too-slow')
    expect(busy.listening.frames.some(has('bye'))).toBe(false)
  })
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
