// FcmNotify by its socket: what a gateway is told, when, and what happens when something between was lost.
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { conditionKey } from '../../../domain/tagging/condition-key.ts'
import { NOTIFY_PING, NOTIFY_PONG, serverFrame } from '../../../protocol/fabric/notify.ts'
import { sysinfoData, uidTagsData } from '../../../protocol/fabric/tables.ts'
import { admin, enrolled, linux, report, type Endpoint } from '../ems.ts'
import { casAreKnown, still } from '../standing.ts'
import { answerTo, greeted, has, joined, messageOf, NOTIFY, open, proved, say, update, type Frame } from '../gateway.ts'
import { DB, head, object } from './marked-endpoint.ts'

const file = { type: 'file', negate: false, path: '/etc/marker' }
const answer = (value: 'true' | 'false') => ({ answers: { [conditionKey(file)]: { value, seen: `${file.path} ${value}`, at: 1_790_000_000_000 } } })
const changedTables = (frame: Frame) => frame.flatMap((message) => (message.type === 'changed' ? [message.table] : []))
const change = (frame: Frame, table: string) => frame.find((message) => message.type === 'changed' && message.table === table) as Extract<Frame[number], { type: 'changed' }> | undefined
/** Commits that nobody is told of: the poke is lost. */
async function withLostPokes(work: () => Promise<unknown>): Promise<void> {
  await DB.prepare('UPDATE gateways SET state = \'denied\'').run()
  await work()
  await DB.prepare('UPDATE gateways SET state = \'authorised\'').run()
}
/** Every trip to D1 while `work` runs, the Worker's and the objects' alike. */
async function tripsOf(work: () => Promise<unknown>): Promise<number> {
  await casAreKnown()
  const statement = Object.getPrototypeOf(DB.prepare('SELECT 1')) as D1PreparedStatement
  const spies = [vi.spyOn(Object.getPrototypeOf(DB) as D1Database, 'batch'), ...(['all', 'run', 'raw', 'first'] as const).map((name) => vi.spyOn(statement, name))]
  await work()
  const trips = spies.reduce((sum, spy) => sum + spy.mock.calls.length, 0)
  for (const spy of spies) spy.mockRestore()
  return trips
}

let endpoint: Endpoint
beforeEach(async () => {
  await DB.batch(['gateways', 'rule_sets', 'tags', 'gateway_subscriptions'].map((table) => DB.prepare(`DELETE FROM ${table}`)))
  await admin('POST', '/rule-sets', { name: 'marker', tag: 'compliant', rules: { linux: { conditions: [file] } } })
  endpoint = await enrolled()
  await report(endpoint, 1, { os: linux(), verdicts: answer('true') })
})

describe('a gateway\'s socket', () => {
  it('is told what changed in one frame with its increment, and that this is all', async () => {
    const gateway = await joined()
    const { listening, current } = await greeted(gateway)
    await report(endpoint, 2, { verdicts: answer('false') })
    const frame = await listening.next(has('changed'))
    expect(serverFrame.safeParse(frame).success).toBe(true)
    expect(changedTables(frame)).toEqual(['uid_tags', 'tags'])
    expect(change(frame, 'uid_tags')).toMatchObject({ after: current, updated_after: await head() })
    expect(uidTagsData.parse(change(frame, 'uid_tags')?.data).uid_tag_lists[endpoint.uid]).toMatchObject({ members: [], unknown: [] })
    expect(messageOf(frame, 'current')?.revision).toBe(await head())
    await report(endpoint, 3, { verdicts: answer('true'), os: linux('13.0') })
    const next = await listening.next(has('changed'))
    expect(change(next, 'uid_tags')?.after).toBe(messageOf(frame, 'current')?.revision)
    expect(uidTagsData.parse(change(next, 'uid_tags')?.data).uid_tag_lists[endpoint.uid]?.members.map(({ tag_name: name }) => name)).toEqual(['compliant'])
    expect(sysinfoData.parse(change(next, 'sysinfo')?.data)[endpoint.uid]?.os_ver).toContain('13.0')
    expect(listening.frames.filter(has('changed'))).toHaveLength(2)
  })
  it('answers a ping, and every socket of the gateway hears the notice', async () => {
    const gateway = await joined()
    const [one, two] = [await greeted(gateway), await greeted(gateway)]
    const pong = new Promise((resolve) => { one.listening.socket.addEventListener('message', ({ data }) => { if (data === NOTIFY_PONG) resolve(data) }) })
    one.listening.socket.send(NOTIFY_PING)
    expect(await pong).toBe(NOTIFY_PONG)
    await report(endpoint, 2, { verdicts: answer('false') })
    for (const { listening } of [one, two]) expect(changedTables(await listening.next(has('changed')))).toContain('uid_tags')
  })
  it('says nothing before the challenge came back signed: not by another key, nor by the answer to another challenge', async () => {
    const [gateway, other] = [await joined(), await joined()]
    const recorded = await open<Frame>(gateway, NOTIFY)
    const first = messageOf(await recorded.next(has('challenge')), 'challenge')?.challenge ?? ''
    const signature = await answerTo(gateway, first, 'gateway')
    const replayed = await open<Frame>(gateway, NOTIFY)
    expect(messageOf(await replayed.next(has('challenge')), 'challenge')?.challenge).not.toBe(first)
    say(replayed, { type: 'answer', signature })
    expect(messageOf(await replayed.next(has('bye')), 'bye')?.reason).toBe('bad-challenge')
    const foreign = await open<Frame>(gateway, NOTIFY)
    say(foreign, { type: 'answer', signature: await answerTo(other, messageOf(await foreign.next(has('challenge')), 'challenge')?.challenge ?? '', 'gateway') })
    expect(messageOf(await foreign.next(has('bye')), 'bye')?.reason).toBe('bad-challenge')
    const hasty = await open<Frame>(gateway, NOTIFY)
    say(hasty, { type: 'hello', protocol: '7.0.0', have: {} })
    expect(messageOf(await hasty.next(has('bye')), 'bye')?.reason).toBe('bad-challenge')
    const wild = await proved(gateway)
    wild.socket.send('{"type":"hello","protocol":"seven"}')
    expect(messageOf(await wild.next(has('bye')), 'bye')?.reason).toBe('bad-message')
  })
  it('survives the eviction of its object', async () => {
    const gateway = await joined()
    const { listening, current } = await greeted(gateway)
    await evictDurableObject(object(gateway))
    await report(endpoint, 2, { verdicts: answer('false') })
    expect(change(await listening.next(has('changed')), 'uid_tags')?.after).toBe(current)
  })
  it('of a gateway below 6.2.0 hears of no groups and is told so; below 7.0.0 of no certificates', async () => {
    const gateway = await joined()
    const { listening, greeting } = await greeted(gateway, {}, '6.0.9')
    expect(messageOf(greeting, 'authorisation')?.reason).toContain('6.2.0')
    await report(endpoint, 2, { verdicts: answer('false'), os: linux('13.0') })
    const frame = await listening.next(has('changed'))
    expect(changedTables(frame)).toEqual(['sysinfo'])
    expect(sysinfoData.parse(change(frame, 'sysinfo')?.data)[endpoint.uid]).toMatchObject({ client_cert_sn: '', client_certs: [] })
  })
})

describe('a hello', () => {
  it('without anything held is answered by reload, and with the newest by nothing but current', async () => {
    const gateway = await joined()
    const { greeting, current } = await greeted(gateway)
    expect(greeting.filter(({ type }) => type === 'reload')).toHaveLength(6)
    const again = await greeted(gateway, Object.fromEntries(['sysinfo', 'uid_tags', 'tags', 'host_tags', 'vuln', 'avatar'].map((table) => [table, current])))
    expect(again.greeting.map(({ type }) => type)).toEqual(['authorisation', 'current'])
  })
  it('after an absence is answered by exactly what is missing', async () => {
    const gateway = await joined()
    const { listening, current } = await greeted(gateway)
    listening.socket.close(1000)
    await report(endpoint, 2, { verdicts: answer('false') })
    const have = Object.fromEntries(['sysinfo', 'uid_tags', 'tags', 'host_tags', 'vuln', 'avatar'].map((table) => [table, current]))
    const { greeting } = await greeted(gateway, have)
    expect(changedTables(greeting)).toEqual(['uid_tags', 'tags'])
    expect(Object.keys(uidTagsData.parse(change(greeting, 'uid_tags')?.data).uid_tag_lists)).toEqual([endpoint.uid])
    expect(greeting.some(({ type }) => type === 'reload')).toBe(false)
  })
  it('with a watermark of another history is answered by reload', async () => {
    const gateway = await joined()
    const { current } = await greeted(gateway)
    await report(endpoint, 2, { verdicts: answer('false') })
    const foreign = `${current.split('.')[0]}.${'f'.repeat(16)}`
    for (const wrong of [foreign, '2026-01-02 03:04:05', `${'9'.repeat(16)}.${'f'.repeat(16)}`]) {
      const { greeting } = await greeted(gateway, { uid_tags: wrong, sysinfo: current })
      expect(greeting.filter(({ type }) => type === 'reload').map((message) => ('table' in message ? message.table : ''))).toContain('uid_tags')
      expect(greeting.some((message) => message.type === 'reload' && message.table === 'sysinfo')).toBe(false)
    }
  })
})

describe('a poke', () => {
  it('that was lost is mended at the alarm, which goes on while a socket is open', async () => {
    const gateway = await joined()
    const { listening } = await greeted(gateway)
    await withLostPokes(() => report(endpoint, 2, { verdicts: answer('false') }))
    expect(await runDurableObjectAlarm(object(gateway))).toBe(true)
    expect(changedTables(await listening.next(has('changed')))).toContain('uid_tags')
    expect(messageOf(await listening.next(has('current')), 'current')?.revision).toBe(await head())
    expect(await runInDurableObject(object(gateway), (_, { storage }) => storage.getAlarm())).not.toBeNull()
    listening.socket.close(1000)
    await listening.closed
    await runDurableObjectAlarm(object(gateway))
    expect(await runInDurableObject(object(gateway), (_, { storage }) => storage.getAlarm())).toBeNull()
  })
  it('after more lost ones than it reaches back to leads to everything between', async () => {
    const gateway = await joined()
    const { listening, current } = await greeted(gateway)
    await withLostPokes(async () => { for (let i = 2; i < 22; i++) await report(endpoint, i, { os: linux(`12.${i}`) }) })
    await report(endpoint, 22, { verdicts: answer('false') })
    const frame = await listening.next(has('changed'))
    expect(change(frame, 'uid_tags')?.after).toBe(current)
    expect(changedTables(frame)).toEqual(['sysinfo', 'uid_tags', 'tags'])
    expect(change(frame, 'sysinfo')?.data).toBeUndefined()
    expect(messageOf(frame, 'current')?.revision).toBe(await head())
  })
  it('from a restored database makes the gateway load anew', async () => {
    const gateway = await joined()
    const { listening } = await greeted(gateway)
    await DB.prepare('UPDATE change_log SET mark = ? WHERE revision = (SELECT max(revision) FROM change_log)').bind('0'.repeat(16)).run()
    await report(endpoint, 2, { verdicts: answer('false') })
    const frame = await listening.next(has('reload'))
    expect(frame.filter(({ type }) => type === 'reload')).toHaveLength(6)
    expect(messageOf(frame, 'current')?.revision).toBe(await head())
  })
  it('costs the object no read of D1 and one row', async () => {
    // What the new rule asks of other tests' endpoints is worked off first, and other tests' gateways are told no more: their trips are nobody's here.
    await still()
    const gateway = await joined()
    await greeted(gateway)
    const rows = () => runInDurableObject(object(gateway), (_, { storage }) => storage.sql.exec<{ n: number }>('SELECT count(*) AS n FROM journal').one().n)
    const before = await rows()
    // Two trips are the report's own: what it loads and what it commits.
    expect(await tripsOf(() => report(endpoint, 2, { verdicts: answer('false') }))).toBe(2)
    expect(await rows() - before).toBe(1)
    await withLostPokes(() => report(endpoint, 3, { verdicts: answer('true') }))
    await evictDurableObject(object(gateway))
    expect(await tripsOf(() => report(endpoint, 4, { verdicts: answer('false') }))).toBe(2)
    expect(await rows() - before).toBe(3)
    // The measure sees the object's reads too: beyond the reach of a poke it takes one.
    await withLostPokes(async () => { for (let i = 5; i < 25; i++) await report(endpoint, i, { os: linux(`12.${i}`) }) })
    expect(await tripsOf(() => report(endpoint, 25, { verdicts: answer('true') }))).toBe(3)
  })
})

describe('a look-up', () => {
  it('is answered by the record, or that there is none', async () => {
    const gateway = await joined()
    const { listening } = await greeted(gateway)
    say(listening, { type: 'lookup', uid: endpoint.uid })
    const found = messageOf(await listening.next(has('found')), 'found')
    expect([found?.sysinfo?.uid, found?.tags?.members.map(({ tag_name: name }) => name)]).toEqual([endpoint.uid, ['compliant']])
    say(listening, { type: 'lookup', uid: '0'.repeat(32) })
    expect(messageOf(await listening.next(has('found')), 'found')).toMatchObject({ sysinfo: null, tags: null })
  })
  it('whose answer was overtaken by a change leaves the gateway with the change', async () => {
    await still()
    const gateway = await joined()
    const { listening } = await greeted(gateway)
    const statement = Object.getPrototypeOf(DB.prepare('SELECT 1')) as D1PreparedStatement
    const raw = statement.raw as (this: D1PreparedStatement) => Promise<unknown[]>
    const [asked, held] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    // The object has read the record, and its answer is held up on the way.
    const spy = vi.spyOn(statement, 'raw').mockImplementationOnce(async function read(this: D1PreparedStatement) {
      const answered = await raw.call(this)
      asked.resolve()
      await held.promise
      return answered
    })
    say(listening, { type: 'lookup', uid: endpoint.uid })
    await asked.promise
    spy.mockRestore()
    const changed = report(endpoint, 2, { verdicts: answer('false') })
    await vi.waitFor(async () => { expect((await DB.prepare('SELECT tags FROM endpoints WHERE uid = ?').bind(endpoint.uid).first<{ tags: string }>())?.tags).not.toContain('"present"') }, { timeout: 30_000 })
    await Promise.race([changed, scheduler.wait(200)])
    held.resolve()
    await changed
    const speaks = (frame: Frame) => has('found')(frame) || has('changed')(frame)
    const told = [await listening.next(speaks), await listening.next(speaks)].map((frame) => messageOf(frame, 'found')?.tags ?? uidTagsData.parse(change(frame, 'uid_tags')?.data).uid_tag_lists[endpoint.uid])
    expect(told.at(-1)?.members).toEqual([])
  })
  it('subscribes a gateway that sees its own endpoints only', async () => {
    const gateway = await joined()
    await update(gateway.serial, { share_mode: 0 })
    const { listening } = await greeted(gateway)
    await report(endpoint, 2, { verdicts: answer('false') })
    say(listening, { type: 'lookup', uid: endpoint.uid })
    expect(messageOf(await listening.next(has('found')), 'found')?.tags?.members).toEqual([])
    const scoped = await listening.next(has('changed'))
    expect(Object.keys(uidTagsData.parse(change(scoped, 'uid_tags')?.data).uid_tag_lists)).toEqual([endpoint.uid])
    await report(endpoint, 3, { verdicts: answer('true') })
    expect(change(await listening.next(has('changed')), 'uid_tags')?.after).toBe(messageOf(scoped, 'current')?.revision)
  })
})

describe('an explanation', () => {
  it('is asked of the gateway that decided, and is nothing when it does not know or is away', async () => {
    const gateway = await joined()
    const id = `D${gateway.serial.slice(4)}-0123456789ABCDEF`
    expect(await object(gateway).explainDecision(id)).toBeNull()
    const { listening } = await greeted(gateway)
    const asked = object(gateway).explainDecision(id)
    const request = messageOf(await listening.next(has('explain')), 'explain')
    expect(request?.id).toBe(id)
    const decision = {
      id, at: 1, gateway: gateway.serial, allowed: false, reason: 'tag-missing', code: '065', event: 'decide', uid: endpoint.uid, certificateSerial: null, protocol: 'tcp', service: null, destination: 'db:5432',
      policy: null, tags: [], revision: '', snapshotAgeMs: null, source: '10.0.0.1', validUntil: null, session: null,
    }
    say(listening, { type: 'explained', request: request?.request, decision })
    expect(await asked).toMatchObject({ id, reason: 'tag-missing' })
  })
})
