// A gateway that reaches beyond its own: other gateways' serials, offsets and watermarks, endpoints it does not see, hostile words in every parameter.
import { beforeEach, describe, expect, it } from 'vitest'
import { env, exports } from 'cloudflare:workers'
import { utf8 } from '../../../identity/encoding.ts'
import { generateKey } from '../../../identity/keys.ts'
import { signRequest } from '../../../identity/request-signature.ts'
import { operations } from '../../../protocol/operations/all.ts'
import * as fabric from '../../../protocol/operations/fabric.ts'
import type { Env } from '../../../workers/env.ts'
import { admin, enrolled, linux, ORIGIN, report, send, signed, type Endpoint } from '../ems.ts'
import { by, dataOf, greeted, has, init, joined, messageOf, say, update, type Gateway } from '../gateway.ts'

const { default: worker } = exports as unknown as { default: { fetch(request: Request): Promise<Response> } }
const { DB } = env as unknown as Env
const network = (n: number) => ({ interfaces: [{ name: 'eth0', mac: `02:00:00:00:00:0${n}`, addresses: [{ ip: `10.0.0.${n}`, prefix: 24 }] }], defaultGateways: [], dnsServers: [] })
const image = btoa(String.fromCharCode(0x89, 0x50, 0x4e, 0x47, 1))
let fleet: readonly [Endpoint, Endpoint, Endpoint]
beforeEach(async () => {
  await DB.batch(['gateways', 'rule_sets', 'tags', 'gateway_subscriptions', 'endpoints', 'endpoint_macs', 'sightings'].map((table) => DB.prepare(`DELETE FROM ${table}`)))
  await admin('POST', '/rule-sets', { name: 'modern', tag: 'modern', rules: { linux: { conditions: [{ type: 'os-version', comparator: '>=', version: '12' }] } } })
  const laptop = async (n: number) => {
    const endpoint = await enrolled()
    const { json } = await signed(endpoint, 'PUT', '/api/v1/endpoint/avatar', { mediaType: 'image/png', image })
    await report(endpoint, 1, { os: linux(), network: network(n), user: { account: `user-${n}`, avatarFingerprint: String(json.fingerprint) } })
    return endpoint
  }
  fleet = [await laptop(1), await laptop(2), await laptop(3)]
})
const tables = { sysinfo: fabric.sysinfo, uidTags: fabric.uidTags, vulns: fabric.vulns, avatars: fabric.avatars, tags: fabric.tags, olderTags: fabric.olderTags }
type Table = keyof typeof tables
interface Page { updated_after: string; uid_offset: string; is_snapshot: boolean; data: Record<string, unknown> & { uid_tag_lists?: object; commands?: { values: string[] }[] } }
const read = async (gateway: Gateway, table: Table, query: object = {}) => dataOf(await by(gateway, 'POST', tables[table].post.path, query)) as unknown as Page
const uidsIn = async (gateway: Gateway, query: object = {}) => Object.keys((await read(gateway, 'sysinfo', query)).data).sort()
const subscribe = (gateway: Gateway, serials: readonly string[] | undefined, uids: readonly string[]) =>
  by(gateway, 'POST', fabric.subscribe.path, { update: [{ ...(serials === undefined ? {} : { sn_list: serials }), uids: Object.fromEntries(uids.map((uid) => [uid, { subscribe: true }])) }] })

describe('a list of gateways or of endpoints', () => {
  it('narrows what the caller sees, in every table, and widens nothing', async () => {
    const [gateway, other] = [await joined(), await joined()]
    const [one, two, three] = fleet
    expect(await uidsIn(gateway, { uid_list: [one.uid, 'f'.repeat(32), '\' OR 1=1 --'] })).toEqual([one.uid])
    expect(Object.keys((await read(gateway, 'uidTags', { uid_list: [two.uid] })).data.uid_tag_lists ?? {})).toEqual([two.uid])
    await by(gateway, 'POST', fabric.gatewayMac.path, { gateway_mac_list: [1, 2, 3].map((n) => ({ mac: `02:00:00:00:00:0${n}`, ip_list: [`10.0.0.${n}`] })) })
    const listed = async (query: object) => (await read(gateway, 'tags', query)).data.commands?.flatMap(({ values }) => values).sort()
    expect([await listed({}), await listed({ uid_list: [three.uid] })]).toEqual([['02:00:00:00:00:01', '02:00:00:00:00:02', '02:00:00:00:00:03', '10.0.0.1', '10.0.0.2', '10.0.0.3'], ['02:00:00:00:00:03', '10.0.0.3']])
    expect(await uidsIn(gateway, { sn_list: [gateway.serial] })).toHaveLength(3)
    for (const foreign of [other.serial, 'SPGW00000000000F', '\' OR 1=1 --', '../..']) {
      expect(await uidsIn(gateway, { sn_list: [foreign] })).toEqual([])
      expect((await read(gateway, 'tags', { sn_list: [foreign] })).data.commands?.flatMap(({ values }) => values)).toEqual([])
      expect(dataOf(await by(gateway, 'POST', fabric.status.path, { sysinfo: { sn_list: [foreign] } })).sysinfo).toEqual({ is_updated: false })
    }
    await update(gateway.serial, { is_root: true })
    await update(other.serial, { share_mode: 0 })
    await DB.prepare('UPDATE gateways SET vouched_by = ? WHERE serial = ?').bind(gateway.serial, other.serial).run()
    expect((await subscribe(gateway, [other.serial], [two.uid])).status).toBe(200)
    expect([await uidsIn(gateway, { sn_list: [other.serial] }), await uidsIn(other)]).toEqual([[two.uid], [two.uid]])
    expect(await uidsIn(other, { uid_list: [one.uid] })).toEqual([])
    expect(await uidsIn(other, { sn_list: [gateway.serial] })).toEqual([])
  })
  it('of a member follows what that one subscribes to, read whole or by what came after', async () => {
    const [gateway, other] = [await joined(), await joined()]
    const [one, two] = fleet
    await update(gateway.serial, { is_root: true })
    await update(other.serial, { share_mode: 0 })
    await DB.prepare('UPDATE gateways SET vouched_by = ? WHERE serial = ?').bind(gateway.serial, other.serial).run()
    const asked = { sn_list: [other.serial] }
    const isUpdated = async (watermark: string) => (dataOf(await by(gateway, 'POST', fabric.status.path, { sysinfo: { ...asked, version: { updated_after: watermark } } })).sysinfo as { is_updated: boolean }).is_updated
    await subscribe(other, [other.serial], [one.uid])
    const first = await read(gateway, 'sysinfo', asked)
    expect([Object.keys(first.data), await isUpdated(first.updated_after)]).toEqual([[one.uid], false])
    for (const table of ['sysinfo', 'tags', 'olderTags'] as const) expect((await read(gateway, table, { ...asked, updated_after: first.updated_after })).is_snapshot).toBe(false)
    await subscribe(other, [other.serial], [two.uid])
    expect(await isUpdated(first.updated_after)).toBe(true)
    const second = await read(gateway, 'sysinfo', { ...asked, updated_after: first.updated_after })
    expect([Object.keys(second.data).sort(), second.is_snapshot]).toEqual([[one.uid, two.uid].sort(), true])
    await by(other, 'POST', fabric.subscribe.path, { update: [{ uids: { [one.uid]: { subscribe: false } } }] })
    const third = await read(gateway, 'sysinfo', { ...asked, updated_after: second.updated_after })
    expect([Object.keys(third.data), third.is_snapshot, await isUpdated(third.updated_after)]).toEqual([[two.uid], true, false])
    const fourth = await read(gateway, 'sysinfo', { ...asked, updated_after: third.updated_after })
    expect([fourth.data, fourth.is_snapshot]).toEqual([{}, false])
    await subscribe(other, [other.serial], [one.uid, fleet[2].uid])
    const page = await read(gateway, 'sysinfo', { ...asked, unzipped_size: 1 })
    await by(other, 'POST', fabric.subscribe.path, { update: [{ uids: Object.fromEntries(Object.keys(page.data).map((uid) => [uid, { subscribe: false }])) }] })
    const anew = await read(gateway, 'sysinfo', { ...asked, updated_after: page.updated_after, uid_offset: page.uid_offset })
    expect([page.uid_offset.length > 0 && page.uid_offset.length <= 64, anew.is_snapshot, Object.keys(anew.data)]).toEqual([true, true, [one.uid, two.uid, fleet[2].uid].filter((uid) => !(uid in page.data)).sort()])
  })
  it('works in a query as in a body, and is bounded in both', async () => {
    const gateway = await joined()
    const get = async (query: string) => by(gateway, 'GET', `${fabric.sysinfo.get.path}?${query}`)
    expect(Object.keys((dataOf(await get(`uid_list=${fleet[0].uid},${fleet[1].uid}`)) as unknown as Page).data).sort()).toEqual([fleet[0].uid, fleet[1].uid].sort())
    expect(Object.keys((dataOf(await get(`uid_list=${fleet[0].uid}&uid_list=${fleet[1].uid}`)) as unknown as Page).data).sort()).toEqual([fleet[0].uid, fleet[1].uid].sort())
    const many = Array.from({ length: 1_001 }, () => 'a')
    expect([(await get(`uid_list=${many.join(',')}`)).status, (await by(gateway, 'POST', fabric.sysinfo.post.path, { uid_list: many })).status, (await by(gateway, 'POST', fabric.sysinfo.post.path, { uid_list: ['x'.repeat(65)] })).status]).toEqual([422, 422, 422])
    expect(await uidsIn(gateway, { uid_list: many.slice(1) })).toEqual([])
  })
  it('that names nobody narrows nothing', async () => {
    const gateway = await joined()
    expect([await uidsIn(gateway, { uid_list: [], sn_list: [] }), Object.keys((dataOf(await by(gateway, 'GET', `${fabric.sysinfo.get.path}?uid_list=&sn_list=`)) as unknown as Page).data)].map(({ length }) => length)).toEqual([3, 3])
    expect(dataOf(await by(gateway, 'POST', fabric.status.path, { sysinfo: { sn_list: [] } })).sysinfo).toEqual({ is_updated: true })
    await update(gateway.serial, { share_mode: 0 })
    expect((await subscribe(gateway, [], [fleet[0].uid])).status).toBe(200)
    expect(await uidsIn(gateway)).toEqual([fleet[0].uid])
  })
})

describe('a gateway that sees its own endpoints only', () => {
  it('gets nothing of another\'s: no record, no picture, no tag, no address, by no name', async () => {
    const [gateway, other] = [await joined(), await joined()]
    await update(gateway.serial, { share_mode: 0 })
    await subscribe(gateway, undefined, [fleet[0].uid])
    await by(other, 'POST', fabric.gatewayMac.path, { gateway_mac_list: [{ mac: '02:00:00:00:00:02', ip_list: ['10.0.0.2'] }] })
    for (const table of Object.keys(tables) as Table[]) {
      const text = JSON.stringify(await read(gateway, table))
      for (const { uid } of [fleet[1], fleet[2]]) expect([table, text.includes(uid)]).toEqual([table, false])
      expect([table, text.includes('10.0.0.2')]).toEqual([table, false])
    }
    const [fingerprint = ''] = Object.keys((await read(other, 'avatars')).data)
    const avatars = async (asked: object) => (dataOf(await by(gateway, 'POST', fabric.avatarsOf.path, asked)).avatars as { fct_uid: string }[]).map(({ fct_uid: uid }) => uid)
    expect(await avatars({ fingerprints: [fingerprint] })).toEqual([fleet[0].uid])
    expect(await avatars({ users: [{ user_name: 'user-2' }, { fct_uid: fleet[2].uid }, { user_name: '\' OR 1=1 --' }, { user_name: '%' }] })).toEqual([])
    expect(await avatars({ users: [{ user_name: 'user-1' }] })).toEqual([fleet[0].uid])
  })
  it('of selected gateways can not reach beyond them by looking up', async () => {
    const [gateway, selected] = [await joined(), await joined()]
    await subscribe(selected, undefined, [fleet[0].uid])
    await update(gateway.serial, { share_mode: 2, selected_cn_list: [selected.serial] })
    const { listening } = await greeted(gateway)
    for (const [uid, found] of [[fleet[0].uid, true], [fleet[1].uid, false]] as const) {
      say(listening, { type: 'lookup', uid })
      expect(messageOf(await listening.next(has('found')), 'found')?.sysinfo !== null).toBe(found)
    }
    await subscribe(gateway, undefined, [fleet[1].uid])
    expect(await uidsIn(gateway)).toEqual([fleet[0].uid])
  })
})

describe('a place of somebody else', () => {
  it('is no place: an offset of another gateway begins anew, and a watermark is the log\'s, not a key to anything', async () => {
    const [gateway, other] = [await joined(), await joined()]
    const theirs = await read(other, 'sysinfo', { unzipped_size: 1024 })
    expect(theirs.uid_offset).not.toBe('')
    const mine = await read(gateway, 'sysinfo', { uid_offset: theirs.uid_offset, updated_after: theirs.updated_after })
    expect([mine.is_snapshot, Object.keys(mine.data).length]).toEqual([true, 3])
    for (const offset of ['x', '1.2.3', `9007199254740991.${'f'.repeat(32)}.abcdef`, '\' OR 1=1 --', '../../etc/passwd', '\u0000']) {
      const page = await read(gateway, 'sysinfo', { uid_offset: offset })
      expect([offset, page.is_snapshot, Object.keys(page.data).length]).toEqual([offset, true, 3])
      expect((await read(gateway, 'tags', { tag_uid_offset: offset })).is_snapshot).toBe(true)
    }
    await update(gateway.serial, { share_mode: 0 })
    const { updated_after: watermark } = await read(other, 'sysinfo')
    await report(fleet[0], 2, { os: linux('13.0') })
    expect(await uidsIn(gateway, { updated_after: watermark })).toEqual([])
  })
})

describe('what is not a caller\'s to do', () => {
  it('is refused to one that waits, however it signs', async () => {
    const keys = await generateKey()
    const { serial } = dataOf(await init(keys)) as { serial: string }
    const gateway = await joined()
    for (const { method, path, body, caller } of operations) {
      if (caller !== 'gateway') continue
      const text = body === undefined ? '' : '{}'
      // Its own key with another's certificate, and its bare key.
      const borrowed = await signRequest({ method, url: `${ORIGIN}${path}`, body: utf8(text), privateKey: keys.privateKey, certificateDer: gateway.certificate, now: Date.now() })
      const answer = await send(method, path, { body: text === '' ? undefined : text, headers: borrowed })
      expect([path, answer.status]).toEqual([path, 401])
    }
    expect((await DB.prepare('SELECT state FROM gateways WHERE serial = ?').bind(serial).first<{ state: string }>())?.state).toBe('pending')
  })
  it('is refused when it was recorded and sent again', async () => {
    const gateway = await joined()
    const path = fabric.gatewayMac.path
    const body = JSON.stringify({ gateway_mac_list: [] })
    const headers = { 'content-type': 'application/json', ...await signRequest({ method: 'POST', url: `${ORIGIN}${path}`, body: utf8(body), privateKey: gateway.keys.privateKey, certificateDer: gateway.certificate, now: Date.now() }) }
    const again = async () => (await worker.fetch(new Request(`${ORIGIN}${path}`, { method: 'POST', body, headers }))).status
    expect([await again(), await again()]).toEqual([200, 401])
  })
  it('to subscribe, or to put out, for another: nothing is written', async () => {
    const [gateway, other] = [await joined(), await joined()]
    const rows = async () => (await DB.prepare('SELECT * FROM gateway_subscriptions').all()).results
    for (const foreign of [[other.serial], [gateway.serial, other.serial], ['SPGW00000000000F']]) {
      expect((await subscribe(gateway, foreign, [fleet[0].uid])).json.result).toMatchObject({ retval: -5 })
      expect((await by(gateway, 'POST', fabric.disconnect.path, { fgt_sns: foreign })).json.result).toMatchObject({ retval: -5 })
    }
    expect(await rows()).toEqual([])
    for (const each of [gateway, other]) expect((await by(each, 'GET', fabric.sysinfo.get.path)).status).toBe(200)
  })
  it('to subscribe to what is of another EMS: that is registered nowhere, and the rest is taken', async () => {
    const gateway = await joined()
    await update(gateway.serial, { share_mode: 0 })
    const foreign = ['F'.repeat(32), '00000000-0000-0000-0000-000000000000', 'toString']
    const answer = await subscribe(gateway, [gateway.serial], [...foreign, fleet[0].uid])
    expect(dataOf(answer).subscribed).toEqual({ ...Object.fromEntries(foreign.map((uid) => [uid, { is_registered: false }])), [fleet[0].uid]: { is_registered: true } })
    expect(await uidsIn(gateway)).toEqual([fleet[0].uid])
    expect(dataOf(await subscribe(gateway, undefined, ['__proto__'])).subscribed).toEqual({})
    for (const wrong of ['\' OR 1=1 --', '', 'x'.repeat(65)]) expect([wrong, (await subscribe(gateway, undefined, [wrong])).status]).toEqual([wrong, 422])
  })
  it('to ask without end: lists are bounded', async () => {
    const gateway = await joined()
    const many = (count: number, item: (n: number) => unknown) => Array.from({ length: count }, (_, n) => item(n))
    const uid = (n: number) => n.toString(16).padStart(32, '0')
    for (const [path, body] of [
      [fabric.avatarsOf.path, { fingerprints: many(21, String) }], [fabric.subscribe.path, { update: many(11, () => ({ uids: {} })) }],
      [fabric.subscribe.path, { update: [{ uids: Object.fromEntries(many(1_001, (n) => [uid(n), { subscribe: true }]) as [string, unknown][]) }] }],
      [fabric.disconnect.path, { fgt_sns: many(101, () => gateway.serial) }], [fabric.vpn.path, { uid_list: many(10_001, () => ({ uid: '', ip: '' })) }], [fabric.snapshot.post.path, { limit: 10_001 }],
    ] as const) expect([path, (await by(gateway, 'POST', path, body)).status]).toEqual([path, 422])
    expect(dataOf(await by(gateway, 'POST', fabric.subscribe.path, { update: [{ uids: Object.fromEntries(many(1_000, (n) => [uid(n), { subscribe: true }]) as [string, unknown][]) }] })).subscribed).toMatchObject({ [uid(0)]: { is_registered: false } })
  })
})
