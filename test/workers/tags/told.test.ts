// Tags that are set are told to gateways at once, by their entitlement, and end by time without a report.
import { beforeEach, describe, expect, it } from 'vitest'
import { atRest, reEvaluate } from '../../../workers/flows/re-evaluate.ts'
import { sendTo, TOKEN } from '../ems.ts'
import { by, greeted, joined, update, type Frame, type Gateway, type Listening } from '../gateway.ts'
import { contextOf, envWith, real } from '../standing.ts'
import { bears, clear, cleared, explained, HOUR, make, reporting, set, tagsOf } from './setting.ts'

const { DB } = real
interface Member { readonly tag_name: string; readonly valid_until: number | null; readonly tag_properties: { readonly type: number } }

/** Members as a frame tells them; null: nothing of that endpoint in it. */
function membersIn(frame: Frame, uid: string): readonly Member[] | null {
  for (const message of frame) {
    if (message.type !== 'changed' || message.table !== 'uid_tags') continue
    const lists = (message.data as { uid_tag_lists?: Record<string, { members: Member[] } | null> } | undefined)?.uid_tag_lists
    if (lists?.[uid] !== undefined) return lists[uid]?.members ?? []
  }
  return null
}
const told = async (listening: Listening<Frame>, uid: string, fits: (members: readonly Member[]) => boolean) => {
  const frame = await listening.next((each) => {
    const members = membersIn(each, uid)
    return members !== null && fits(members)
  })
  return membersIn(frame, uid) ?? []
}
const names = (members: readonly Member[]) => members.map(({ tag_name: name }) => name)
const seeing = async (gateway: Gateway, types: readonly number[]) => {
  await update(gateway.serial, { share_mode: 1, share_tag_types: types })
  return (await greeted(gateway)).listening
}
/** One step of the re-evaluation, by a clock of its own. */
const at = (now: number) => reEvaluate({ ...contextOf(real), now: () => now }, atRest, now)

describe('a tag that is set', () => {
  beforeEach(cleared)

  it('is told to the gateways that are entitled to its type, and to no other', async () => {
    const [endpoint, all, rulesOnly] = [await reporting(), await joined(), await joined()]
    const [hears, hearsRules] = [await seeing(all, [1, 2, 3, 4]), await seeing(rulesOnly, [1])]
    const [infected, mine] = [await make('infected', 4), await make('finance', 3)]
    const { json } = await set(infected, [endpoint.uid], { source: 'analyzer', reason: 'beacon seen' })
    expect(json).toEqual({ changed: 1, unchanged: 0, unknown: [], full: [] })
    const [member] = await told(hears, endpoint.uid, (members) => names(members).includes('infected'))
    expect([member?.tag_properties.type, member?.valid_until]).toEqual([4, null])
    await set(mine, [endpoint.uid])
    expect(names(await told(hears, endpoint.uid, (members) => members.length === 2)).sort()).toEqual(['finance', 'infected'])
    // It is told that something changed of that endpoint, and sees none of it.
    expect(hearsRules.frames.flatMap((frame) => membersIn(frame, endpoint.uid) ?? [])).toEqual([])
    await clear(infected, [endpoint.uid], { source: 'analyzer' })
    expect(names(await told(hears, endpoint.uid, (members) => members.length === 1))).toEqual(['finance'])
  })

  it('ends at its time with no report, and the gateway hears it', async () => {
    const [endpoint, gateway] = [await reporting(), await joined()]
    const [hears, tag, until] = [await seeing(gateway, [4]), await make('infected', 4), Date.now() + HOUR]
    await set(tag, [endpoint.uid], { source: 'analyzer', until })
    expect((await told(hears, endpoint.uid, ({ length }) => length === 1))[0]?.valid_until).toBe(until)
    expect((await at(until - 1)).written).toBe(0)
    expect((await at(until)).written).toBe(1)
    expect(await told(hears, endpoint.uid, ({ length }) => length === 0)).toEqual([])
    expect(await tagsOf(endpoint)).toEqual([])
    expect(await DB.prepare('SELECT next_due FROM endpoints WHERE uid = ?').bind(endpoint.uid).first('next_due')).toBeNull()
  })

  it('sets the alarm of the re-evaluation, so that its end needs nobody; and why it is gone is still told', async () => {
    const [endpoint, tag, until] = [await reporting(), await make('soon', 4), Date.now() + 2_000]
    await set(tag, [endpoint.uid], { source: 'analyzer', until })
    await expect.poll(() => tagsOf(endpoint), { timeout: 30_000 }).toEqual([])
    expect(await explained(endpoint, tag)).toMatchObject({ state: 'absent', assigned: [{ source: 'analyzer', until }] })
  })

  it('by two sources lasts as long as the last, and each clears its own', async () => {
    const [endpoint, tag, now] = [await reporting(), await make('infected', 4), Date.now()]
    await set(tag, [endpoint.uid], { source: 'analyzer', until: now + HOUR })
    await set(tag, [endpoint.uid], { source: 'edr', until: now + 2 * HOUR })
    expect((await tagsOf(endpoint))[0]?.validUntil).toBe(now + 2 * HOUR)
    await at(now + HOUR)
    expect(await bears(endpoint, tag)).toBe(true)
    expect((await clear(tag, [endpoint.uid], { source: 'nobody' })).json).toMatchObject({ changed: 0, unchanged: 1 })
    expect(await bears(endpoint, tag)).toBe(true)
    await clear(tag, [endpoint.uid], { source: 'edr' })
    expect(await bears(endpoint, tag)).toBe(true)
    await clear(tag, [endpoint.uid], { source: 'analyzer' })
    expect(await bears(endpoint, tag)).toBe(false)
  })

  it('is extended by its source', async () => {
    const [endpoint, tag, now] = [await reporting(), await make('infected', 4), Date.now()]
    await set(tag, [endpoint.uid], { source: 'analyzer', until: now + HOUR })
    await set(tag, [endpoint.uid], { source: 'analyzer', until: now + 3 * HOUR })
    await at(now + 2 * HOUR)
    expect(await bears(endpoint, tag)).toBe(true)
    await at(now + 3 * HOUR)
    expect(await bears(endpoint, tag)).toBe(false)
  })

  it('stands when a gateway could not be told; said again it is told, and not written again', async () => {
    const [endpoint, gateway, tag] = [await reporting(), await joined(), await make('infected', 4)]
    const hears = await seeing(gateway, [4])
    const deaf = { getByName: () => ({ poke: () => Promise.reject(new Error('away')) }) } as unknown as typeof real.FCM_NOTIFY
    const path = `/api/v1/admin/tags/${tag}/assign`
    const refused = await sendTo(envWith({ FCM_NOTIFY: deaf }), 'POST', path, { body: { uids: [endpoint.uid] }, headers: { authorization: `Bearer ${TOKEN}` } })
    expect([refused.status, refused.code, await bears(endpoint, tag)]).toEqual([503, 'busy', true])
    expect((await set(tag, [endpoint.uid])).json).toMatchObject({ changed: 0, unchanged: 1 })
    expect(names(await told(hears, endpoint.uid, ({ length }) => length === 1))).toEqual(['infected'])
  })

  it('is told to a gateway in own mode only of endpoints behind it', async () => {
    const [mine, foreign, gateway, tag] = [await reporting(), await reporting(), await joined(), await make('infected', 4)]
    await update(gateway.serial, { share_mode: 0, share_tag_types: [4] })
    await by(gateway, 'POST', '/api/v1/report/fct/subscribe', { update: [{ uids: { [mine.uid]: { subscribe: true } } }] })
    const { listening } = await greeted(gateway)
    await set(tag, [foreign.uid])
    await set(tag, [mine.uid])
    expect(names(await told(listening, mine.uid, ({ length }) => length === 1))).toEqual(['infected'])
    expect(listening.frames.flatMap((frame) => membersIn(frame, foreign.uid) ?? [])).toEqual([])
  })
})
