// What the fabric's calls cost, counted by a meter that fails where production would.
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { createExecutionContext, runInDurableObject, waitOnExecutionContext } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { utf8 } from '../../../identity/encoding.ts'
import { signRequest } from '../../../identity/request-signature.ts'
import * as fabric from '../../../protocol/operations/fabric.ts'
import type { Env } from '../../../workers/env.ts'
import worker from '../../../workers/index.ts'
import { enrolled, linux, ORIGIN, report, reportBody, type Endpoint } from '../ems.ts'
import { joined, type Caller, type Gateway } from '../gateway.ts'
import { meter } from '../meter.ts'
import { casAreKnown, envWith, still } from '../standing.ts'

const { DB, FCM_NOTIFY } = env as unknown as Env
const metered = meter(DB)
const bindings = envWith({ DB: metered.database })

async function call(caller: Caller, method: string, path: string, body?: unknown): Promise<{ status: number; tally: typeof metered.tally }> {
  const text = body === undefined ? '' : JSON.stringify(body)
  const headers = await signRequest({ method, url: `${ORIGIN}${path}`, body: utf8(text), privateKey: caller.keys.privateKey, certificateDer: caller.certificate, now: Date.now() })
  const context = createExecutionContext()
  metered.reset()
  const response = await worker.fetch(new Request(`${ORIGIN}${path}`, { method, headers: { ...headers, 'content-type': 'application/json' }, ...(text === '' ? {} : { body: text }) }), bindings, context)
  const tally = { ...metered.tally }
  await response.arrayBuffer()
  await waitOnExecutionContext(context)
  return { status: response.status, tally }
}
const pairs = (count: number) => Array.from({ length: count }, (_, n) => ({ mac: `02:00:00:${[16, 8, 0].map((shift) => ((n >> shift) & 255).toString(16).padStart(2, '0')).join(':')}`, ip_list: [`10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`], vdom: 'root', interface: 'eth0', sn: '' }))
const snapshot = (gateway: Gateway, count: number) => call(gateway, 'POST', fabric.gatewayMac.path, { gateway_mac_list: pairs(count), is_snapshot: true })
const network = (ip: string, mac: string) => ({ interfaces: [{ name: 'eth0', mac, addresses: [{ ip, prefix: 24 }] }], defaultGateways: [], dnsServers: [] })
const macsOf = async ({ uid }: Endpoint) => (await DB.prepare('SELECT mac FROM endpoint_macs WHERE uid = ?').bind(uid).all<{ mac: string }>()).results.map(({ mac }) => mac)

beforeEach(async () => { await DB.batch(['gateways', 'endpoints', 'endpoint_macs', 'sightings'].map((table) => DB.prepare(`DELETE FROM ${table}`))) })

describe('a report of what a gateway sees', () => {
  it('costs two trips and one row when nothing has changed, and one row more for each that has', async () => {
    const gateway = await joined()
    expect((await snapshot(gateway, 500)).tally).toMatchObject({ trips: 2, rowsWritten: 501 })
    expect((await snapshot(gateway, 500)).tally).toMatchObject({ trips: 2, rowsWritten: 1 })
    expect((await snapshot(gateway, 501)).tally).toMatchObject({ trips: 2, rowsWritten: 2 })
  })
  it('of ten thousand, all of which matter, stays within what an invocation may do, and the rest is told next time', async () => {
    const gateway = await joined()
    await DB.prepare('INSERT INTO endpoint_macs SELECT value, ? FROM json_each(?)').bind('f'.repeat(32), JSON.stringify(pairs(10_000).map(({ mac }) => mac))).run()
    const told = async () => (await DB.prepare('SELECT count(*) AS n FROM sightings WHERE told <> \'\'').first<{ n: number }>())?.n
    expect((await snapshot(gateway, 10_000)).status).toBe(200)
    const first = await told()
    expect(first).toBe(2_400)
    for (let n = 0; n < 4; n++) expect((await snapshot(gateway, 10_000)).status).toBe(200)
    expect(await told()).toBe(10_000)
  })
})

describe('a change of one endpoint\'s sight', () => {
  it('costs each gateway that trusts the seer one row, and no read of the database', async () => {
    const [seer, reader] = [await joined(), await joined()]
    const endpoint = await enrolled()
    await report(endpoint, 1, { os: linux(), network: network('10.0.0.0', '02:00:00:00:00:00') })
    const rows = () => runInDurableObject(FCM_NOTIFY.getByName(reader.serial), (_, { storage }) => storage.sql.exec<{ n: number }>('SELECT count(*) AS n FROM journal').one().n)
    const before = await rows()
    expect((await snapshot(seer, 1)).tally).toMatchObject({ trips: 2 })
    expect(await rows() - before).toBe(1)
  })
})

describe('an endpoint that moves', () => {
  it('costs no row of its MACs, unless those are others', async () => {
    const endpoint = await enrolled()
    await report(endpoint, 1, { os: linux(), network: network('10.0.0.1', '02:00:00:00:00:01') })
    expect(await macsOf(endpoint)).toEqual(['02:00:00:00:00:01'])
    const written = async (sequence: number, value: ReturnType<typeof network>) => (await call(endpoint, 'POST', '/api/v1/endpoint/report', await reportBody(sequence, { network: value }))).tally.rowsWritten
    const moved = await written(2, network('10.0.0.2', '02:00:00:00:00:01'))
    expect(await written(3, network('10.0.0.2', '02:00:00:00:00:02')) - moved).toBe(2)
    expect(await macsOf(endpoint)).toEqual(['02:00:00:00:00:02'])
  })
})

describe('a report page', () => {
  it('costs the Worker one trip, whatever the table', async () => {
    const gateway = await joined()
    await report(await enrolled(), 1, { os: linux() })
    for (const { get } of [fabric.sysinfo, fabric.uidTags, fabric.tags, fabric.olderTags, fabric.vulns, fabric.avatars]) expect((await call(gateway, 'GET', `${get.path}?sn_list=${gateway.serial}`)).tally).toMatchObject({ trips: 1, rowsWritten: 0 })
  })
})

describe('a question whether anything is new', () => {
  it('costs two trips, as many rows read and none written when nothing is: the caller\'s record, and the head of the log', async () => {
    const gateway = await joined()
    await report(await enrolled(), 1, { os: linux() })
    await still()
    // The Worker's trips are counted by the meter, its object's by a spy on the database that both have.
    const object = FCM_NOTIFY.getByName(gateway.serial)
    const rows: number[] = []
    const cursor = await object.cursor()
    const version = { updated_after: `${cursor?.revision}.${cursor?.mark}` }
    const body = Object.fromEntries(['sysinfo', 'uid_tags', 'host_tags'].map((table) => [table, { version }]))
    await call(gateway, 'POST', fabric.status.path, body)
    await casAreKnown()
    const spy = vi.spyOn(Object.getPrototypeOf(DB.prepare('SELECT 1')) as D1PreparedStatement, 'raw')
    spy.mockImplementation(async function read(this: D1PreparedStatement) {
      const { results, meta } = await this.all<Record<string, unknown>>()
      rows.push(meta.rows_read)
      expect(meta.rows_written).toBe(0)
      return results.map((row) => Object.values(row)) as never
    })
    const written = () => runInDurableObject(object, (_, { storage }) => storage.sql.exec<{ n: number }>('SELECT total_changes() AS n').one().n)
    try {
      const before = await written()
      expect(await call(gateway, 'POST', fabric.status.path, body)).toMatchObject({ status: 200, tally: { trips: 1, rowsRead: 1, rowsWritten: 0 } })
      expect([rows, await written() - before]).toEqual([[1], 0])
    } finally {
      spy.mockRestore()
    }
  })
})
