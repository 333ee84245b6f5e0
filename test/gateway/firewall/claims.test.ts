// Who claims an address, followed through every way in which the world changes; and what a device with its claims weighs.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'
import { emptySnapshot, nextSnapshot, type Snapshot } from '../../../domain/access/snapshot.ts'
import type { EndpointRecord } from '../../../domain/access/endpoint-record.ts'
import { systemFacts, tagFacts } from '../../../gateway/fabric/records.ts'
import { createReplica } from '../../../gateway/fabric/replica.ts'
import { createClaims } from '../../../gateway/firewall/claims.ts'
import { HEALTHY, mark, systemRow, tagsRow, uidOf } from '../fabric/ems-double.ts'
import { laptopRecord } from './held-world.ts'

const put = (snapshot: Snapshot, ...records: EndpointRecord[]) => nextSnapshot(snapshot, { endpoints: new Map(records.map((record) => [record.uid, record])) })
const names = (records: readonly EndpointRecord[]) => records.map(({ uid }) => Number.parseInt(uid, 16)).sort((a, b) => a - b)

describe('claims', () => {
  it('follow a device that comes, moves and goes, and say what was touched', () => {
    const claims = createClaims()
    const first = put(emptySnapshot, laptopRecord(1, { addresses: ['10.0.0.1'], macs: ['02:00:00:00:00:01'] }))
    expect([...claims.follow(first, new Set([uidOf(1)]))].sort()).toEqual(['02:00:00:00:00:01', '10.0.0.1'])
    expect(names(claims.claimantsOf('10.0.0.1'))).toEqual([1])
    const moved = put(first, laptopRecord(1, { addresses: ['10.0.0.2'], macs: ['02:00:00:00:00:01'] }))
    expect([...claims.follow(moved, new Set([uidOf(1)]))].sort()).toEqual(['02:00:00:00:00:01', '10.0.0.1', '10.0.0.2'])
    expect(claims.claimantsOf('10.0.0.1')).toEqual([])
    const gone = nextSnapshot(moved, { endpoints: new Map([[uidOf(1), null]]) })
    claims.follow(gone, new Set([uidOf(1)]))
    expect(claims.claimantsOf('10.0.0.2')).toEqual([])
  })

  it('hold every claimant of an address that thousands have, and give the newest record of each', () => {
    const claims = createClaims()
    const many = put(emptySnapshot, ...Array.from({ length: 5_000 }, (_, index) => laptopRecord(index + 1, { addresses: ['172.17.0.1'] })))
    claims.follow(many, 'all')
    expect(claims.claimantsOf('172.17.0.1')).toHaveLength(5_000)
    const fewer = nextSnapshot(many, { whole: true, endpoints: new Map([[uidOf(7), laptopRecord(7, { addresses: ['172.17.0.1'], quarantined: true })]]) })
    claims.follow(fewer, 'all')
    expect(claims.claimantsOf('172.17.0.1')).toMatchObject([{ uid: uidOf(7), quarantined: true }])
  })

  it('come through a reload as through single changes', () => {
    const [one, other] = [createClaims(), createClaims()]
    const first = put(emptySnapshot, ...[1, 2, 3].map((number) => laptopRecord(number, { addresses: [`10.0.0.${number}`, '10.0.0.9'] })))
    for (const claims of [one, other]) claims.follow(first, 'all')
    const next = put(nextSnapshot(first, { endpoints: new Map([[uidOf(2), null]]) }), laptopRecord(3, { addresses: ['10.0.0.4'] }))
    one.follow(next, 'all')
    other.follow(next, new Set([uidOf(2), uidOf(3)]))
    for (const address of ['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.9']) expect(names(one.claimantsOf(address)), address).toEqual(names(other.claimantsOf(address)))
    expect(names(one.claimantsOf('10.0.0.9'))).toEqual([1])
  })
})

describe('10,000 devices', () => {
  it('with tags, certificates, two addresses and two MACs each weigh at most 12 MB (50,000: 60 MB), the index of claims among it', () => {
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    const weight = () => {
      collect()
      collect()
      return process.memoryUsage().heapUsed
    }
    const hex = (number: number) => number.toString(16).padStart(2, '0')
    const before = weight()
    const replica = createReplica()
    for (let from = 0; from < 10_000; from += 1_000) {
      replica.commit((draft) => {
        for (let number = from; number < from + 1_000; number++) {
          const [high, low] = [number >> 8, number & 255]
          const macs = [`02:00:00:00:${hex(high)}:${hex(low)}`, `06:00:00:00:${hex(high)}:${hex(low)}`]
          // As parsed from a page: no string is shared with another record.
          const row = JSON.parse(JSON.stringify(systemRow(number, { ip: `10.0.${high}.${low}`, ip_list: [`10.0.${high}.${low}`, `fd00:1:2:3::${number.toString(16)}`], mac: macs[0] ?? '', mac_list: macs }))) as ReturnType<typeof systemRow>
          draft.system(row.uid, systemFacts(row.uid, row))
          draft.tags(row.uid, tagFacts(row.uid, JSON.parse(JSON.stringify(tagsRow([HEALTHY, `${HEALTHY.slice(0, -1)}2`, `${HEALTHY.slice(0, -1)}3`]))) as ReturnType<typeof tagsRow>))
        }
        draft.current(mark(5), 1)
      })
    }
    const claims = createClaims()
    claims.follow(replica.snapshot(), 'all')
    const megabytes = (weight() - before) / 1e6
    expect(replica.snapshot().endpoints.size).toBe(10_000)
    expect(claims.claimantsOf('10.0.0.77')).toHaveLength(1)
    expect(megabytes).toBeLessThan(12)
  })
})
