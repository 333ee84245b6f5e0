// Why a gateway sees what it sees, as an administrator reads it; and what peers of older protocols are kept from and told.
import { beforeEach, describe, expect, it } from 'vitest'
import { env } from 'cloudflare:workers'
import * as fabric from '../../../protocol/operations/fabric.ts'
import type { Env } from '../../../workers/env.ts'
import { admin, enrolled, linux, report, type Endpoint } from '../ems.ts'
import { by, dataOf, greeted, has, joined, messageOf, say, update, updateAuth, type Gateway } from '../gateway.ts'

const { DB } = env as unknown as Env
const MAC = '02:00:00:00:00:01'
const IP = '10.0.0.7'
let endpoint: Endpoint
beforeEach(async () => {
  await DB.batch(['gateways', 'rule_sets', 'tags', 'gateway_subscriptions', 'endpoints', 'endpoint_macs', 'sightings'].map((table) => DB.prepare(`DELETE FROM ${table}`)))
  await admin('POST', '/rule-sets', { name: 'modern', tag: 'modern', rules: { linux: { conditions: [{ type: 'os-version', comparator: '>=', version: '12' }] } } })
  endpoint = await enrolled()
  await report(endpoint, 1, { os: linux(), network: { interfaces: [{ name: 'eth0', mac: MAC, addresses: [{ ip: IP, prefix: 24 }] }], defaultGateways: [], dnsServers: [] } })
})
async function sight({ serial }: { serial: string }) {
  const { status, json } = await admin('GET', `/gateways/${serial}/sight`)
  expect([status, fabric.readGatewaySight.reply.safeParse(json).error?.issues ?? []]).toEqual([200, []])
  return fabric.readGatewaySight.reply.parse(json)
}
async function sightOf({ serial }: { serial: string }, uid = endpoint.uid) {
  const { status, json } = await admin('GET', `/gateways/${serial}/sight/${uid}`)
  expect([status, fabric.readEndpointSight.reply.safeParse(json).error?.issues ?? []]).toEqual([200, []])
  return fabric.readEndpointSight.reply.parse(json)
}
const subscribe = (gateway: Gateway) => by(gateway, 'POST', fabric.subscribe.path, { update: [{ uids: { [endpoint.uid]: { subscribe: true } } }] })

describe('what a gateway sees', () => {
  it('is told with mode, counts and reasons, for each mode', async () => {
    const gateway = await joined()
    expect(await sight(gateway)).toMatchObject({ shareMode: 1, owners: null, trusts: null, counts: { endpoints: 1, subscribed: 0, inSight: 1, tags: 1, tagsTold: 1, sights: 0, sockets: 0 }, behind: 0 })
    // Another gateway's loading leaves its marker in the log; this one need not hear of it at once.
    const other = await joined()
    expect((await sight(gateway)).because.join(' ')).toContain('those may concern others only')
    await update(gateway.serial, { share_mode: 0, share_tag_types: [2] })
    const own = await sight(gateway)
    expect(own).toMatchObject({ owners: [gateway.serial], trusts: [gateway.serial], counts: { inSight: 0, tagsTold: 0 } })
    expect(own.because.join(' ')).toMatch(/Share mode 0.*0: those of type 2 \(outbreak\)/s)
    await subscribe(gateway)
    expect((await sight(gateway)).counts).toMatchObject({ subscribed: 1, inSight: 1 })
    await update(gateway.serial, { share_mode: 2, selected_cn_list: [other.serial, 'SPGW00000000000F'] })
    const selected = await sight(gateway)
    expect(selected).toMatchObject({ owners: [other.serial, 'SPGW00000000000F'], trusts: [gateway.serial, other.serial, 'SPGW00000000000F'], counts: { inSight: 0 } })
    expect(selected.because.join(' ')).toContain('Not authorised, and so subscribed to nothing: SPGW00000000000F')
    await updateAuth(gateway.serial, false)
    expect(await sight(gateway)).toMatchObject({ state: 'denied', counts: { inSight: null }, behind: null })
    expect((await admin('GET', '/gateways/SPGW00000000000F/sight')).status).toBe(404)
  })
  it('is no tag where it is not authorised, or its protocol knows none, whatever types it is entitled to', async () => {
    const gateway = await joined()
    const { listening } = await greeted(gateway, {}, '6.1.9')
    const older = await sight(gateway)
    expect([older.counts.tagsTold, older.because.join(' '), (await sightOf(gateway)).tags]).toEqual([
      0, expect.stringMatching(/would be told 1.*need 6\.2\.0/s), [expect.objectContaining({ name: 'modern', told: false, because: 'By its protocol it is told no tags.' })],
    ])
    listening.socket.close(1000)
    await updateAuth(gateway.serial, false)
    const denied = await sight(gateway)
    expect([denied.counts.tagsTold, denied.because.join(' ')]).toEqual([0, expect.stringMatching(/is told nothing, for it is denied.*would be told 1/s)])
  })
  it('of one endpoint is told with why: subscription, tags by type, addresses by sight and claim', async () => {
    const [gateway, other] = [await joined(), await joined()]
    await by(other, 'POST', fabric.gatewayMac.path, { gateway_mac_list: [{ mac: MAC, ip_list: [IP, '10.0.0.99'], interface: 'lan' }] })
    expect(await sightOf(gateway)).toMatchObject({
      seen: true, tags: [{ name: 'modern', told: true }], claims: { ips: [IP], macs: [MAC] },
      addresses: [{ gateway: other.serial, ip: IP, counts: true }, { gateway: other.serial, ip: '10.0.0.99', counts: false, because: expect.stringContaining('does not say') as string }],
    })
    await by(gateway, 'POST', fabric.gatewayMac.path, { gateway_mac_list: [{ mac: '02:00:00:00:00:99', ip_list: [IP] }] })
    expect((await sightOf(gateway)).addresses.find(({ ip }) => ip === IP)).toMatchObject({ counts: false, because: expect.stringContaining('itself sees another device') as string })
    await update(gateway.serial, { share_mode: 0, share_tag_types: [3] })
    expect(await sightOf(gateway)).toMatchObject({ seen: false, because: expect.stringContaining('subscribed to it') as string, tags: [{ told: false }] })
    await subscribe(gateway)
    expect(await sightOf(gateway)).toMatchObject({ seen: true, because: expect.stringContaining(`${gateway.serial} subscribed`) as string, tags: [{ told: false, because: expect.stringContaining('not shared') as string }] })
    expect((await sightOf(gateway)).addresses.find(({ ip }) => ip === IP)).toMatchObject({ counts: false, because: expect.stringContaining('does not count') as string })
    expect((await admin('GET', `/gateways/${gateway.serial}/sight/${'0'.repeat(32)}`)).status).toBe(404)
  })
})

describe('a peer of an older protocol', () => {
  const groups = [fabric.uidTags, fabric.tags, fabric.olderTags]
  const tagged = async (gateway: Gateway) => {
    const pages = await Promise.all(groups.map(async ({ get }) => JSON.stringify(dataOf(await by(gateway, 'GET', get.path)).data)))
    return [...pages, JSON.stringify(dataOf(await by(gateway, 'GET', fabric.hostTags.path)).data)].map((text) => text.includes('modern'))
  }
  const certificates = async (gateway: Gateway) => {
    const { client_certs: list, client_cert_sn: own } = (dataOf(await by(gateway, 'GET', fabric.sysinfo.get.path)).data as Record<string, { client_certs: unknown[]; client_cert_sn: string }>)[endpoint.uid] ?? { client_certs: [], client_cert_sn: 'none' }
    return [list.length, own.length]
  }
  it.each([
    ['6.1.9', [false, false, false, false], [0, 0], ['6.2.0', '7.0.0']], ['6.2.0', [true, true, true, true], [0, 0], ['7.0.0']], ['7.0.0', [true, true, true, true], [1, 40], []],
  ] as const)('gateway %s gets groups %j and certificates %j, and is told what it misses, as is the administrator', async (protocol, groupsTold, certificatesTold, missing) => {
    const gateway = await joined()
    const { listening, greeting } = await greeted(gateway, {}, protocol)
    expect([await tagged(gateway), await certificates(gateway)]).toEqual([groupsTold, certificatesTold])
    const said = messageOf(greeting, 'authorisation')?.reason ?? ''
    const [listed] = (await admin('GET', '/gateways')).json.items as { protocol: string; missing: string[] }[]
    expect(listed?.protocol).toBe(protocol)
    for (const texts of [said, listed?.missing.join() ?? '', (await sight(gateway)).because.join()]) expect(missing.filter((version) => texts.includes(`need ${version}`))).toEqual(missing)
    expect((await sight(gateway)).missing).toHaveLength(missing.length)
    say(listening, { type: 'lookup', uid: endpoint.uid })
    const found = messageOf(await listening.next(has('found')), 'found')
    expect([found?.tags !== null, found?.sysinfo?.client_certs.length]).toEqual([groupsTold[0], certificatesTold[0]])
    await report(endpoint, 2, { os: linux('11.0'), network: { interfaces: [], defaultGateways: [], dnsServers: [] } })
    const told = (await listening.next(has('changed'))).flatMap((message) => (message.type === 'changed' ? [message.table] : []))
    expect(told).toEqual(groupsTold[0] ? ['sysinfo', 'uid_tags', 'tags'] : ['sysinfo'])
  })
  it('agent: its certificates are told to no gateway', async () => {
    const gateway = await joined()
    await greeted(gateway)
    expect(await certificates(gateway)).toEqual([1, 40])
    await report(endpoint, 2, { agent: { version: '6.9.0', protocol: '6.9.0', profileVersion: 0, rulesVersion: 0 } })
    expect(await certificates(gateway)).toEqual([0, 0])
    expect(await tagged(gateway)).toEqual([true, true, true, true])
  })
})
