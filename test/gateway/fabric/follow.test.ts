// What a gateway makes of FcmNotify's word: increments, gaps, doubled and reordered notices, lines gone dead, authority taken away.
import { beforeEach, describe, expect, it } from 'vitest'
import { endpointByUid, endpointCount, uidBySerial } from '../../../domain/access/snapshot.ts'
import { PING_EVERY_MS, PONG_WITHIN_MS } from '../../../gateway/fabric/notify-socket.ts'
import { certificateSerialOf, HEALTHY, mark, rowsOf, startEmsDouble, systemRow, tagsRow, uidOf, type EmsDouble } from './ems-double.ts'
import { ManualTimers, until } from './follower-under-test.ts'
import { current, followedFabric } from './followed-fabric.ts'

const fabric = followedFabric()
const { settled, presence } = fabric
let ems: EmsDouble
beforeEach(() => {
  ({ ems } = fabric)
})
const tagNotice = (after: number, upTo: number, rows: Record<string, unknown> | null) => ({
  type: 'changed' as const, table: 'uid_tags' as const, after: mark(after), updated_after: mark(upTo), at: Date.now(), ...(rows === null ? {} : { data: { uid_tag_lists: rows } }),
})

describe('a gateway that follows the EMS', () => {
  it('loads every table and is current only when all of it is held', async () => {
    const { follower: { world } } = await settled()
    expect(endpointCount(world.snapshot())).toBe(2)
    expect(uidBySerial(world.snapshot(), certificateSerialOf(1))).toBe(uidOf(1))
    expect(world.snapshot().tagsByName.get('healthy')).toEqual([HEALTHY])
    expect(world.snapshot()).toMatchObject({ revision: mark(5) })
    expect(presence(1)).toBe('present')
  })

  it('does not restart the staleness clock while a table that was said to have changed is not read', async () => {
    let answer = () => {}
    const held = new Promise<void>((resolve) => {
      answer = resolve
    })
    const { follower: started, socket } = await settled()
    const before = started.world.snapshot().currentAt
    ems.sysinfo = async () => {
      await held
      return { updated_after: mark(6), rows: rowsOf([1], (number) => systemRow(number, { quarantined: true })) }
    }
    socket.tell({ type: 'changed', table: 'sysinfo', after: mark(5), updated_after: mark(6), at: Date.now() }, { type: 'current', revision: mark(6), at: Date.now() })
    await until('the question', () => ems.reads.includes(`sysinfo?updated_after=${encodeURIComponent(mark(5))}`))
    expect(started.world.snapshot()).toMatchObject({ currentAt: before, revision: mark(5) })
    answer()
    await until('revision 6', () => started.world.snapshot().revision === mark(6))
    expect(endpointByUid(started.world.snapshot(), uidOf(1))?.quarantined).toBe(true)
    expect(presence(1)).toBe('present')
  })

  it('applies the increment of a notice in one swap with its `current`, without asking', async () => {
    const { follower: started, socket } = await settled()
    socket.tell(tagNotice(5, 6, rowsOf([1], () => tagsRow([]))), { type: 'current', revision: mark(6), at: Date.now() })
    await until('the change', () => started.changes.length > 0)
    expect(started.changes).toHaveLength(1)
    expect(started.changes[0]?.changed).toEqual(new Set([uidOf(1)]))
    expect(started.changes[0]?.cause.at).toBeLessThanOrEqual(Date.now())
    expect([presence(1), presence(2), started.world.snapshot().revision]).toEqual(['absent', 'present', mark(6)])
    expect(ems.reads).toEqual([])
    await until('applied', () => socket.said.some((message) => message.type === 'applied' && message.updated_after === mark(6)))
  })

  it('pulls when an increment does not continue what it holds', async () => {
    const { follower: started, socket } = await settled()
    ems.uidTags = (query) => ({ updated_after: mark(9), rows: query.get('updated_after') === mark(5) ? rowsOf([1, 2], () => tagsRow([])) : {} })
    socket.tell(tagNotice(8, 9, rowsOf([1], () => tagsRow([]))), { type: 'current', revision: mark(9), at: Date.now() })
    await until('revision 9', () => started.world.snapshot().revision === mark(9))
    expect([presence(1), presence(2)]).toEqual(['absent', 'absent'])
    expect(ems.reads).toHaveLength(1)
  })

  it('notices by the next word that a frame was lost, and is not current before it has read every table', async () => {
    const { follower: started, socket } = await settled()
    ems.uidTags = () => ({ updated_after: mark(6), rows: rowsOf([1], () => tagsRow([])) })
    // The frame that told of revision 6 never came; this one says that 6 had been told.
    socket.tell({ type: 'current', revision: mark(6), after: mark(6), at: Date.now() })
    await until('revision 6', () => started.world.snapshot().revision === mark(6))
    expect(presence(1)).toBe('absent')
    expect(started.logged().filter(({ event }) => event === 'frame-missed')).toHaveLength(1)
    ems.reads.length = 0
    current(socket, 7)
    await until('revision 7', () => started.world.snapshot().revision === mark(7))
    expect(ems.reads).toEqual([])
  })

  it('takes doubled notices once, and reordered ones to the same end', async () => {
    const { follower: started, socket } = await settled()
    ems.uidTags = () => ({ updated_after: mark(7), rows: rowsOf([1], () => tagsRow([HEALTHY])) })
    const [first, second] = [tagNotice(5, 6, rowsOf([1], () => tagsRow([]))), tagNotice(6, 7, rowsOf([1], () => tagsRow([HEALTHY])))]
    socket.tell(first)
    socket.tell(first)
    await until('the first', () => presence(1) === 'absent')
    expect(ems.reads).toEqual([])
    socket.tell(second)
    await until('the second', () => presence(1) === 'present')
    expect(ems.reads).toEqual([])
    socket.tell(first)
    current(socket, 7)
    await until('revision 7', () => started.world.snapshot().revision === mark(7))
    expect(presence(1)).toBe('present')
  })

  it('loads a table whole when told to, and forgets what is no longer there', async () => {
    const { follower: started, socket } = await settled()
    ems.sysinfo = (query) => (query.get('uid_offset') === null
      ? { updated_after: '', uid_offset: 'half', is_final: false, is_snapshot: true, rows: rowsOf([2], systemRow) }
      : { updated_after: mark(8), rows: rowsOf([3], systemRow) })
    socket.tell({ type: 'reload', table: 'sysinfo' }, { type: 'current', revision: mark(8), at: Date.now() })
    await until('revision 8', () => started.world.snapshot().revision === mark(8))
    expect([1, 2, 3].map((number) => endpointByUid(started.world.snapshot(), uidOf(number))?.hostName)).toEqual([undefined, 'laptop-2', 'laptop-3'])
    expect([presence(2), presence(3)]).toEqual(['present', 'unknown'])
    expect(uidBySerial(started.world.snapshot(), certificateSerialOf(1))).toBeUndefined()
  })

  it('goes on with the page at which it was interrupted', async () => {
    let broken = true
    ems.sysinfo = (query) => {
      if (query.get('uid_offset') === null) return { updated_after: '', uid_offset: 'half', is_final: false, is_snapshot: true, rows: rowsOf([1], systemRow) }
      if (broken) {
        broken = false
        throw new Error('the EMS fails once')
      }
      return { updated_after: mark(5), rows: rowsOf([2], systemRow) }
    }
    const started = await fabric.follow()
    await until('both', () => endpointCount(started.world.snapshot()) === 2)
    expect(ems.reads.filter((read) => read.startsWith('sysinfo'))).toEqual(['sysinfo?', 'sysinfo?uid_offset=half', 'sysinfo?uid_offset=half'])
  })

  it('believes a reload that drops most endpoints only when it is told twice', async () => {
    ems.sysinfo = () => ({ updated_after: mark(5), is_snapshot: true, rows: rowsOf([1, 2, 3, 4], systemRow) })
    const { follower: started, socket } = await settled()
    const answers = [[], [1, 2, 3]]
    ems.sysinfo = () => ({ updated_after: mark(6), is_snapshot: true, rows: rowsOf(answers.shift() ?? [], systemRow) })
    socket.tell({ type: 'reload', table: 'sysinfo' }, { type: 'current', revision: mark(6), at: Date.now() })
    await until('the doubt', () => started.logged().some(({ event }) => event === 'reload-doubted'))
    expect(endpointCount(started.world.snapshot())).toBe(4)
    await until('revision 6', () => started.world.snapshot().revision === mark(6))
    expect(endpointCount(started.world.snapshot())).toBe(3)
    answers.push([], [])
    socket.tell({ type: 'reload', table: 'sysinfo' }, { type: 'current', revision: mark(7), at: Date.now() })
    await until('revision 7', () => started.world.snapshot().revision === mark(7))
    expect(endpointCount(started.world.snapshot())).toBe(0)
  })

  it('knows nothing of the tags of an endpoint until they were told', async () => {
    ems.uidTags = () => ({ updated_after: mark(5), is_snapshot: true, rows: {} })
    await settled()
    expect(presence(1)).toBe('unknown')
  })

  it('notices a line that went dead, and comes back with what it holds', async () => {
    const timers = new ManualTimers()
    const { follower: started, socket } = await settled({ timers })
    socket.socket.pause()
    timers.advance(PING_EVERY_MS)
    expect(started.events.some(({ event }) => event === 'disconnected')).toBe(false)
    timers.advance(PONG_WITHIN_MS)
    await until('the end', () => started.events.some(({ event }) => event === 'disconnected'))
    socket.socket.terminate()
    await until('another socket', () => {
      timers.advance(1_000)
      return ems.sockets.length > 1
    })
    expect(ems.sockets.at(-1)?.hello.have).toEqual({ sysinfo: mark(5), uid_tags: mark(5), host_tags: mark(5) })
    expect(endpointCount(started.world.snapshot())).toBe(2)
  })

  it('does not take a ping reply for news', async () => {
    const timers = new ManualTimers()
    const { follower: started, socket } = await settled({ timers })
    const before = started.world.snapshot().currentAt
    let pings = 0
    socket.socket.on('message', (data: Buffer) => {
      pings += data.toString() === 'ping' ? 1 : 0
    })
    timers.advance(PING_EVERY_MS)
    await until('the ping', () => pings > 0)
    // Frames come in order: when this one has been applied, the reply to the ping has been read.
    socket.tell({ type: 'found', uid: uidOf(7), sysinfo: systemRow(7), tags: null })
    await until('the record', () => endpointByUid(started.world.snapshot(), uidOf(7)))
    expect(started.world.snapshot().currentAt).toBe(before)
  })

  for (const message of [{ type: 'authorisation' as const, state: 'denied' as const, reason: 'an administrator said so' }, { type: 'bye' as const, reason: 'deauthorised' as const }]) {
    it(`drops everything it knew at once on ${message.type}`, async () => {
      const { follower: started, socket } = await settled()
      ems.refusal = 'not_authorised'
      socket.tell(message)
      await until('the loss', () => started.events.some(({ event }) => event === 'authority-lost'))
      expect(started.world.snapshot()).toMatchObject({ currentAt: null, revision: '' })
      expect(endpointCount(started.world.snapshot())).toBe(0)
      expect(started.changes.at(-1)?.changed).toBe('all')
    })
  }

  it('learns at its return that it was de-authorised meanwhile', async () => {
    const { follower: started, socket } = await settled()
    ems.refusal = 'not_authorised'
    socket.socket.terminate()
    await until('the loss', () => started.events.some(({ event }) => event === 'authority-lost'))
    expect(endpointCount(started.world.snapshot())).toBe(0)
    ems.refusal = null
    await until('the return', () => endpointCount(started.world.snapshot()) === 2 && started.world.snapshot().currentAt !== null)
  })

  it('believes no EMS that does not hold its CA, whatever certificate the address has', async () => {
    const stranger = await startEmsDouble()
    try {
      ems.introducedBy = stranger.introducedBy
      const started = await fabric.follow()
      await until('the refusal', () => started.events.some((event) => event.event === 'disconnected' && event.reason.includes('proof is foreign')))
      expect(ems.sockets).toEqual([])
    } finally {
      await stranger.stop()
    }
  })

  it('does not take an answer that was held up on the way for a fresh one', async () => {
    let clock = Date.now()
    const { follower: started, socket } = await settled({ now: () => clock })
    const sentAt = Date.now()
    socket.tell({ type: 'current', revision: mark(6), at: sentAt })
    clock = Date.now() + 20_000
    await until('revision 6', () => started.world.snapshot().revision === mark(6))
    expect(started.world.snapshot().currentAt).toBeLessThan(sentAt + 5_000)
  })

  it('answers a question about one of its decisions', async () => {
    const { socket } = await settled()
    socket.tell({ type: 'explain', request: 'r1', id: 'D0123456789AB-0123456789ABCDEF' })
    await until('the answer', () => socket.said.some((message) => message.type === 'explained' && message.request === 'r1' && message.decision === null))
  })
})
