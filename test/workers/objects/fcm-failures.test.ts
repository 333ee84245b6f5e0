// FcmNotify in bad weather: bursts, crashes between telling and writing down, subscriptions that nobody told of, readers that do not read.
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { evictDurableObject, runInDurableObject } from 'cloudflare:test'
import { CALM_ENDPOINTS } from '../../../durable-objects/pending-notices.ts'
import { attachmentOf } from '../../../durable-objects/proved-socket.ts'
import * as fabric from '../../../protocol/operations/fabric.ts'
import { enrolled, linux, report, type Endpoint } from '../ems.ts'
import { by, dataOf, greeted, has, joined, messageOf, NOTIFY, open, say, update, type Frame, type Gateway, type Listening } from '../gateway.ts'
import { answer, DB, everything, head, markedEndpoint, object, reloaded, tablesOf, uidsRead } from './marked-endpoint.ts'

const revisionOf = (watermark: string) => Number(watermark.split('.')[0])
/** Says that a frame was applied, as a gateway does. */
const applies = ({ socket }: Listening<Frame>) => {
  socket.addEventListener('message', ({ data }) => {
    for (const message of JSON.parse(String(data)) as Frame) if (message.type === 'changed') socket.send(JSON.stringify({ type: 'applied', table: message.table, updated_after: message.updated_after }))
  })
}

let endpoint: Endpoint
beforeEach(async () => {
  endpoint = await markedEndpoint()
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
