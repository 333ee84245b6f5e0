// A gateway that can have no websocket: it asks, reads what changed, counts as current only by what the EMS proves, and goes back to the socket.
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { tagPresence } from '../../../domain/access/endpoint-record.ts'
import { endpointByUid, endpointCount } from '../../../domain/access/snapshot.ts'
import { systemTimers, type Timers } from '../../../node/timers.ts'
import { HEALTHY, mark, rowsOf, startEmsDouble, systemRow, tagsRow, uidOf, type EmsDouble } from './ems-double.ts'
import { startFollower, until, type FollowerUnderTest } from './follower-under-test.ts'

const EVERY_MS = 300
const poll = { afterMs: 0, everyMs: EVERY_MS }
let ems: EmsDouble
let follower: FollowerUnderTest | null = null
let revision = 5
/** Whether the EMS says that it has read its log for the question. */
let proves = true
let tags = [HEALTHY]

beforeEach(async () => {
  ems = await startEmsDouble()
  ems.noWebsocket = true
  ;[revision, proves, tags] = [5, true, [HEALTHY]]
  ems.sysinfo = (query) => (query.get('updated_after') === null ? { updated_after: mark(revision), is_snapshot: true, rows: rowsOf([1, 2], systemRow) } : { updated_after: mark(revision), rows: {} })
  ems.uidTags = (query) => ({ updated_after: mark(revision), is_snapshot: query.get('updated_after') === null, rows: rowsOf([1, 2], () => tagsRow(tags)) })
  ems.hostTags = [{ tag_uid: HEALTHY, name: 'healthy', type: 1, description: '', detection_level: '' }]
  ems.status = answer
  ems.onHello = (socket) => socket.tell({ type: 'current', revision: mark(revision), at: Date.now() })
})
afterEach(async () => {
  await follower?.close()
  follower = null
  await ems.stop()
})

const changed = (held: string | undefined, by = revision) => ({ is_updated: held === undefined || held === '' || Number(held.split('.')[0]) < by })
const answer = ({ sysinfo, uid_tags: uidTags, host_tags: hostTags }: Record<string, string>) => ({
  sysinfo: changed(sysinfo, 5), uid_tags: changed(uidTags), host_tags: changed(hostTags, 5), ...(proves ? { current: { revision: mark(revision), at: Date.now() } } : {}),
})
const presence = (number: number) => {
  const record = follower === null ? undefined : endpointByUid(follower.world.snapshot(), uidOf(number))
  return record === undefined ? 'no record' : tagPresence(record, HEALTHY, Date.now())
}
const modes = ({ events }: FollowerUnderTest) => events.flatMap((event) => (event.event === 'mode' ? [event.mode] : []))
const polls = () => ems.reads.filter((read) => read === 'status').length
async function started(options: Parameters<typeof startFollower>[1] = {}): Promise<FollowerUnderTest> {
  follower = await startFollower(ems, { poll, ...options })
  return follower
}

describe('a gateway without a websocket', () => {
  it('asks, loads everything, is current by the proof, and reads only what changed', async () => {
    const { world, replica, events } = await started()
    await until('current', () => events.some(({ event }) => event === 'current'))
    expect([endpointCount(world.snapshot()), presence(1), world.snapshot().revision, replica.state().heardBy]).toEqual([2, 'present', mark(5), 'polling'])
    expect(modes(follower as FollowerUnderTest)).toEqual(['polling'])
    // A question that was asked before all was read has been answered, and what it led to was read.
    await until('three questions with nothing to read', () => ems.reads.slice(-3).join() === 'status,status,status')
    ems.reads.length = 0
    ;[revision, tags] = [6, []]
    await until('the change', () => presence(1) === 'absent' && world.snapshot().revision === mark(6))
    const [first, ...more] = ems.reads.filter((read) => read !== 'status')
    expect(first).toBe(`uid_tags?updated_after=${encodeURIComponent(mark(5))}`)
    // A question that is asked while a slow page is under way asks for it once more, and for no other.
    for (const read of more) expect(read).toMatch(/^uid_tags\?/)
  })

  it('asks again after half of the interval to the whole, never later', async () => {
    const waits: number[] = []
    const hasty: Timers = {
      after(delayMs, action) {
        // Longer than any pause between two attempts to have a websocket.
        if (delayMs < 30_000) return systemTimers.after(delayMs, action)
        waits.push(delayMs)
        return systemTimers.after(1, action)
      },
    }
    await started({ timers: hasty, poll: { afterMs: 0, everyMs: 60_000 } })
    await until('fifty pauses', () => waits.length >= 50)
    for (const wait of waits) expect(wait).toBeLessThanOrEqual(60_000)
    expect(new Set(waits).size).toBeGreaterThan(10)
  })

  it('is no fresher than its question, and not at all where the EMS proves nothing', async () => {
    const { world, events } = await started()
    await until('current', () => events.some(({ event }) => event === 'current'))
    proves = false
    const before = polls()
    await until('two more answers', () => polls() > before + 2)
    const { currentAt } = world.snapshot()
    ;[revision, tags] = [6, []]
    await until('the change all the same', () => presence(1) === 'absent')
    expect(world.snapshot()).toMatchObject({ currentAt, revision: mark(5) })
    // An answer that is held up on the way.
    const { promise, resolve } = Promise.withResolvers<undefined>()
    let heldUp = 0
    ems.status = async (held) => {
      const told = answer(held)
      heldUp = Date.now()
      await promise
      return told
    }
    proves = true
    await until('the question', () => heldUp > 0)
    await until('some time to pass', () => Date.now() > heldUp + 20)
    resolve(undefined)
    await until('revision 6', () => world.snapshot().revision === mark(6))
    expect(world.snapshot().currentAt).toBeLessThanOrEqual(heldUp)
  })

  it('does not count as current before what was said to have changed is read', async () => {
    const { world, events } = await started()
    await until('current', () => events.some(({ event }) => event === 'current'))
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const { uidTags } = ems
    ems.uidTags = async (query) => {
      await promise
      return await uidTags(query)
    }
    ;[revision, tags] = [6, []]
    const before = ems.reads.filter((read) => read.startsWith('uid_tags')).length
    await until('the page to be asked for', () => ems.reads.filter((read) => read.startsWith('uid_tags')).length > before)
    const [{ currentAt }, asked] = [world.snapshot(), polls()]
    await until('another answer', () => polls() > asked + 1)
    expect(world.snapshot()).toMatchObject({ currentAt, revision: mark(5) })
    resolve(undefined)
    await until('revision 6', () => world.snapshot().revision === mark(6))
    expect(presence(1)).toBe('absent')
  })

  it('goes back to the websocket when there is one, and hears it alone', async () => {
    const { world, events, replica } = await started()
    await until('current', () => events.some(({ event }) => event === 'current'))
    // A question is under way when the socket comes; its answer speaks of a world that the EMS no longer has.
    const { promise, resolve } = Promise.withResolvers<undefined>()
    let asked = false
    ems.status = async (held) => {
      asked = true
      const told = { ...answer(held), current: { revision: mark(99), at: Date.now() } }
      await promise
      return told
    }
    await until('the question', () => asked)
    ems.noWebsocket = false
    const socket = await (follower as FollowerUnderTest).socket()
    await until('current by the socket', () => replica.state().heardBy === 'socket')
    resolve(undefined)
    const before = polls()
    socket.tell({ type: 'changed', table: 'uid_tags', after: mark(5), updated_after: mark(6), at: Date.now(), data: { uid_tag_lists: rowsOf([1], () => tagsRow([])) } }, { type: 'current', revision: mark(6), at: Date.now() })
    await until('revision 6', () => world.snapshot().revision === mark(6))
    expect(socket.hello.have).toEqual({ sysinfo: mark(5), uid_tags: mark(5), host_tags: mark(5) })
    expect([modes(follower as FollowerUnderTest), polls(), presence(1)]).toEqual([['polling', 'socket'], before, 'absent'])
  })

  it('that was put out drops everything, and comes back when it is let in again', async () => {
    const { world, events } = await started()
    await until('current', () => events.some(({ event }) => event === 'current'))
    ems.refusal = 'not_authorised'
    await until('the loss', () => events.some(({ event }) => event === 'authority-lost'))
    expect([endpointCount(world.snapshot()), world.snapshot().currentAt]).toEqual([0, null])
    ems.refusal = null
    await until('the return', () => endpointCount(world.snapshot()) === 2 && world.snapshot().currentAt !== null)
  })

  it('asks nobody who does not prove to be the EMS', async () => {
    const stranger = await startEmsDouble()
    try {
      ems.introducedBy = stranger.introducedBy
      const { events } = await started()
      await until('three refusals', () => events.filter((event) => event.event === 'disconnected' && event.reason.includes('proof is foreign')).length > 2)
      expect(ems.reads).toEqual([])
    } finally {
      await stranger.stop()
    }
  })

  it('does not ask before it has been without one for as long as is said', async () => {
    const { events } = await started({ poll: { afterMs: 3_600_000, everyMs: EVERY_MS } })
    await until('four refusals', () => events.filter(({ event }) => event === 'disconnected').length > 3)
    expect(ems.reads).toEqual([])
  })
})
