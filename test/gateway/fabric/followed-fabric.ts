// A fabric of two endpoints that bear a tag, and a gateway that follows it; both end with their test.
import { afterEach, beforeEach } from 'vitest'
import { endpointByUid } from '../../../domain/access/snapshot.ts'
import { tagPresence } from '../../../domain/access/endpoint-record.ts'
import { HEALTHY, mark, rowsOf, startEmsDouble, systemRow, tagsRow, uidOf, type EmsDouble, type GatewaySocket } from './ems-double.ts'
import { startFollower, until, type FollowerUnderTest } from './follower-under-test.ts'

export interface FollowedFabric {
  readonly ems: EmsDouble
  follow(options?: Parameters<typeof startFollower>[1]): Promise<FollowerUnderTest>
  /** Follows until it is current, and forgets what was read and told on the way. */
  settled(options?: Parameters<typeof startFollower>[1]): Promise<{ follower: FollowerUnderTest; socket: GatewaySocket }>
  /** How the tag stands on the endpoint of that number, as the gateway holds it. */
  presence(number: number): string
}

export const current = (socket: GatewaySocket, revision: number) => socket.tell({ type: 'current', revision: mark(revision), at: Date.now() })

/** Begun before and ended after each test of the file that calls this. */
export function followedFabric(): FollowedFabric {
  let ems: EmsDouble
  let follower: FollowerUnderTest | null = null
  beforeEach(async () => {
    ems = await startEmsDouble()
    ems.sysinfo = () => ({ updated_after: mark(5), is_snapshot: true, rows: rowsOf([1, 2], systemRow) })
    ems.uidTags = () => ({ updated_after: mark(5), is_snapshot: true, rows: rowsOf([1, 2], () => tagsRow([HEALTHY])) })
    ems.hostTags = [{ tag_uid: HEALTHY, name: 'healthy', type: 1, description: '', detection_level: '' }]
    ems.onHello = (socket) => current(socket, 5)
  })
  afterEach(async () => {
    await follower?.close()
    follower = null
    await ems.stop()
  })
  const follow = async (options: Parameters<typeof startFollower>[1] = {}) => {
    follower = await startFollower(ems, options)
    return follower
  }
  return {
    get ems() {
      return ems
    },
    follow,
    async settled(options = {}) {
      const started = await follow(options)
      await until('the first current', () => started.events.some(({ event }) => event === 'current'))
      ems.reads.length = 0
      started.changes.length = 0
      return { follower: started, socket: await started.socket() }
    },
    presence(number) {
      const record = follower === null ? undefined : endpointByUid(follower.world.snapshot(), uidOf(number))
      return record === undefined ? 'no record' : tagPresence(record, HEALTHY, Date.now())
    },
  }
}
