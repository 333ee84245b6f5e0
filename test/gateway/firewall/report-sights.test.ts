// What a gateway tells the real EMS of what it sees: soon, only what changed, whole each minute; and the addresses that the EMS then gives a tag.
import { describe, expect, it } from 'vitest'
import { createConnections, LINGER_MS } from '../../../gateway/firewall/connections.ts'
import { NeighbourTable } from '../../../gateway/firewall/neighbour-table.ts'
import { reportSights } from '../../../gateway/firewall/report-sights.ts'
import { ToldSights } from '../../../gateway/firewall/sources/told-sights.ts'
import type { ProvedPeer } from '../../../gateway/proxy/peer.ts'
import type { ControlClient } from '../../../node/control-client.ts'
import { Fault } from '../../../protocol/faults.ts'
import { gatewayMac } from '../../../protocol/operations/fabric.ts'
import { readableLog, until } from '../fabric/follower-under-test.ts'
import { heldClock } from './held-clock.ts'
import { serialOf, uidOf } from './held-world.ts'

const SERIAL = 'SPGW0123456789AB'
const [IP, MAC, OTHER] = ['10.0.0.2', '02:00:00:00:00:02', '02:00:00:00:00:aa']
interface Body { readonly is_snapshot: boolean; readonly sn_list?: string[]; readonly gateway_mac_list?: { mac: string; ip_list: string[]; is_delete?: boolean }[]; readonly uid_list?: { uid: string; ip: string; is_delete?: boolean }[] }

function reporting() {
  const clock = heldClock(1_000_000)
  const calls: Body[] = []
  let failing: Fault | null = null
  // The wire is the far side here: the real EMS is met in sights-and-ems.test.ts.
  const client = {
    call: (operation: { id: string }, { body }: { body: Body }) => {
      if (failing !== null) return Promise.reject(failing)
      calls.push(body)
      return Promise.resolve({ result: { retval: 1 }, data: operation.id === gatewayMac.id ? [] : { rejected: [] } })
    },
  } as unknown as Pick<ControlClient, 'call'>
  const { log, events } = readableLog()
  const table = new NeighbourTable((address) => reports.changed(address))
  const connections = createConnections({ ...clock, onChange: (address) => reports.changed(address) })
  const told = new ToldSights((address) => reports.changed(address))
  const reports = reportSights({ client, serial: SERIAL, table, connections, told, sightMs: 120_000, timers: clock.timers, now: clock.now, log, random: () => 0.5 })
  const peer = (number: number): ProvedPeer => ({ status: 'proved', serial: serialOf(number), commonName: uidOf(number), purpose: 'agent', notAfter: 4_000_000_000_000 })
  return {
    clock, table, connections, events, peer, reports,
    fail: (fault: Fault | null) => {
      failing = fault
    },
    /** Calls since the last time. */
    async told(atLeast: number) {
      await until(`${atLeast} calls`, () => calls.length >= atLeast)
      return calls.splice(0)
    },
    see: (mac: string | null, address = IP) => table.apply({ address, link: 'lan', mac, state: mac === null ? 'FAILED' : 'REACHABLE' }, clock.now()),
  }
}

describe('sights', () => {
  it('are told whole at first and each minute, and in between only as they change', async () => {
    const { clock, see, told, connections, peer } = reporting()
    see(MAC)
    see(MAC, 'fd00::2')
    clock.advance(1_500)
    expect(await told(2)).toEqual([
      { is_snapshot: true, sn_list: [SERIAL], gateway_mac_list: [{ mac: MAC, vdom: 'root', interface: 'lan', sn: SERIAL, ip_list: [IP, 'fd00::2'] }] },
      { is_snapshot: true, sn_list: [SERIAL], uid_list: [] },
    ])
    see(MAC)
    clock.advance(2_000)
    const close = connections.opened(peer(7), '10.0.0.7')
    clock.advance(2_000)
    expect(await told(1)).toEqual([{ is_snapshot: false, uid_list: [{ uid: uidOf(7), ip: '10.0.0.7', vdom: 'root', interface: '', sn: SERIAL, kind: 'mtls' }] }])
    see(null)
    close()
    clock.advance(2_000)
    expect(await told(1)).toMatchObject([{ is_snapshot: false, gateway_mac_list: [{ mac: MAC, ip_list: [IP], is_delete: true }] }])
    clock.advance(LINGER_MS)
    clock.advance(2_000)
    expect(await told(1)).toMatchObject([{ uid_list: [{ uid: uidOf(7), is_delete: true }] }])
    clock.advance(60_000)
    expect(await told(2)).toMatchObject([{ is_snapshot: true, gateway_mac_list: [{ ip_list: ['fd00::2'] }] }, { is_snapshot: true, uid_list: [] }])
  })

  it('tell of all MACs at an address when another one answers, and not of the end of the one before', async () => {
    const { clock, see, told, table } = reporting()
    see(MAC)
    clock.advance(1_500)
    await told(2)
    see(OTHER)
    clock.advance(2_000)
    expect(await told(1)).toMatchObject([{ gateway_mac_list: [{ mac: OTHER, ip_list: [IP] }] }])
    table.apply({ address: IP, link: 'guests', mac: MAC, state: 'REACHABLE' }, clock.now())
    clock.advance(2_000)
    expect((await told(1))[0]?.gateway_mac_list?.map(({ mac }) => mac).sort()).toEqual([MAC, OTHER])
  })

  it('that could not be told are told whole later, and that is said once', async () => {
    const { clock, see, told, fail, events } = reporting()
    clock.advance(1_500)
    await told(2)
    fail(new Fault('busy', 'not reached'))
    see(MAC)
    clock.advance(2_000)
    await until('the failure', () => events().some(({ event }) => event === 'sights-not-reported'))
    fail(null)
    clock.advance(60_000)
    expect(await told(2)).toMatchObject([{ is_snapshot: true, gateway_mac_list: [{ ip_list: [IP] }] }, { is_snapshot: true }])
    expect(events().filter(({ event }) => event === 'sights-not-reported')).toHaveLength(1)
  })

  it('that nothing confirms are no longer told', async () => {
    const { clock, see, told } = reporting()
    see(MAC)
    clock.advance(1_500)
    await told(2)
    clock.advance(110_000)
    const calls = await told(4)
    expect(calls.findLast((call) => call.gateway_mac_list !== undefined)?.gateway_mac_list).toHaveLength(1)
    clock.advance(60_000)
    expect((await told(2))[0]?.gateway_mac_list).toEqual([])
  })

  it('end with the program: nothing is told after it was closed', async () => {
    const { clock, see, told, reports } = reporting()
    clock.advance(1_500)
    await told(2)
    reports.close()
    see(MAC)
    clock.advance(600_000)
    expect(await told(0)).toEqual([])
  })
})
