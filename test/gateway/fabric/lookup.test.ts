// An endpoint that a gateway does not know is asked for: once, not for long, and not by many at a time.
import { describe, expect, it } from 'vitest'
import { endpointByUid } from '../../../domain/access/snapshot.ts'
import { LOOKUP_MS, UNKNOWN_MS } from '../../../gateway/fabric/lookups.ts'
import { HEALTHY, systemRow, tagsRow, uidOf, type GatewaySocket } from './ems-double.ts'
import { ManualTimers, until } from './follower-under-test.ts'
import { followedFabric } from './followed-fabric.ts'

const { settled, presence } = followedFabric()

describe('a lookup', () => {
  const lookups = (socket: GatewaySocket) => socket.said.filter(({ type }) => type === 'lookup')

  it('brings the record before it resolves, and asks once however many want it', async () => {
    const { follower: started, socket } = await settled()
    const asked = Promise.all([started.world.lookup(uidOf(7)), started.world.lookup(uidOf(7)), started.world.lookup(uidOf(7))])
    await until('the question', () => lookups(socket).length > 0)
    socket.tell({ type: 'found', uid: uidOf(7), sysinfo: systemRow(7), tags: tagsRow([HEALTHY]) })
    await asked
    expect(presence(7)).toBe('present')
    expect(lookups(socket)).toHaveLength(1)
  })

  it('ends after 500 ms without an answer, and at once when the socket is lost', async () => {
    const timers = new ManualTimers()
    const { follower: started, socket } = await settled({ timers })
    const unanswered = started.world.lookup(uidOf(7))
    timers.advance(LOOKUP_MS - 1)
    let ended = false
    void unanswered.then(() => {
      ended = true
    }, () => null)
    await until('the question', () => lookups(socket).length > 0)
    expect(ended).toBe(false)
    timers.advance(1)
    await unanswered
    const lost = started.world.lookup(uidOf(8))
    socket.socket.terminate()
    await lost
    await started.world.lookup(uidOf(9))
    expect(endpointByUid(started.world.snapshot(), uidOf(7))).toBeUndefined()
  })

  it('remembers for ten seconds that there is no such endpoint', async () => {
    let clock = Date.now()
    const { follower: started, socket } = await settled({ now: () => clock })
    const ask = async (expected: number) => {
      const asked = started.world.lookup(uidOf(7))
      await until('the question', () => lookups(socket).length === expected)
      socket.tell({ type: 'found', uid: uidOf(7), sysinfo: null, tags: null })
      await asked
    }
    await ask(1)
    await started.world.lookup(uidOf(7))
    expect(lookups(socket)).toHaveLength(1)
    clock += UNKNOWN_MS + 1
    await ask(2)
  })

  it('is never many at once', async () => {
    const { follower: started, socket } = await settled()
    const asked = Promise.all(Array.from({ length: 1_000 }, (_, number) => started.world.lookup(uidOf(1_000 + number))))
    await asked
    await until('the questions', () => lookups(socket).length > 0)
    expect(lookups(socket).length).toBeLessThanOrEqual(256)
  })
})
