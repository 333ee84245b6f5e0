// Every answer of every published call against the published schemas: in an empty world, with one endpoint, with many, for older protocols, for those who are refused.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Validator } from '@cfworker/json-schema'
import { env, exports } from 'cloudflare:workers'
import { generateKey } from '../../../identity/keys.ts'
import { operations } from '../../../protocol/operations/all.ts'
import type { Env } from '../../../workers/env.ts'
import { deauthoriseGateway } from '../../../workers/flows/gateways.ts'
import { admin, enrolled, linux, ORIGIN, report, send, signed, type Answer, type Endpoint } from '../ems.ts'
import { by, dataOf, greeted, init, INIT, joined, TOKEN_HEADER, update, updateAuth, type Gateway } from '../gateway.ts'
import { contextOf } from '../standing.ts'
import { envelopeOf, published, refusal, statusesOf, type Method, type PublishedCall } from './published-schema.ts'

const real = env as unknown as Env
const { DB } = real
const { default: worker } = exports as unknown as { default: { fetch(request: Request): Promise<Response> } }
const validators = new Map(published.map(({ path, data }) => [path, new Validator(envelopeOf(data), '2020-12', false)]))
const refused = new Validator(refusal, '2020-12', false)
/** Path and method of what was answered: at the end it is every one. */
const answered = new Set<string>()

function expectConforming(path: string, method: Method, answer: Answer): void {
  answered.add(`${method} ${path}`)
  const { valid, errors } = validators.get(path)?.validate(answer.json) ?? { valid: false, errors: [] }
  expect({ path, method, status: answer.status, valid, errors: errors.map(({ instanceLocation, error }) => `${instanceLocation}: ${error}`) }).toEqual({ path, method, status: 200, valid: true, errors: [] })
}
function expectRefused(answer: Answer): void {
  const { valid, errors } = refused.validate(answer.json)
  expect({ valid, errors: errors.map(({ instanceLocation, error }) => `${instanceLocation}: ${error}`) }).toEqual({ valid: true, errors: [] })
  const { retval } = answer.json.result as { retval: number }
  expect([retval, statusesOf[retval]?.includes(answer.status)]).toEqual([retval, true])
}

const reports = published.filter(({ path }) => path.startsWith('/api/v1/report/'))
const queryOf = (query: Readonly<Record<string, unknown>>) => new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)])).toString()
/** Bodies that a report needs where it takes no empty one. */
const bodies: Readonly<Record<string, object>> = {
  '/api/v1/report/fct/client_avatars': { fingerprints: [], users: [] }, '/api/v1/report/fct/subscribe': { update: [] },
  '/api/v1/report/fct/status': Object.fromEntries(['sysinfo', 'vulns', 'avatar', 'host_tags', 'uid_tags', 'tags'].map((name) => [name, { version: { updated_after: '', uid_offset: '' }, sn_list: [] }])),
}
async function ask(gateway: Gateway, { path }: PublishedCall, method: Method, query: Readonly<Record<string, unknown>> = {}): Promise<Answer> {
  const text = queryOf(query)
  return method === 'GET' ? await by(gateway, method, text === '' ? path : `${path}?${text}`) : await by(gateway, method, path, { ...bodies[path], ...query })
}
async function askAll(gateway: Gateway, query: Readonly<Record<string, unknown>> = {}): Promise<void> {
  for (const call of reports) for (const method of call.methods) expectConforming(call.path, method, await ask(gateway, call, method, query))
}

const imageOf = (n: number) => btoa(String.fromCharCode(0x89, 0x50, 0x4e, 0x47, n).padEnd(200, 'x'))
async function laptop(n: number): Promise<Endpoint> {
  const endpoint = await enrolled({ group: 'field', ownership: n % 2 === 0 ? 'personal' : 'corporate' })
  const fingerprint = String((await signed(endpoint, 'PUT', '/api/v1/endpoint/avatar', { mediaType: 'image/png', image: imageOf(n) })).json.fingerprint)
  await report(endpoint, 1, {
    os: linux(), agent: { version: '1.2.3', protocol: '7.0.0', profileVersion: 0, rulesVersion: 0 },
    user: { account: `alice-${n}`, domain: 'corp', fullName: 'Alice', email: 'alice@example.com', phone: '+1 (2) 3', avatarFingerprint: fingerprint, socialIds: [{ service: 'LinkedIn', accountId: 'alice' }] },
    hardware: { hostName: `laptop-${n}`, manufacturer: 'Maker', model: 'Model', serial: `S${n}`, cpu: 'CPU', cores: 4, memoryBytes: 8_000_000_000 },
    network: { interfaces: [{ name: 'eth0', mac: `02:00:00:00:01:0${n % 10}`, addresses: [{ ip: `10.0.${n}.1`, prefix: 24 }, { ip: `2001:db8::${n + 1}`, prefix: 64 }] }], defaultGateways: [], dnsServers: [] },
    security: { firewall: { state: 'on', product: 'nftables' }, diskEncryption: { state: 'on', method: 'LUKS' }, mandatoryAccessControl: { state: 'on', product: 'AppArmor' }, automaticUpdates: { state: 'off', product: '' }, secureBoot: 'on' },
    antivirus: { products: [{ name: 'ClamAV', running: 'on', source: 'clamav' }] },
    vulnerabilities: { scannedAt: 1_790_000_000_000, scanner: 'x', found: [{ id: `CVE-2026-${n}`, name: 'one', severity: 'high', package: 'openssl' }, { id: 'OSV-1', name: 'two', severity: 'unrated', package: '' }] },
  })
  return endpoint
}
const ended = new Set(['gateways', 'rule_sets', 'tags', 'gateway_subscriptions', 'endpoints', 'endpoint_macs', 'sightings'])
const empty = () => DB.batch([...ended].map((table) => DB.prepare(`DELETE FROM ${table}`)))

describe('the published schemas', () => {
  it('refuse what is missing and what is mistyped', () => {
    const wrong: readonly [string, unknown][] = [
      ['/api/v1/system/version', { version: '1', major: 1, minor: '0', patch: '0', build: '0' }], ['/api/v1/settings/server/websocket_port', { websocket_port: '443' }],
      ['/api/v1/report/fct/sysinfo', { updated_after: '', uid_offset: '', is_final: true, is_zipped: false, unzipped_size: 2, data: { ['0'.repeat(32)]: { ip: '', mac: '' } } }],
      ['/api/v1/report/fct/sysinfo', { updated_after: '', uid_offset: '', is_final: true, is_zipped: false, unzipped_size: 2, data: { ['0'.repeat(32)]: null } }],
      ['/api/v1/report/fct/avatar', { updated_after: '', is_final: true, is_zipped: false, unzipped_size: 2, data: {} }], ['/api/v1/fgt/gateway_details/gateway_mac', {}],
    ]
    for (const [path, data] of wrong) expect([path, validators.get(path)?.validate({ result: { retval: 1 }, data }).valid]).toEqual([path, false])
  })
})

describe('what anybody may read', () => {
  it.each(published.filter(({ path }) => /\/(system|settings)\//.test(path)))('$path', async ({ path, methods: [method = 'GET'] }) => { expectConforming(path, method, await send(method, path)) })
  it('the CAs are PEM, not JSON', async () => {
    const response = await worker.fetch(new Request(`${ORIGIN}/api/v1/ztna_certificates/download`))
    expect([response.headers.get('content-type'), new TextDecoder().decode(await response.arrayBuffer()).startsWith('-----BEGIN CERTIFICATE-----')]).toEqual(['application/x-x509-ca-cert', true])
  })
})

describe('joining', () => {
  const APPROVE = '/api/v1/fabric_device_auth/fortigate'
  const DISCONNECT = '/api/v1/fabric_device_auth/disconnect'
  beforeAll(empty)
  it('of a gateway that is pending, authorised, denied', async () => {
    const keys = await generateKey()
    const pending = await init(keys, { management_ip: '10.0.0.1', host_name: 'edge', vdom: 'root' })
    expectConforming(INIT, 'POST', pending)
    expectConforming(INIT, 'POST', await init(await generateKey(), { management_ip: '', host_name: '', vdom: '' }))
    const { serial } = dataOf(pending) as { serial: string }
    expectConforming('/api/v1/fabric_device_auth/update_auth', 'PATCH', await updateAuth(serial, true))
    expectConforming(INIT, 'POST', await init(keys))
    await updateAuth(serial, false)
    expectConforming(INIT, 'POST', await init(keys))
  })
  it('of members by a root, and their leaving', async () => {
    const [root, keys] = [await joined(), await generateKey()]
    expectConforming('/api/v1/fabric_device_auth/{sn}/update', 'PATCH', await update(root.serial, { is_root: true, share_mode: 1, share_tag_types: [1, 2, 3, 4], alias: 'root' }))
    const { serial } = dataOf(await init(keys)) as { serial: string }
    expectConforming(APPROVE, 'POST', await by(root, 'POST', APPROVE, { fortigates: {} }))
    expectConforming(APPROVE, 'POST', await by(root, 'POST', APPROVE, { expiry_period: 3600, fortigates: { [serial]: { authenticate: 'accept', management_ip: '10.0.0.2', host_name: 'member', is_root: false, vdom: 'root' } } }))
    expectConforming(APPROVE, 'POST', await by(root, 'POST', APPROVE, { fortigates: { [serial]: { authenticate: 'deny', management_ip: '', host_name: '', vdom: '' } } }))
    expectConforming(DISCONNECT, 'POST', await by(root, 'POST', DISCONNECT, { fgt_sns: [] }))
    expectConforming(DISCONNECT, 'POST', await by(root, 'POST', DISCONNECT, { fgt_sns: [root.serial] }))
  })
})

describe('every report', () => {
  beforeAll(async () => {
    await empty()
    for (let n = 0; n < 6; n++) await admin('POST', '/rule-sets', { name: `modern-${n}`, tag: `modern-${n}`, rules: { linux: { conditions: [{ type: 'os-version', comparator: '>=', version: '12' }] } } })
    await admin('POST', '/rule-sets', { name: 'marker', tag: 'marker', rules: { linux: { conditions: [{ type: 'file', negate: false, path: '/etc/marker' }] } } })
  })
  it('in an empty world', async () => { await askAll(await joined()) })
  it('with one endpoint, before and after its first report, and when it has left sight', async () => {
    const gateway = await joined()
    const bare = await enrolled()
    await askAll(gateway)
    const endpoint = await laptop(1)
    const seen = { mac: '02:00:00:00:01:01', vdom: 'root', ip_list: ['10.0.1.1'], interface: 'lan', sn: gateway.serial }
    expectConforming('/api/v1/fgt/gateway_details/gateway_mac', 'POST', await by(gateway, 'POST', '/api/v1/fgt/gateway_details/gateway_mac', { gateway_mac_list: [seen] }))
    expectConforming('/api/v1/fgt/gateway_details/gateway_mac', 'POST', await by(gateway, 'POST', '/api/v1/fgt/gateway_details/gateway_mac', { gateway_mac_list: [{ ...seen, mac: 'none' }] }))
    expectConforming('/api/v1/fgt/gateway_details/vpn', 'POST', await by(gateway, 'POST', '/api/v1/fgt/gateway_details/vpn', { is_snapshot: true, sn_list: [gateway.serial], uid_list: [{ uid: endpoint.uid, vdom: 'root', interface: 'wg0', sn: gateway.serial, ip: '10.9.0.1', is_delete: false }] }))
    await askAll(gateway)
    await askAll(gateway, { uid_list: endpoint.uid, sn_list: gateway.serial })
    const asked = { fingerprints: ['0'.repeat(64)], users: [{ user_name: 'alice-1', domain_name: 'corp', fct_uid: '' }, { user_name: '', domain_name: '', fct_uid: endpoint.uid }] }
    const avatars = await by(gateway, 'POST', '/api/v1/report/fct/client_avatars', asked)
    expectConforming('/api/v1/report/fct/client_avatars', 'POST', avatars)
    expectConforming('/api/v1/report/fct/client_avatars', 'POST', await by(gateway, 'POST', '/api/v1/report/fct/client_avatars', {}))
    expect(dataOf(avatars).avatars).toMatchObject([{ avatar: imageOf(1), user_name: 'alice-1', domain_name: 'corp', fct_uid: endpoint.uid }])
    await update(gateway.serial, { share_mode: 0 })
    const subscription = (wants: boolean) => by(gateway, 'POST', '/api/v1/report/fct/subscribe', { update: [{ sn_list: [gateway.serial], uids: { [endpoint.uid]: { subscribe: wants, sysinfo_update_time: 1, host_tags_update_time: 1 } }, is_snapshot: false }] })
    expectConforming('/api/v1/report/fct/subscribe', 'POST', await subscription(true))
    const { updated_after: watermark } = dataOf(await by(gateway, 'GET', '/api/v1/report/fct/sysinfo')) as { updated_after: string }
    await subscription(false)
    await askAll(gateway, { updated_after: watermark })
    await admin('POST', `/endpoints/${bare.uid}/deregister`, { reason: '' })
    await askAll(gateway)
  })
  it('with many, page by page, and what came after', async () => {
    for (let n = 2; n < 12; n++) await laptop(n)
    const gateway = await joined()
    const paged = reports.filter(({ path }) => !/client_avatars|subscribe|status|snapshot|report\/host_tags/.test(path))
    for (const call of paged) {
      for (const method of call.methods) {
        let query: Record<string, unknown> = { unzipped_size: 1024 }
        for (let pages = 1; ; pages++) {
          const answer = await ask(gateway, call, method, query)
          expectConforming(call.path, method, answer)
          const { updated_after: watermark, is_final: isFinal, uid_offset: uid = '', fingerprint_offset: fingerprint = '', tag_uid_offset: tag = '' } = dataOf(answer) as Record<string, string> & { is_final: unknown }
          if (isFinal === true) {
            expect([call.path, pages > 1]).toEqual([call.path, true])
            expectConforming(call.path, method, await ask(gateway, call, method, { updated_after: watermark }))
            break
          }
          query = { unzipped_size: 1024, updated_after: watermark, uid_offset: uid, fingerprint_offset: fingerprint, tag_uid_offset: tag }
        }
      }
    }
  })
  it.each(['6.0.0', '6.4.9', '7.0.0'])('for a gateway of protocol %s', async (protocol) => {
    const gateway = await joined()
    const { listening } = await greeted(gateway, {}, protocol)
    await askAll(gateway)
    listening.socket.close(1000)
  })
})

describe('a refusal', () => {
  const gatewayCalls = operations.filter(({ caller, surface }) => caller === 'gateway' && surface === 'fabric')
  const bodyFor = (hasBody: boolean) => (hasBody ? {} : undefined)
  it('of a call that is not signed, or by another\'s certificate', async () => {
    const endpoint = await enrolled()
    for (const { method, path, body } of gatewayCalls) {
      expectRefused(await send(method, path, { body: bodyFor(body !== undefined) }))
      expectRefused(await signed(endpoint, method, path, bodyFor(body !== undefined)))
    }
  })
  it('of every call to a gateway that was put out', async () => {
    const gateway = await joined()
    await deauthoriseGateway(contextOf(real), gateway.serial, 'stolen')
    for (const { method, path, body } of gatewayCalls) expectRefused(await by(gateway, method, path, bodyFor(body !== undefined)))
  })
  it('of what is no body, no number, no watermark, and of strangers to the administrator\'s calls', async () => {
    const gateway = await joined()
    for (const { method, path, body } of gatewayCalls) {
      if (body !== undefined) for (const wrong of [null, [], 'x', 1]) expectRefused(await by(gateway, method, path, wrong))
    }
    for (const query of ['unzipped_size=0', 'unzipped_size=x', 'unzipped_size=1.5', 'unzipped_size=1&unzipped_size=2', `updated_after=${'1'.repeat(257)}`, `uid_offset=${'x'.repeat(65)}`]) expectRefused(await by(gateway, 'GET', `/api/v1/report/fct/sysinfo?${query}`))
    for (const wrong of [{ unzipped_size: true }, { unzipped_size: null }, { updated_after: 1 }, { sn_list: 1 }, { uid_list: [1] }, { uid_offset: {} }]) expectRefused(await by(gateway, 'POST', '/api/v1/report/fct/sysinfo', wrong))
    for (const [method, path] of [['GET', '/api/v1/report/fct/none'], ['DELETE', '/api/v1/report/fct/sysinfo'], ['GET', '/api/v1/report/fct/subscribe'], ['POST', '/api/v1/system/version'], ['GET', '/api/v1/fgt/none']] as const) expectRefused(await by(gateway, method, path, method === 'POST' ? {} : undefined))
    expectRefused(await send('PATCH', '/api/v1/fabric_device_auth/update_auth', { body: { devices_to_update: [{ id: gateway.serial, authorized: false }] } }))
    expectRefused(await send('PATCH', '/api/v1/fabric_device_auth/SPGW00000000000F/update', { body: { share_mode: 1 }, headers: TOKEN_HEADER }))
    expectRefused(await by(gateway, 'POST', '/api/v1/fabric_device_auth/disconnect', { fgt_sns: ['SPGW00000000000F'] }))
    expectRefused(await init(await generateKey(), { csr: 'none' }))
    expectRefused(await init(await generateKey(), { join_code: 'B'.repeat(43) }))
  })
})

afterAll(() => { expect(published.flatMap(({ path, methods }) => methods.map((method) => `${method} ${path}`)).filter((each) => !answered.has(each))).toEqual([]) })
