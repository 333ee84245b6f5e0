// Which addresses bear a tag: only those at which a gateway sees a device. What an agent claims, what another gateway says, and what is no longer seen open nothing.
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { createExecutionContext, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import * as fabric from '../../../protocol/operations/fabric.ts'
import { SIGHT_SECONDS } from '../../../protocol/fabric/sightings.ts'
import { makeContext } from '../../../workers/context.ts'
import { readConfig, type Env } from '../../../workers/env.ts'
import { deauthoriseGateway } from '../../../workers/flows/gateways.ts'
import { sweepSights } from '../../../workers/flows/sights.ts'
import { admin, enrolled, linux, ORIGIN, report, reportBody, send, signatureOf, type Endpoint } from '../ems.ts'
import { by, dataOf, greeted, has, joined, update, type Gateway } from '../gateway.ts'

const real = env as unknown as Env
const { DB } = real
const contextAt = (now: number) => ({ ...makeContext(real, readConfig(real), new Request(ORIGIN), createExecutionContext()), now: () => now })
const MAC = '02:00:00:00:00:01'
const IP = '10.0.0.7'

const network = (ip: string, mac: string) => ({ interfaces: [{ name: 'eth0', mac, addresses: [{ ip, prefix: 24 }] }], defaultGateways: [], dnsServers: [] })
async function laptop(ip = IP, mac = MAC, os = '12.8'): Promise<Endpoint> {
  const endpoint = await enrolled()
  await report(endpoint, 1, { os: linux(os), network: network(ip, mac) })
  return endpoint
}
const neighbours = (gateway: Gateway, pairs: readonly (readonly [ip: string, mac: string])[], more: object = {}) => by(gateway, 'POST', fabric.gatewayMac.path, {
  gateway_mac_list: pairs.map(([ip, mac]) => ({ mac, vdom: 'root', ip_list: [ip], interface: 'lan', sn: gateway.serial })), is_snapshot: true, ...more,
})
const connections = (gateway: Gateway, list: readonly object[], more: object = {}) => by(gateway, 'POST', fabric.vpn.path, {
  is_snapshot: true, sn_list: [gateway.serial], uid_list: list.map((each) => ({ vdom: 'root', interface: 'wg0', sn: gateway.serial, is_delete: false, ...each })), ...more,
})
interface Command { type: string; values: string[]; tag_properties: { name: string } }
async function listed(gateway: Gateway, tag = 'modern', query = ''): Promise<{ ips: string[]; macs: string[]; watermark: string; isNews: boolean }> {
  const answer = await by(gateway, 'GET', `${fabric.tags.get.path}${query}`)
  expect(fabric.tags.get.reply.safeParse(answer.json).error?.issues ?? []).toEqual([])
  const { data, updated_after: watermark, is_snapshot: isNews } = dataOf(answer) as { data: { commands: Command[] }; updated_after: string; is_snapshot: boolean }
  const of = (type: string) => data.commands.filter((command) => command.type === type && command.tag_properties.name === tag).flatMap(({ values }) => values)
  return { ips: of('ipblock'), macs: of('mac'), watermark, isNews }
}
const addresses = async (gateway: Gateway, tag?: string) => (await listed(gateway, tag)).ips

beforeEach(async () => {
  await DB.batch(['gateways', 'rule_sets', 'tags', 'gateway_subscriptions', 'endpoints', 'endpoint_macs', 'sightings'].map((table) => DB.prepare(`DELETE FROM ${table}`)))
  await admin('POST', '/rule-sets', { name: 'modern', tag: 'modern', rules: { linux: { conditions: [{ type: 'os-version', comparator: '>=', version: '12' }] } } })
})

describe('an address bears a tag', () => {
  it('when a gateway sees the pair of address and MAC that an endpoint claims, and not before', async () => {
    const gateway = await joined()
    await laptop()
    expect(await addresses(gateway)).toEqual([])
    expect(dataOf(await neighbours(gateway, [[IP, MAC], ['10.0.0.8', '02:00:00:00:00:99']]))).toEqual([])
    expect(await listed(gateway)).toMatchObject({ ips: [IP], macs: [MAC] })
  })
  it('not by the claim of an address that somebody else has, nor of a MAC that is elsewhere', async () => {
    const gateway = await joined()
    await laptop('10.0.0.1')
    await neighbours(gateway, [['10.0.0.1', '02:00:00:00:00:99'], ['10.0.0.50', MAC]])
    expect(await listed(gateway)).toMatchObject({ ips: [], macs: [] })
  })
  it('when the endpoint claims the MAC only after it was seen', async () => {
    const gateway = await joined()
    await neighbours(gateway, [[IP, MAC]])
    await laptop()
    expect(await addresses(gateway)).toEqual([])
    await neighbours(gateway, [[IP, MAC]])
    expect(await addresses(gateway)).toEqual([IP])
  })
  it('as the end of a VPN connection; as the source of a mutual TLS connection only where the agent says it is its own', async () => {
    const gateway = await joined()
    const { uid } = await laptop()
    await connections(gateway, [{ uid, ip: '10.9.0.2' }, { uid, ip: IP, kind: 'mtls' }, { uid, ip: '198.51.100.4', kind: 'mtls' }])
    expect(await listed(gateway)).toMatchObject({ ips: [IP, '10.9.0.2'].sort(), macs: [] })
    await connections(gateway, [])
    expect(await addresses(gateway)).toEqual([])
  })
  it('not where a device that does not claim it speaks from it as well: it stands for others too', async () => {
    const gateway = await joined()
    await laptop()
    const guest = await laptop('192.168.137.5', '02:00:00:00:00:05')
    await neighbours(gateway, [[IP, MAC]])
    expect(await addresses(gateway)).toEqual([IP])
    await connections(gateway, [{ uid: guest.uid, ip: IP, kind: 'mtls' }])
    expect(await addresses(gateway)).toEqual([])
    await connections(gateway, [])
    expect(await addresses(gateway)).toEqual([IP])
  })
  it('only if every device that is seen at it, or claims it, bears the tag', async () => {
    const gateway = await joined()
    await laptop()
    await laptop(IP, MAC, '11.0')
    await neighbours(gateway, [[IP, MAC]])
    expect(await listed(gateway)).toMatchObject({ ips: [], macs: [] })
    const [other, third] = [await laptop('10.0.0.9', '02:00:00:00:00:02'), await laptop('10.0.0.10', '02:00:00:00:00:03', '11.0')]
    await connections(gateway, [{ uid: other.uid, ip: '10.9.0.3' }, { uid: third.uid, ip: '10.9.0.3' }])
    expect(await addresses(gateway)).toEqual([])
  })
  it('no more when another device answers there, when it moved, when the tag is lost, or when the endpoint is deregistered', async () => {
    const gateway = await joined()
    const endpoint = await laptop()
    await neighbours(gateway, [[IP, MAC]])
    const { watermark } = await listed(gateway)
    await neighbours(gateway, [[IP, '02:00:00:00:00:99']])
    expect(await listed(gateway, 'modern', `?updated_after=${watermark}`)).toMatchObject({ ips: [], macs: [], isNews: true })
    await neighbours(gateway, [[IP, MAC]])
    expect(await addresses(gateway)).toEqual([IP])
    await report(endpoint, 2, { network: network('10.0.0.70', MAC) })
    expect(await addresses(gateway)).toEqual([])
    await report(endpoint, 3, { network: network(IP, MAC) })
    expect(await addresses(gateway)).toEqual([IP])
    await report(endpoint, 4, { os: linux('11.0') })
    expect(await addresses(gateway)).toEqual([])
    await report(endpoint, 5, { os: linux('12.8') })
    await admin('POST', `/endpoints/${endpoint.uid}/deregister`, { reason: '' })
    expect(await addresses(gateway)).toEqual([])
    expect((await DB.prepare('SELECT count(*) AS n FROM endpoint_macs').first<{ n: number }>())?.n).toBe(0)
  })
  it('nowhere when two devices answer at it in one report', async () => {
    const gateway = await joined()
    await laptop()
    await neighbours(gateway, [[IP, MAC], [IP, '02:00:00:00:00:99']])
    expect(await addresses(gateway)).toEqual([])
  })
})

describe('a sight', () => {
  it('ends with its time when it is not repeated, at the alarm of the gateway that saw it, and everybody is told', async () => {
    const [seer, reader] = [await joined(), await joined()]
    await laptop()
    await neighbours(seer, [[IP, MAC]])
    expect(await addresses(reader)).toEqual([IP])
    const { listening } = await greeted(reader)
    // An alarm before that sets the next for the instant at which the sight ends.
    await runDurableObjectAlarm(real.FCM_NOTIFY.getByName(seer.serial))
    const { at } = await DB.prepare('SELECT neighbours_at AS at FROM gateways WHERE serial = ?').bind(seer.serial).first<{ at: number }>() ?? { at: 0 }
    expect(await runInDurableObject(real.FCM_NOTIFY.getByName(seer.serial), (_, { storage }) => storage.getAlarm())).toBe(at + SIGHT_SECONDS * 1000 + 1)
    vi.useFakeTimers({ now: Date.now() + (SIGHT_SECONDS + 1) * 1000, toFake: ['Date'] })
    try {
      expect(await runDurableObjectAlarm(real.FCM_NOTIFY.getByName(seer.serial))).toBe(true)
    } finally {
      vi.useRealTimers()
    }
    expect((await listening.next(has('changed'))).flatMap((message) => (message.type === 'changed' ? [message.table] : []))).toEqual(['tags'])
    expect(await addresses(reader)).toEqual([])
    expect((await DB.prepare('SELECT count(*) AS n FROM sightings').first<{ n: number }>())?.n).toBe(0)
  })
  it('stands as long as snapshots repeat it, which costs one row each; named without a snapshot it stands for its own time', async () => {
    const gateway = await joined()
    await laptop()
    await neighbours(gateway, [[IP, MAC]])
    const rows = async () => (await DB.prepare('SELECT seen_at, told FROM sightings').all()).results
    const [before, log] = [await rows(), await DB.prepare('SELECT count(*) AS n FROM change_log').first()]
    await neighbours(gateway, [[IP, MAC]])
    expect([await rows(), await DB.prepare('SELECT count(*) AS n FROM change_log').first()]).toEqual([before, log])
    await sweepSights(contextAt(Date.now() + (SIGHT_SECONDS - 1) * 1000))
    expect(await addresses(gateway)).toEqual([IP])
    await neighbours(gateway, [['10.0.0.8', '02:00:00:00:00:99']], { is_snapshot: false })
    expect(await addresses(gateway)).toEqual([IP])
    await neighbours(gateway, [[IP, MAC]], { is_snapshot: false, gateway_mac_list: [{ mac: MAC, ip_list: [IP], is_delete: true }] })
    expect(await addresses(gateway)).toEqual([])
    await neighbours(gateway, [[IP, MAC]])
    await sweepSights(contextAt(Date.now() + (SIGHT_SECONDS + 1) * 1000))
    expect(await addresses(gateway)).toEqual([])
  })
  it('of a gateway that was put out is nobody\'s, at once', async () => {
    const [seer, reader] = [await joined(), await joined()]
    await laptop()
    await neighbours(seer, [[IP, MAC]])
    expect(await addresses(reader)).toEqual([IP])
    await deauthoriseGateway(contextAt(Date.now()), seer.serial, 'stolen')
    expect(await addresses(reader)).toEqual([])
  })
  it('counts where its gateway is trusted: its own always, all with mode 1, those selected with mode 2; and its own outweighs another\'s', async () => {
    const [seer, other] = [await joined(), await joined()]
    await laptop()
    await laptop(IP, '02:00:00:00:00:02', '11.0')
    await neighbours(seer, [[IP, MAC]])
    expect(await addresses(other)).toEqual([IP])
    await neighbours(other, [[IP, '02:00:00:00:00:02']])
    expect([await addresses(other), await addresses(seer)]).toEqual([[], [IP]])
    await neighbours(other, [])
    await update(other.serial, { share_mode: 2, selected_cn_list: [] })
    expect(await addresses(other)).toEqual([])
    const { uid } = (await DB.prepare('SELECT uid FROM endpoint_macs WHERE mac = ?').bind(MAC).first<{ uid: string }>()) ?? { uid: '' }
    await by(seer, 'POST', fabric.subscribe.path, { update: [{ uids: { [uid]: { subscribe: true } } }] })
    await update(other.serial, { selected_cn_list: [seer.serial] })
    expect(await addresses(other)).toEqual([IP])
    await neighbours(seer, [])
    expect(await addresses(other)).toEqual([])
  })
  it('is loaded anew with everything else', async () => {
    const [seer, reader] = [await joined(), await joined()]
    await laptop()
    await neighbours(seer, [[IP, MAC]])
    await update(reader.serial, { share_tag_types: [1] })
    expect(await addresses(reader)).toEqual([IP])
  })
  it('shows in the endpoint\'s record, and so does where it calls from', async () => {
    const gateway = await joined()
    const endpoint = await laptop()
    const { uid } = endpoint
    await neighbours(gateway, [[IP, MAC]])
    const body = await reportBody(2, { vulnerabilities: { scannedAt: 1_790_000_000_000, scanner: 'x', found: [] } })
    await send('POST', '/api/v1/endpoint/report', { body, headers: { ...await signatureOf(endpoint, 'POST', '/api/v1/endpoint/report', body), 'cf-connecting-ip': '198.51.100.7' } })
    const { data } = dataOf(await by(gateway, 'GET', fabric.sysinfo.get.path)) as { data: Record<string, { gateway_route_list: unknown; public_ip: string }> }
    expect(data[uid]?.public_ip).toBe('198.51.100.7')
    expect((dataOf(await by(gateway, 'GET', fabric.vulns.get.path)) as { data: { forticlients: object } }).data.forticlients).toMatchObject({ [uid]: { fgt_sn: gateway.serial, vdom: 'root' } })
    expect(data[uid]?.gateway_route_list).toEqual([{ gateway_info: { fgt_sn: gateway.serial, interface: 'lan', vdom: 'root' }, route_info: [{ ip: IP, mac: MAC, route_type: 'neighbour' }] }])
  })
  it('of ten thousand neighbours at once is taken, and told in portions', async () => {
    const gateway = await joined()
    await laptop('10.0.39.15')
    const pairs = Array.from({ length: 10_000 }, (_, n) => [`10.0.${Math.floor(n / 256)}.${n % 256}`, n === 9_999 ? MAC : `02:00:00:01:${(n >> 8).toString(16).padStart(2, '0')}:${(n & 255).toString(16).padStart(2, '0')}`] as const)
    await DB.prepare('INSERT INTO endpoint_macs SELECT mac, ? FROM (SELECT value AS mac FROM json_each(?))').bind('f'.repeat(32), JSON.stringify(pairs.slice(0, 1000).map(([, mac]) => mac))).run()
    expect((await neighbours(gateway, pairs)).status).toBe(200)
    expect(await addresses(gateway)).toEqual(['10.0.39.15'])
    const told = (await DB.prepare('SELECT length(entry) AS size, json_array_length(entry, \'$.rows\') AS n FROM change_log WHERE uid IS NULL AND entry IS NOT NULL').all<{ size: number; n: number }>()).results
    expect(told.reduce((sum, { n }) => sum + n, 0)).toBeGreaterThan(1000)
    expect(Math.max(...told.map(({ size }) => size))).toBeLessThan(64 * 1024)
  })
})

describe('a gateway that lies', () => {
  it('can speak for itself and those it vouched for, and for nobody else', async () => {
    const [one, other] = [await joined(), await joined()]
    const { uid } = await laptop()
    const item = { mac: MAC, vdom: 'root', ip_list: [IP], interface: 'lan', sn: other.serial }
    expect(dataOf(await by(one, 'POST', fabric.gatewayMac.path, { gateway_mac_list: [item] }))).toMatchObject([{ mac: MAC, sn: other.serial }])
    expect((dataOf(await connections(one, [{ uid, ip: '10.9.0.2', sn: other.serial }])) as { rejected: unknown[] }).rejected).toHaveLength(1)
    for (const foreign of [other.serial, 'SPGW00000000000F']) {
      expect((await neighbours(one, [], { sn_list: [foreign] })).json.result).toMatchObject({ retval: -5 })
      expect((await connections(one, [], { sn_list: [foreign] })).json.result).toMatchObject({ retval: -5 })
    }
    expect((await DB.prepare('SELECT count(*) AS n FROM sightings').first<{ n: number }>())?.n).toBe(0)
    await update(one.serial, { is_root: true })
    await DB.prepare('UPDATE gateways SET vouched_by = ? WHERE serial = ?').bind(one.serial, other.serial).run()
    expect(dataOf(await by(one, 'POST', fabric.gatewayMac.path, { gateway_mac_list: [item], sn_list: [other.serial], is_snapshot: true }))).toEqual([])
    expect(await addresses(other)).toEqual([IP])
  })
  it('is told entry by entry what was not taken, whatever it sends', async () => {
    const gateway = await joined()
    const hostile = ['', 'x', '\' OR 1=1 --', '127.0.0.1', '::1', 'fe80::1', '224.0.0.1', '255.255.255.255', '0.0.0.0', '10.0.0.1/8', '010.0.0.1']
    const macs = ['', 'ff:ff:ff:ff:ff:ff', '00:00:00:00:00:00', '01:00:5e:00:00:01', '02:00:00:00:00:01; DROP TABLE sightings', '\u202e']
    const rejected = dataOf(await by(gateway, 'POST', fabric.gatewayMac.path, { gateway_mac_list: [{ mac: MAC, ip_list: hostile }, ...macs.map((mac) => ({ mac, ip_list: [IP] }))] })) as unknown as { ip_list: string[] }[]
    expect(rejected.map(({ ip_list: list }) => list.length)).toEqual([hostile.length, 1, 1, 1, 1, 1, 1])
    const refused = dataOf(await connections(gateway, [...hostile.map((ip) => ({ uid: '0'.repeat(32), ip })), { uid: '\' OR 1=1 --', ip: IP }])) as { rejected: unknown[] }
    expect(refused.rejected).toHaveLength(hostile.length + 1)
    const device = await enrolled()
    for (const name of ['\u001b[2J', 'a\u0000b', '\u202egpj.exe', '\ud800']) {
      for (const names of [{ interface: name }, { vdom: name }]) {
        expect(dataOf(await by(gateway, 'POST', fabric.gatewayMac.path, { gateway_mac_list: [{ mac: MAC, ip_list: [IP], ...names }] }))).toMatchObject([{ reason: expect.stringContaining('can not be seen') as string }])
        expect(dataOf(await connections(gateway, [{ uid: device.uid, ip: IP, ...names }])).rejected).toHaveLength(1)
      }
    }
    for (const body of [{ gateway_mac_list: Array.from({ length: 10_001 }, () => ({ mac: MAC })) }, { gateway_mac_list: [{ mac: 'x'.repeat(65) }] }, { gateway_mac_list: [{ mac: MAC, ip_list: Array.from({ length: 65 }, () => IP) }] }]) {
      expect((await by(gateway, 'POST', fabric.gatewayMac.path, body)).status).toBe(422)
    }
    expect((await DB.prepare('SELECT count(*) AS n FROM sightings').first<{ n: number }>())?.n).toBe(0)
  })
  it('takes MACs as others write them', async () => {
    const gateway = await joined()
    await laptop(IP, '02:00:00:00:00:ab')
    await neighbours(gateway, [[IP, '02-00-00-00-00-AB']])
    expect(await listed(gateway)).toMatchObject({ ips: [IP], macs: ['02:00:00:00:00:ab'] })
  })
})
