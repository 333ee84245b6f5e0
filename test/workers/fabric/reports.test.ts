// The report tables as a gateway reads them: whole, in pages, what came after, and only what it is entitled to.
import { beforeEach, describe, expect, it } from 'vitest'
import { env } from 'cloudflare:workers'
import * as fabric from '../../../protocol/operations/fabric.ts'
import type { Operation } from '../../../protocol/operation.ts'
import type { Env } from '../../../workers/env.ts'
import { admin, enrolled, linux, report, signed, type Endpoint } from '../ems.ts'
import { by, dataOf, greeted, joined, update, updateAuth, type Gateway } from '../gateway.ts'

const real = env as unknown as Env
const { DB } = real
interface Page { updated_after: string; uid_offset?: string; tag_uid_offset?: string; fingerprint_offset?: string; is_final: boolean; is_snapshot: boolean; unzipped_size: number; removed: string[]; data: Record<string, Record<string, unknown> | null> }
const tables = { sysinfo: fabric.sysinfo, uid_tags: fabric.uidTags, tags: fabric.tags, vuln: fabric.vulns, avatar: fabric.avatars }
type Table = keyof typeof tables

async function call(gateway: Gateway, operation: Operation, query: Record<string, unknown> = {}): Promise<Page> {
  const text = new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)])).toString()
  const answer = await by(gateway, operation.method, operation.method === 'GET' && text !== '' ? `${operation.path}?${text}` : operation.path, operation.method === 'GET' ? undefined : query)
  expect([operation.id, answer.status]).toEqual([operation.id, 200])
  const parsed = operation.reply.safeParse(answer.json)
  expect(parsed.error?.issues ?? []).toEqual([])
  return dataOf(answer) as unknown as Page
}
/** Reads a table to its end, handing back what each page gave. */
async function readAll(gateway: Gateway, table: Table, from: { updated_after?: string; unzipped_size?: number } = {}): Promise<{ pages: Page[]; uids: string[]; watermark: string }> {
  const pages: Page[] = []
  let next: Record<string, unknown> = from
  for (;;) {
    const page = await call(gateway, tables[table].get, next)
    pages.push(page)
    if (page.is_final) break
    next = { ...from, updated_after: page.updated_after, uid_offset: page.uid_offset ?? '', tag_uid_offset: page.tag_uid_offset ?? '', fingerprint_offset: page.fingerprint_offset ?? '' }
  }
  const rows = pages.map(({ data }) => (table === 'uid_tags' ? data.uid_tag_lists : table === 'vuln' ? data.forticlients : data) as Record<string, unknown>)
  return { pages, uids: rows.flatMap((each) => Object.keys(each)), watermark: pages.at(-1)?.updated_after ?? '' }
}

let fleet: Endpoint[] = []
beforeEach(async () => {
  await DB.batch(['gateways', 'rule_sets', 'tags', 'gateway_subscriptions', 'endpoints'].map((table) => DB.prepare(`DELETE FROM ${table}`)))
  fleet = []
  for (let n = 0; n < 5; n++) {
    const endpoint = await enrolled()
    await report(endpoint, 1, { os: linux(), network: { interfaces: [{ name: 'eth0', mac: `02:00:00:00:00:0${n}`, addresses: [{ ip: `10.0.0.${n + 1}`, prefix: 24 }] }], defaultGateways: [], dnsServers: [] } })
    fleet.push(endpoint)
  }
})
const uids = () => fleet.map(({ uid }) => uid).sort()
const at = (n: number): Endpoint => fleet[n] ?? fleet[0] as Endpoint

describe('a report table', () => {
  it('is read whole, in pages by size, each endpoint once, by GET and by POST', async () => {
    const gateway = await joined()
    for (const table of ['sysinfo', 'uid_tags'] as const) {
      const { pages, uids: read } = await readAll(gateway, table, { unzipped_size: 1024 })
      expect(read.toSorted()).toEqual(uids())
      expect(pages.map(({ is_snapshot: begins }) => begins)).toEqual(pages.map((_, index) => index === 0))
    }
    expect((await readAll(gateway, 'sysinfo', { unzipped_size: 1024 })).pages.length).toBeGreaterThan(1)
    expect((await call(gateway, fabric.sysinfo.post, {})).is_final).toBe(true)
  })
  it('then tells only what came after, and nothing when nothing did', async () => {
    const gateway = await joined()
    const { watermark } = await readAll(gateway, 'sysinfo')
    expect(await readAll(gateway, 'sysinfo', { updated_after: watermark })).toMatchObject({ uids: [], watermark })
    await report(at(3), 2, { os: linux('13.0') })
    const after = await readAll(gateway, 'sysinfo', { updated_after: watermark })
    expect([after.uids, after.pages.map(({ is_snapshot: begins }) => begins)]).toEqual([[at(3).uid], [false]])
    expect((await readAll(gateway, 'uid_tags', { updated_after: watermark })).uids).toEqual([])
    expect((await readAll(gateway, 'sysinfo', { updated_after: after.watermark })).uids).toEqual([])
  })
  it('misses nothing that changes while it is read', async () => {
    const gateway = await joined()
    const first = await call(gateway, fabric.sysinfo.get, { unzipped_size: 1024 })
    const [told] = Object.keys(first.data)
    const changed = fleet.find(({ uid }) => uid === told)
    if (changed === undefined) throw new Error('the first page told of nobody')
    await report(changed, 2, { os: linux('13.0') })
    const rest = await readAll(gateway, 'sysinfo', { updated_after: first.updated_after, uid_offset: first.uid_offset ?? '', unzipped_size: 1024 } as object)
    const record = rest.pages.map(({ data }) => data[changed.uid]).find((each) => each !== undefined)
    expect(String(record?.os_ver)).toContain('13.0')
    expect(rest.pages.some(({ is_snapshot: begins }) => begins)).toBe(false)
  })
  it('begins anew for a watermark or an offset of another history', async () => {
    const gateway = await joined()
    const { watermark } = await readAll(gateway, 'sysinfo')
    const foreign = await readAll(gateway, 'sysinfo', { updated_after: `${watermark.split('.')[0]}.${'e'.repeat(16)}` })
    expect([foreign.uids.toSorted(), foreign.pages[0]?.is_snapshot]).toEqual([uids(), true])
    const lost = await call(gateway, fabric.sysinfo.get, { uid_offset: `1.${at(0).uid}.ffffff` })
    expect([Object.keys(lost.data).sort(), lost.is_snapshot]).toEqual([uids(), true])
    for (const never of ['0', '1.zz', '2026-01-02 03:04:05.678', 'null']) {
      const told = await readAll(gateway, 'sysinfo', { updated_after: never })
      expect([never, told.uids.toSorted(), told.pages[0]?.is_snapshot, told.watermark]).toEqual([never, uids(), true, watermark])
      expect(await call(gateway, fabric.status, { sysinfo: { version: { updated_after: never } } })).toMatchObject({ sysinfo: { is_updated: true } })
    }
  })
  it('has one row a page where a reader takes no more, and no larger pages for one that would', async () => {
    const gateway = await joined()
    expect((await readAll(gateway, 'sysinfo', { unzipped_size: 1 })).pages.map(({ data }) => Object.keys(data).length)).toEqual([1, 1, 1, 1, 1])
    expect((await readAll(gateway, 'sysinfo', { unzipped_size: 1_000_000_000 })).uids.toSorted()).toEqual(uids())
  })
  it('gives addresses by tag, whole when one of them changed', async () => {
    await admin('POST', '/rule-sets', { name: 'debian', tag: 'debian', rules: { linux: { conditions: [{ type: 'os-version', name: 'Debian GNU/Linux', operator: '>=', version: '12' }] } } })
    const gateway = await joined()
    for (const [n, endpoint] of fleet.entries()) await report(endpoint, 2, { os: linux(`12.${n}`) })
    const { pages, watermark } = await readAll(gateway, 'tags')
    const commands = pages.flatMap(({ data }) => data.commands as unknown as { type: string; values: string[]; tag_properties: { name: string } }[])
    if (commands.length > 0) expect(commands.map(({ type }) => type)).toEqual(['ipblock', 'mac'])
    expect((await readAll(gateway, 'tags', { updated_after: watermark })).pages.map(({ is_snapshot: begins }) => begins)).toEqual([false])
    expect((await call(gateway, fabric.hostTags)).data.length).toBe(commands.length / 2)
  })
  it('gives vulnerabilities and avatars of those who have some', async () => {
    const gateway = await joined()
    const image = btoa(String.fromCharCode(0x89, 0x50, 0x4e, 0x47, 1, 2, 3))
    const put = await signed(at(1), 'PUT', '/api/v1/endpoint/avatar', { mediaType: 'image/png', image })
    const fingerprint = String(put.json.fingerprint)
    await report(at(1), 2, { user: { account: 'alice', avatarFingerprint: fingerprint }, vulnerabilities: { scannedAt: 1_790_000_000_000, scanner: 'x', found: [{ id: 'CVE-2026-1', name: 'one', severity: 'high', package: 'openssl' }] } })
    const avatars = await call(gateway, fabric.avatars.get)
    expect(avatars.data).toEqual({ [fingerprint]: { avatar: image } })
    const vulns = await call(gateway, fabric.vulns.get)
    expect(Object.keys(vulns.data.forticlients ?? {})).toEqual([at(1).uid])
    expect(vulns.data.vulns).toMatchObject({ 'CVE-2026-1': { severity: 'high' } })
  })
  it('says by status whether anything came after a watermark', async () => {
    const gateway = await joined()
    const { watermark } = await readAll(gateway, 'sysinfo')
    const asked = { version: { updated_after: watermark } }
    expect(await call(gateway, fabric.status, { sysinfo: asked, uid_tags: asked })).toMatchObject({ sysinfo: { is_updated: false }, uid_tags: { is_updated: false } })
    await report(at(0), 2, { os: linux('13.0') })
    expect(await call(gateway, fabric.status, { sysinfo: asked, uid_tags: asked, vulns: {} })).toMatchObject({ sysinfo: { is_updated: true }, uid_tags: { is_updated: false }, vulns: { is_updated: true } })
    expect(Object.keys((await call(gateway, fabric.statusGet, { updated_after: watermark })).data)).toHaveLength(6)
  })
  it('says by status up to where that is all, by reading the log for the very question: a poke that was lost is found', async () => {
    const gateway = await joined()
    const { watermark } = await readAll(gateway, 'sysinfo')
    const asked = { version: { updated_after: watermark } }
    const began = Date.now()
    const same = await call(gateway, fabric.status, { sysinfo: asked }) as unknown as { current: { revision: string; at: number } }
    expect(same.current.revision).toBe(watermark)
    expect(same.current.at).toBeGreaterThanOrEqual(began)
    await DB.prepare('UPDATE gateways SET state = \'denied\'').run()
    await report(at(0), 2, { os: linux('13.0') })
    await DB.prepare('UPDATE gateways SET state = \'authorised\'').run()
    const later = await call(gateway, fabric.status, { sysinfo: asked }) as unknown as typeof same
    expect(later).toMatchObject({ sysinfo: { is_updated: true } })
    expect((await readAll(gateway, 'sysinfo', { updated_after: watermark })).watermark).toBe(later.current.revision)
  })
  it('finds by status that it may see something else, though its object could not be told', async () => {
    const gateway = await joined()
    const { watermark } = await readAll(gateway, 'sysinfo')
    await DB.prepare('UPDATE gateways SET share_mode = 0 WHERE serial = ?').bind(gateway.serial).run()
    expect(await call(gateway, fabric.status, { sysinfo: { version: { updated_after: watermark } } })).toMatchObject({ sysinfo: { is_updated: true } })
    expect((await readAll(gateway, 'sysinfo', { updated_after: watermark })).pages).toMatchObject([{ is_snapshot: true, data: {} }])
  })
  it('tells a gateway that was put out so, whatever it asks', async () => {
    const gateway = await joined()
    await updateAuth(gateway.serial, false)
    for (const [method, path] of [['POST', fabric.status.path], ['GET', fabric.sysinfo.get.path]] as const) {
      expect(await by(gateway, method, path, method === 'POST' ? {} : undefined)).toMatchObject({ status: 403, json: { problem: { code: 'not_authorised' } } })
    }
  })
})

describe('an entitlement', () => {
  const subscribe = (gateway: Gateway, wanted: Record<string, boolean>, isSnapshot = false) =>
    call(gateway, fabric.subscribe, { update: [{ uids: Object.fromEntries(Object.entries(wanted).map(([uid, wants]) => [uid, { subscribe: wants }])), is_snapshot: isSnapshot }] })

  it('to its own endpoints shows those it subscribed to, and takes back those it left', async () => {
    const gateway = await joined()
    await update(gateway.serial, { share_mode: 0 })
    const empty = await readAll(gateway, 'sysinfo')
    expect(empty.uids).toEqual([])
    expect(await subscribe(gateway, { [at(0).uid]: true, [at(1).uid]: true, ['0'.repeat(32)]: true })).toMatchObject({ subscribed: { [at(0).uid]: { is_registered: true }, [at(1).uid]: { is_registered: true }, ['0'.repeat(32)]: { is_registered: false } } })
    const after = await readAll(gateway, 'sysinfo', { updated_after: empty.watermark })
    expect(after.uids.toSorted()).toEqual([at(0).uid, at(1).uid].sort())
    await report(at(2), 2, { os: linux('13.0') })
    await subscribe(gateway, { [at(0).uid]: false })
    const left = await readAll(gateway, 'sysinfo', { updated_after: after.watermark })
    expect([left.uids, left.pages[0]?.removed]).toEqual([[], [at(0).uid]])
    expect((await readAll(gateway, 'sysinfo')).uids).toEqual([at(1).uid])
    await subscribe(gateway, { [at(4).uid]: true }, true)
    expect((await readAll(gateway, 'uid_tags')).uids).toEqual([at(4).uid])
  })
  it('that ends while everything is read is taken back from a reader that was told already', async () => {
    const gateway = await joined()
    await update(gateway.serial, { share_mode: 0 })
    await subscribe(gateway, Object.fromEntries(uids().map((uid) => [uid, true])))
    for (const table of ['sysinfo', 'uid_tags'] as const) {
      const first = await call(gateway, tables[table].get, { unzipped_size: 1 })
      const [told = ''] = Object.keys((table === 'uid_tags' ? first.data.uid_tag_lists : first.data) ?? {})
      expect([first.is_snapshot, first.is_final, told]).toEqual([true, false, expect.stringMatching(/./)])
      await subscribe(gateway, { [told]: false })
      const rest = await readAll(gateway, table, { updated_after: first.updated_after, uid_offset: first.uid_offset ?? '', unzipped_size: 1 } as object)
      expect([rest.uids.includes(told), rest.pages.flatMap(({ removed }) => removed)]).toEqual([false, [told]])
      await subscribe(gateway, { [told]: true })
    }
  })
  it('to endpoints of selected gateways follows their subscriptions', async () => {
    const [one, other] = [await joined(), await joined()]
    await update(other.serial, { share_mode: 2, selected_cn_list: [one.serial] })
    expect((await readAll(other, 'sysinfo')).uids).toEqual([])
    await subscribe(one, { [at(2).uid]: true })
    expect((await readAll(other, 'sysinfo')).uids).toEqual([at(2).uid])
    expect((await readAll(one, 'sysinfo')).uids.toSorted()).toEqual(uids())
  })
  it('to no Zero Trust tags shows none, neither by endpoint nor by name', async () => {
    await admin('POST', '/rule-sets', { name: 'managed', tag: 'managed', rules: { linux: { conditions: [{ type: 'ems-management' }] } } })
    const gateway = await joined()
    await update(gateway.serial, { share_tag_types: [2, 3] })
    await report(at(0), 2, { os: linux('13.0') })
    const { pages } = await readAll(gateway, 'uid_tags')
    expect(Object.values(pages[0]?.data.uid_tag_lists ?? {}).every((each) => (each as { members: unknown[] }).members.length === 0)).toBe(true)
    expect((await call(gateway, fabric.hostTags)).data).toEqual([])
  })
  it('of a gateway below 6.2.0 has no dynamic groups', async () => {
    const gateway = await joined()
    await greeted(gateway, {}, '6.0.0')
    expect((await readAll(gateway, 'uid_tags')).uids).toEqual([])
    expect((await readAll(gateway, 'sysinfo')).uids).toHaveLength(5)
  })
})
