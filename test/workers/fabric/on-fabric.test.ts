// Who is on the fabric: whom a gateway sees that an administrator marked, for as long as it sees it and a moment longer; never who says so. Counted: a sight that goes on writes nothing of the endpoint.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createExecutionContext, runDurableObjectAlarm, waitOnExecutionContext } from 'cloudflare:test'
import { utf8 } from '../../../identity/encoding.ts'
import { signRequest } from '../../../identity/request-signature.ts'
import * as fabric from '../../../protocol/operations/fabric.ts'
import { SIGHT_SECONDS } from '../../../protocol/fabric/sightings.ts'
import worker from '../../../workers/index.ts'
import { deauthoriseGateway } from '../../../workers/flows/gateways.ts'
import { sweepSights } from '../../../workers/flows/sights.ts'
import { admin, enrolled, linux, ORIGIN, report, type Endpoint } from '../ems.ts'
import { by, dataOf, joined, type Gateway } from '../gateway.ts'
import { meter } from '../meter.ts'
import { contextOf, envWith, real, reEvaluated } from '../standing.ts'
import { addRuleSet, clear, contradictions } from '../telemetry/fleet.ts'

const { DB } = real
const [MAC, IP] = ['02:00:00:00:00:01', '10.0.0.7']
const metered = meter(DB)
const network = (ip: string, mac: string) => ({ interfaces: [{ name: 'eth0', mac, addresses: [{ ip, prefix: 24 }] }], defaultGateways: [], dnsServers: [] })
async function laptop(ip = IP, mac = MAC): Promise<Endpoint> {
  const endpoint = await enrolled()
  await report(endpoint, 1, { os: linux(), network: network(ip, mac) })
  return endpoint
}
const pairsOf = (gateway: Gateway, pairs: readonly (readonly [ip: string, mac: string])[], isSnapshot = true) =>
  ({ gateway_mac_list: pairs.map(([ip, mac]) => ({ mac, vdom: 'root', ip_list: [ip], interface: 'lan', sn: gateway.serial })), is_snapshot: isSnapshot })
const neighbours = (gateway: Gateway, pairs: readonly (readonly [ip: string, mac: string])[], isSnapshot = true) => by(gateway, 'POST', fabric.gatewayMac.path, pairsOf(gateway, pairs, isSnapshot))
const connections = (gateway: Gateway, list: readonly { uid: string; ip: string; kind: 'mtls' | 'vpn' }[]) => by(gateway, 'POST', fabric.vpn.path, {
  is_snapshot: true, sn_list: [gateway.serial], uid_list: list.map((each) => ({ vdom: 'root', interface: '', sn: gateway.serial, ...each })),
})
const mark = (gateway: Gateway, place: object | null = {}) => admin('PUT', `/gateways/${gateway.serial}/fabric`, { place })
async function marked(place: object = {}): Promise<Gateway> {
  const gateway = await joined()
  expect((await mark(gateway, place)).status).toBe(200)
  return gateway
}
const shown = async ({ uid }: Endpoint) => (await admin('GET', `/endpoints/${uid}`)).json as unknown as { onFabric: boolean; tags: { state: string; validUntil: number | null }[]; facts: { fabric?: { provenance: string; value: object } } }
const isOn = async (endpoint: Endpoint) => (await shown(endpoint)).onFabric
const stateOf = async (endpoint: Endpoint) => (await shown(endpoint)).tags[0]?.state ?? 'absent'
const told = async (gateway: Gateway, { uid }: Endpoint) => (dataOf(await by(gateway, 'GET', fabric.sysinfo.get.path)) as { data: Record<string, { onnet: boolean }> }).data[uid]?.onnet
const logged = async ({ uid }: Endpoint) => (await DB.prepare('SELECT tables FROM change_log WHERE uid = ? ORDER BY revision').bind(uid).all<{ tables: string }>()).results.map(({ tables }) => tables)
const pass = (ms: number) => vi.setSystemTime(Date.now() + ms)
/** What the object does when something is due. */
async function due(): Promise<void> {
  for (let step = 0; step < 10; step++) await runDurableObjectAlarm(real.RE_EVALUATION.getByName('one'))
}

describe('on the fabric', () => {
  beforeEach(async () => {
    await clear()
    await DB.batch(['gateway_subscriptions', 'endpoint_macs', 'sightings', 'change_log'].map((table) => DB.prepare(`DELETE FROM ${table}`)))
    vi.useFakeTimers({ now: Date.now(), toFake: ['Date'] })
    await addRuleSet('here', [{ type: 'on-fabric', proved: true }])
    await reEvaluated()
  })
  afterEach(() => { vi.useRealTimers() })

  it('is a device that a marked gateway sees at the address and MAC that it claims: proved, with the gateway and since when, told to gateways in one row of the log', async () => {
    const [gateway, endpoint] = [await marked(), await laptop()]
    expect([await isOn(endpoint), await stateOf(endpoint)]).toEqual([false, 'unknown'])
    const before = (await logged(endpoint)).length
    await neighbours(gateway, [[IP, MAC]])
    const { onFabric, tags, facts } = await shown(endpoint)
    expect([onFabric, tags]).toMatchObject([true, [{ state: 'present', validUntil: null }]])
    expect(facts.fabric).toMatchObject({ provenance: 'proved', value: { on: true, checkedBy: gateway.serial, checkedAt: Date.now(), since: Date.now(), expiresAt: null } })
    expect((await logged(endpoint)).slice(before)).toEqual(['sysinfo,uid_tags,tags'])
    expect(await told(gateway, endpoint)).toBe(true)
    const [tag] = (await admin('GET', '/tags')).json.items as { uid: string }[]
    const explained = (await admin('GET', `/endpoints/${endpoint.uid}/tags/${tag?.uid}`)).json as { ruleSets: { conditions: { seen: string; factAt: number; provenance: string }[] }[] }
    expect(explained.ruleSets[0]?.conditions[0]).toMatchObject({ seen: expect.stringContaining(`${gateway.serial} has seen it since 20`) as unknown, factAt: Date.now(), provenance: 'proved' })
  })

  it('is not who merely says so, whom an unmarked gateway sees, whose MAC another claims too, who got an address of a VPN, or who comes from somewhere else', async () => {
    const [gateway, other] = [await marked({ networks: ['10.20.0.0/16', 'fd00:20::/32'] }), await joined()]
    const [endpoint, claimed] = [await laptop(), await laptop('10.0.0.8', '02:00:00:00:00:02')]
    await neighbours(other, [[IP, MAC]])
    await connections(other, [{ uid: endpoint.uid, ip: '10.20.0.1', kind: 'mtls' }])
    await neighbours(gateway, [['10.0.0.9', MAC], [IP, '02:00:00:00:00:99']])
    await connections(gateway, [{ uid: endpoint.uid, ip: '10.20.0.1', kind: 'vpn' }, { uid: endpoint.uid, ip: '10.21.0.1', kind: 'mtls' }, { uid: endpoint.uid, ip: 'fd00:21::1', kind: 'mtls' }])
    expect(await isOn(endpoint)).toBe(false)
    const twin = await laptop('10.0.0.8', '02:00:00:00:00:02')
    await neighbours(gateway, [['10.0.0.8', '02:00:00:00:00:02']])
    expect([await isOn(claimed), await isOn(twin)]).toEqual([false, false])
    await connections(gateway, [{ uid: endpoint.uid, ip: '10.20.0.1', kind: 'mtls' }])
    expect([await isOn(endpoint), await stateOf(endpoint), await isOn(claimed)]).toEqual([true, 'present', false])
  })

  it('by connections only, where neighbours are not to count', async () => {
    const [gateway, endpoint] = [await marked({ networks: ['fd00::/16'], neighbours: false }), await laptop()]
    await neighbours(gateway, [[IP, MAC]])
    expect(await isOn(endpoint)).toBe(false)
    await connections(gateway, [{ uid: endpoint.uid, ip: 'fd00::7', kind: 'mtls' }])
    expect(await isOn(endpoint)).toBe(true)
  })

  it('costs an endpoint no row while it goes on, whatever is repeated; it comes at the price of six, and four of the sight, once', async () => {
    const [gateway, endpoint] = [await marked(), await laptop()]
    async function counted(of = gateway) {
      const [path, body] = [fabric.gatewayMac.path, JSON.stringify(pairsOf(of, [[IP, MAC]]))]
      const headers = await signRequest({ method: 'POST', url: `${ORIGIN}${path}`, body: utf8(body), privateKey: of.keys.privateKey, certificateDer: of.certificate, now: Date.now() })
      const context = createExecutionContext()
      metered.reset()
      const response = await worker.fetch(new Request(`${ORIGIN}${path}`, { method: 'POST', body, headers: { ...headers, 'content-type': 'application/json' } }), envWith({ DB: metered.database }), context)
      const { rowsWritten, trips } = metered.tally
      await waitOnExecutionContext(context)
      expect(response.status).toBe(200)
      return { rowsWritten, trips }
    }
    const version = async () => (await DB.prepare('SELECT version FROM endpoints WHERE uid = ?').bind(endpoint.uid).first<{ version: number }>())?.version
    const came = await counted()
    const [at, log] = [await version(), await logged(endpoint)]
    pass(60_000)
    // The snapshot's own row, and nothing else; one trip more than of a gateway that is not marked.
    const other = await joined()
    await counted(other)
    expect(await counted()).toEqual({ rowsWritten: 1, trips: (await counted(other)).trips + 1 })
    pass(SIGHT_SECONDS * 1000 - 60_000)
    expect((await counted()).rowsWritten).toBe(2)
    expect([await version(), await logged(endpoint)]).toEqual([at, log])
    expect(came.rowsWritten).toBe(10)
  })

  it('is held for a minute when the gateway sees it no more, with that end in its tag, and then leaves without any report; back in time, it has never left', async () => {
    const [gateway, endpoint] = [await marked(), await laptop()]
    await neighbours(gateway, [[IP, MAC]])
    const since = Date.now()
    pass(60_000)
    await neighbours(gateway, [])
    const lostAt = Date.now()
    expect(await shown(endpoint)).toMatchObject({ onFabric: true, tags: [{ state: 'present', validUntil: lostAt + 60_000 }] })
    pass(30_000)
    await neighbours(gateway, [[IP, MAC]], false)
    expect(await shown(endpoint)).toMatchObject({ onFabric: true, tags: [{ state: 'present', validUntil: null }], facts: { fabric: { value: { since, checkedAt: Date.now() } } } })
    pass(30_000)
    await neighbours(gateway, [])
    pass(60_000)
    expect(await isOn(endpoint)).toBe(false)
    await due()
    expect([await stateOf(endpoint), await told(gateway, endpoint), (await logged(endpoint)).at(-1)]).toEqual(['absent', false, 'sysinfo,uid_tags,tags'])
    expect(await contradictions()).toEqual([])
    await neighbours(gateway, [[IP, MAC]])
    expect(await shown(endpoint)).toMatchObject({ onFabric: true, facts: { fabric: { value: { since: Date.now() } } } })
  })

  it('goes over from one marked gateway to another that sees it too, and nobody is told', async () => {
    const [one, other, endpoint] = [await marked(), await marked({ networks: ['10.20.0.0/16'] }), await laptop()]
    await neighbours(one, [[IP, MAC]])
    await connections(other, [{ uid: endpoint.uid, ip: '10.20.0.1', kind: 'mtls' }])
    const log = await logged(endpoint)
    await neighbours(one, [])
    expect([await logged(endpoint), await shown(endpoint)]).toMatchObject([log, { onFabric: true, facts: { fabric: { value: { checkedBy: other.serial } } } }])
    await deauthoriseGateway(contextOf(real), other.serial, 'stolen')
    expect([await isOn(endpoint), await stateOf(endpoint)]).toEqual([false, 'absent'])
  })

  it('ends at once when its gateway is de-authorised or is marked no more, and in time when it says nothing any more', async () => {
    const [gateway, reader, endpoint] = [await marked(), await joined(), await laptop()]
    await neighbours(gateway, [[IP, MAC]])
    await mark(gateway, null)
    expect([await isOn(endpoint), await stateOf(endpoint), await told(reader, endpoint)]).toEqual([false, 'absent', false])
    await neighbours(gateway, [[IP, MAC]])
    expect(await isOn(endpoint)).toBe(false)
    await mark(gateway)
    await neighbours(gateway, [[IP, MAC]])
    expect(await isOn(endpoint)).toBe(true)
    pass((SIGHT_SECONDS + 1) * 1000)
    await sweepSights({ ...contextOf(real), now: () => Date.now() })
    pass(60_000)
    await due()
    expect([await isOn(endpoint), await stateOf(endpoint)]).toEqual([false, 'absent'])
    await neighbours(gateway, [[IP, MAC]])
    await deauthoriseGateway(contextOf(real), gateway.serial, 'stolen')
    expect([await isOn(endpoint), await stateOf(endpoint), await told(reader, endpoint)]).toEqual([false, 'absent', false])
  })

  it('leaves for good with a gateway that is cut off, however many it saw', async () => {
    const gateway = await marked()
    await DB.prepare(`INSERT INTO endpoints (uid, version, registered, group_name, host_name, os, agent_version, protocol, enrolled_at, last_report_at, on_fabric, fabric_by)
      SELECT printf('%032x', value), 1, 1, '', 'laptop', 'linux', '0.1.0', '7.0.0', 1, 1, 1, ? FROM json_each(?)`).bind(gateway.serial, JSON.stringify(Array.from({ length: 900 }, (_, n) => n + 1))).run()
    await deauthoriseGateway(contextOf(real), gateway.serial, 'stolen')
    await due()
    expect(await DB.prepare('SELECT sum(on_fabric) AS here, count(fabric_by) AS kept, count(fabric_until) AS held FROM endpoints').first()).toEqual({ here: 0, kept: 0, held: 0 })
  })

  it('is where the endpoint was deregistered nobody\'s; a gateway that is not authorised can not be marked, nor networks that are everywhere', async () => {
    const [gateway, endpoint] = [await marked(), await laptop()]
    await neighbours(gateway, [[IP, MAC]])
    await admin('POST', `/endpoints/${endpoint.uid}/deregister`, { reason: '' })
    expect(await isOn(endpoint)).toBe(false)
    await neighbours(gateway, [[IP, MAC]])
    expect(await isOn(endpoint)).toBe(false)
    for (const networks of [['0.0.0.0/0'], ['::/0'], ['10.0.0.1'], ['x'], Array.from({ length: 65 }, (_, n) => `10.${n}.0.0/16`)]) expect((await mark(gateway, { networks })).status).toBe(422)
    await deauthoriseGateway(contextOf(real), gateway.serial, '')
    expect((await mark(gateway)).code).toBe('conflict')
    expect((await admin('PUT', '/gateways/SPGW00000000000F/fabric', { place: {} })).code).toBe('not_found')
  })

  it('stands though two reports and a sight come at once, and no writer overwrites another', async () => {
    const [gateway, endpoint] = [await marked(), await laptop()]
    const outcomes = await Promise.all([neighbours(gateway, [[IP, MAC]]), report(endpoint, 2, { os: linux('13') }), report(endpoint, 2, { os: linux('13') })])
    expect(outcomes.map(({ status }) => status)).toEqual([200, 200, 200])
    await neighbours(gateway, [[IP, MAC]])
    expect([await isOn(endpoint), await stateOf(endpoint)]).toEqual([true, 'present'])
    expect(await contradictions()).toEqual([])
  })
})
