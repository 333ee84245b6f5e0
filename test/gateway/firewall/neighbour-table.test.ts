// The neighbour table as the kernel tells it: which pairs are live, and which events are a sight of one.
import { describe, expect, it } from 'vitest'
import { NeighbourTable, readNeighbourEvent } from '../../../gateway/firewall/neighbour-table.ts'

const IP = '10.0.0.2'
const [MAC, OTHER] = ['02:00:00:00:00:02', '02:00:00:00:00:aa']

function followed() {
  const told: string[] = []
  const table = new NeighbourTable((address, macs) => told.push(`${address} ${macs.join()}`))
  return {
    table, told: () => told.splice(0),
    event(line: string, now: number) {
      const entry = readNeighbourEvent(line)
      if (entry !== null) table.apply(entry, now)
    },
    list: (rows: unknown[], now: number) => table.takeListing(JSON.stringify(rows), now),
  }
}
const row = (state: string, over: object = {}) => ({ dst: IP, dev: 'lan', lladdr: MAC, state: [state], confirmed: 10, updated: 10, ...over })

describe('a line of the neighbour monitor', () => {
  it.each([
    ['10.0.0.2 dev lan lladdr 02:00:00:00:00:02 REACHABLE', { address: IP, link: 'lan', mac: MAC, state: 'REACHABLE' }],
    ['fd00::2 dev br0.7 lladdr 02:00:00:00:00:02 router STALE', { address: 'fd00::2', link: 'br0.7', mac: MAC, state: 'STALE' }],
    ['10.0.0.2 dev lan FAILED', { address: IP, link: 'lan', mac: null, state: 'FAILED' }],
    ['Deleted 10.0.0.2 dev lan lladdr 02:00:00:00:00:02 STALE', { address: IP, link: 'lan', mac: MAC, state: 'DELETED' }],
  ])('%s', (line, entry) => expect(readNeighbourEvent(line)).toEqual(entry))

  it.each(['fe80::1 dev lan lladdr 02:00:00:00:00:02 STALE', '10.0.0.2 dev lan proxy', '224.0.0.1 dev lan lladdr 01:00:5e:00:00:01 NOARP', '', 'garbage'])('%s is no device\'s', (line) => expect(readNeighbourEvent(line)).toBeNull())
})

describe('the neighbour table', () => {
  it.each(['REACHABLE', 'STALE', 'DELAY', 'PROBE'])('takes a new pair that is %s as seen', (state) => {
    const { event, table } = followed()
    event(`${IP} dev lan lladdr ${MAC} ${state}`, 1_000)
    expect(table.entriesOf(IP)).toEqual([{ address: IP, link: 'lan', mac: MAC, seenAt: 1_000 }])
    expect([...table.addressesOf(MAC)]).toEqual([IP])
  })

  it.each(['FAILED', 'INCOMPLETE', 'NOARP', 'NONE'])('has nothing of an entry that is %s', (state) => {
    const { event, table, told } = followed()
    event(`${IP} dev lan lladdr ${MAC} REACHABLE`, 1_000)
    told()
    event(`${IP} dev lan lladdr ${MAC} ${state}`, 2_000)
    expect(table.entriesOf(IP)).toEqual([])
    expect([...table.macs()]).toEqual([])
    expect(told()).toEqual([`${IP} ${MAC}`])
  })

  it('does not take it for a sight that an entry grew old or is being asked, but an answer it does', () => {
    const { event, table } = followed()
    event(`${IP} dev lan lladdr ${MAC} REACHABLE`, 1_000)
    for (const state of ['STALE', 'DELAY', 'PROBE']) event(`${IP} dev lan lladdr ${MAC} ${state}`, 9_000)
    expect(table.entriesOf(IP)[0]?.seenAt).toBe(1_000)
    event(`${IP} dev lan lladdr ${MAC} REACHABLE`, 10_000)
    expect(table.entriesOf(IP)[0]?.seenAt).toBe(10_000)
  })

  it('tells of both MACs when another one answers', () => {
    const { event, table, told } = followed()
    event(`${IP} dev lan lladdr ${MAC} REACHABLE`, 1_000)
    told()
    event(`${IP} dev lan lladdr ${OTHER} STALE`, 2_000)
    expect(told()).toEqual([`${IP} ${OTHER},${MAC}`])
    expect([...table.addressesOf(MAC)]).toEqual([])
    expect(table.entriesOf(IP)).toEqual([{ address: IP, link: 'lan', mac: OTHER, seenAt: 2_000 }])
  })

  it('keeps one address on two links apart', () => {
    const { event, table } = followed()
    event(`${IP} dev lan lladdr ${MAC} REACHABLE`, 1_000)
    event(`${IP} dev guests lladdr ${MAC} REACHABLE`, 1_000)
    event(`Deleted ${IP} dev guests lladdr ${MAC} STALE`, 2_000)
    expect([...table.addressesOf(MAC)]).toEqual([IP])
    expect(table.entriesOf(IP)).toHaveLength(1)
  })

  it('never forgets a permanent entry, until it is made an ordinary one', () => {
    const { event, table } = followed()
    event(`${IP} dev lan lladdr ${MAC} PERMANENT`, 1_000)
    expect(table.entriesOf(IP)[0]?.seenAt).toBe(Infinity)
    event(`${IP} dev lan lladdr ${MAC} STALE`, 2_000)
    expect(table.entriesOf(IP)[0]?.seenAt).toBe(2_000)
  })

  it('takes a listing as the whole truth, as old as the kernel says', () => {
    const { event, table, list, told } = followed()
    event(`10.0.0.9 dev lan lladdr ${OTHER} REACHABLE`, 1_000)
    told()
    list([row('STALE', { confirmed: 60, updated: 5 }), row('FAILED', { dst: '10.0.0.3', lladdr: undefined }), row('STALE', { dst: 'fe80::1' })], 100_000)
    expect([...table.addresses()]).toEqual([IP])
    expect(table.entriesOf(IP)[0]?.seenAt).toBe(95_000)
    expect(told().sort()).toEqual(['10.0.0.2 02:00:00:00:00:02', '10.0.0.9 02:00:00:00:00:aa'])
    // Of a pair that is known, only a confirmation counts.
    list([row('REACHABLE', { confirmed: 2, updated: 30 })], 130_000)
    expect(table.entriesOf(IP)[0]?.seenAt).toBe(128_000)
    list([row('STALE', { confirmed: 60, updated: 0 })], 140_000)
    expect(table.entriesOf(IP)[0]?.seenAt).toBe(128_000)
  })

  it('believes an event more than a listing that was under way', () => {
    const { event, table, list } = followed()
    event(`${IP} dev lan lladdr ${MAC} REACHABLE`, 1_000)
    table.beginListing()
    event(`${IP} dev lan FAILED`, 1_500)
    event(`10.0.0.9 dev lan lladdr ${OTHER} REACHABLE`, 1_500)
    list([row('REACHABLE')], 2_000)
    expect([...table.addresses()]).toEqual(['10.0.0.9'])
  })

  it('refuses a listing of another form', () => {
    expect(() => followed().list([{ what: 1 }], 0)).toThrow()
  })
})
