// The life of a membership: waiting, let in, renewed, vouched for, put out; what is revoked is published, and another CA comes without a cut.
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { runDurableObjectAlarm } from 'cloudflare:test'
import { env, exports } from 'cloudflare:workers'
import { readCertificate, trustAuthority } from '../../../identity/certificate.ts'
import { openDocument } from '../../../identity/document.ts'
import { copyBytes } from '../../../identity/encoding.ts'
import { generateKey } from '../../../identity/keys.ts'
import { createCsr } from '../../../identity/request.ts'
import * as x509 from '../../../identity/x509.ts'
import * as fabric from '../../../protocol/operations/fabric.ts'
import * as administration from '../../../protocol/operations/admin.ts'
import type { Env } from '../../../workers/env.ts'
import { keepHouse } from '../../../workers/flows/keep-house.ts'
import { LOOKED_WITHIN_MS } from '../../../workers/flows/revocation-lists.ts'
import { admin, der, enrolled, linux, ORIGIN, report, send } from '../ems.ts'
import { by, dataOf, greeted, has, init, joined, messageOf, update, updateAuth, type Gateway } from '../gateway.ts'

const { default: worker } = exports as unknown as { default: { fetch(request: Request): Promise<Response> } }
const real = env as unknown as Env
const { DB } = real
const SYSINFO = fabric.sysinfo.get.path
const VOUCH = fabric.joinApprove.path
const gateways = async () => (await admin('GET', '/gateways')).json.items as Record<string, unknown>[]
const listed = async (serial: string) => (await gateways()).find((each) => each.serial === serial)
const refused = (gateway: Gateway) => by(gateway, 'GET', SYSINFO)

beforeEach(async () => { await DB.batch(['gateways', 'join_codes', 'gateway_revocations'].map((table) => DB.prepare(`DELETE FROM ${table}`))) })

describe('a gateway that waits', () => {
  it('reads the same reason as the administrator, with when it lapses, and what became of its code', async () => {
    const keys = await generateKey()
    const told = dataOf(await init(keys))
    expect(await listed(String(told.serial))).toMatchObject({ state: 'pending', reason: told.reason, fingerprint: told.fingerprint, pendingUntil: told.pending_until, connected: false, protocol: null, certificate: null })
    expect(administration.listGateways.reply.safeParse((await admin('GET', '/gateways')).json).error?.issues ?? []).toEqual([])
    expect((await init(keys, { join_code: 'B'.repeat(43) })).json.problem).toMatchObject({ code: 'invitation_refused' })
    expect((await listed(String(told.serial)))?.reason).toContain('join code')
    expect(dataOf(await init(keys)).reason).toBe(told.reason)
  })
  it('is answered when somebody decides, or when its patience ends', async () => {
    const keys = await generateKey()
    const { serial } = dataOf(await init(keys)) as { serial: string }
    const [held, impatient] = [init(keys, { wait: 10 }), init(keys, { wait: 1 })]
    expect(dataOf(await impatient).state).toBe('pending')
    await updateAuth(serial, true)
    expect(dataOf(await held).state).toBe('authorised')
    const other = await generateKey()
    const { serial: second } = dataOf(await init(other)) as { serial: string }
    const waiting = init(other, { wait: 10 })
    await send('PATCH', fabric.updateAuth.path, { body: { devices_to_update: [{ id: second, authorized: false, reason: 'unknown machine' }] }, headers: { authorization: 'Bearer test-administrator-token-0123456789abcdef' } })
    expect(dataOf(await waiting)).toMatchObject({ state: 'denied', reason: 'unknown machine' })
    expect(await listed(second)).toMatchObject({ state: 'denied', reason: 'unknown machine' })
  })
})

describe('a gateway that is put out', () => {
  it('loses socket, data and the right to pull at once, and its certificates stand on the revocation list', async () => {
    const gateway = await joined()
    const { listening } = await greeted(gateway)
    await by(gateway, 'POST', fabric.gatewayMac.path, { gateway_mac_list: [{ mac: '02:00:00:00:00:01', ip_list: ['10.0.0.1'] }], is_snapshot: true })
    await send('POST', `/api/v1/admin/gateways/${gateway.serial}/deauthorise`, { body: { reason: 'stolen' }, headers: { authorization: 'Bearer test-administrator-token-0123456789abcdef' } })
    expect(messageOf(await listening.next(has('bye')), 'bye')?.reason).toBe('deauthorised')
    for (const { method, path, body } of [fabric.sysinfo.get, fabric.tags.post, fabric.subscribe, fabric.gatewayMac, fabric.renewGateway]) expect((await by(gateway, method, path, body === undefined ? undefined : {})).status).not.toBe(200)
    const object = real.FCM_NOTIFY.getByName(gateway.serial)
    expect([await object.cursor(), await object.page(gateway.serial, 'sysinfo', { updatedAfter: '', offset: '', maxBytes: 10_000, uids: null, owners: null })]).toEqual([null, null])
    expect((await DB.prepare('SELECT count(*) AS n FROM sightings WHERE serial = ?').bind(gateway.serial).first<{ n: number }>())?.n).toBe(0)
    expect(await revokedSerials()).toContain(readCertificate(gateway.certificate)?.serial)
  })
  it('that renews with the key of another is refused, and both go on as they were', async () => {
    const [one, other] = [await joined(), await joined()]
    const stolen = await by(one, 'POST', fabric.renewGateway.path, { csr: await createCsr(other.keys, one.serial) })
    expect(stolen.code).toBe('conflict')
    for (const each of [one, other]) expect((await by(each, 'GET', SYSINFO)).status).toBe(200)
  })
  it('has its former certificate on the list from the first use of the new one', async () => {
    const gateway = await joined()
    const keys = await generateKey()
    const renewed = await by(gateway, 'POST', fabric.renewGateway.path, { csr: await createCsr(keys, gateway.serial) })
    const former = readCertificate(gateway.certificate)?.serial
    expect(await revokedSerials()).not.toContain(former)
    const { listening } = await greeted({ serial: gateway.serial, keys, certificate: der(renewed.json.certificate) })
    expect(await revokedSerials()).toContain(former)
    listening.socket.close(1000)
  })
  it('that asks for another certificate before it used the last has that one on the list at once', async () => {
    const gateway = await joined()
    const renew = async () => readCertificate(der((await by(gateway, 'POST', fabric.renewGateway.path, { csr: await createCsr(await generateKey(), gateway.serial) })).json.certificate))?.serial
    const [first, second] = [await renew(), await renew()]
    const revoked = await revokedSerials()
    expect([revoked.includes(first ?? ''), revoked.includes(second ?? ''), (await by(gateway, 'GET', SYSINFO)).status]).toEqual([true, false, 200])
  })
})

let later = 0
/** The serials of the list as published, each time asked so much later that the EMS looks anew. */
async function revokedSerials(query = ''): Promise<string[]> {
  later += LOOKED_WITHIN_MS + 1
  vi.useFakeTimers({ now: Date.now() + later, toFake: ['Date'] })
  try {
    const response = await worker.fetch(new Request(`${ORIGIN}${fabric.revocationList.path}${query}`))
    expect([response.status, response.headers.get('content-type')]).toEqual([200, 'application/pkix-crl'])
    return new x509.X509Crl(copyBytes(await response.arrayBuffer())).entries.map(({ serialNumber }) => serialNumber.toUpperCase())
  } finally {
    vi.useRealTimers()
  }
}

describe('the revocation list', () => {
  it('names what was revoked of endpoints, no more when it has ended anyway, and comes for each CA', async () => {
    const [one, two] = [await enrolled(), await enrolled()]
    const [first, second] = [readCertificate(one.certificate)?.serial, readCertificate(two.certificate)?.serial]
    await admin('POST', `/endpoints/${one.uid}/certificates/${first}/revoke`, {})
    await admin('POST', `/endpoints/${two.uid}/deregister`, { reason: '' })
    expect(await revokedSerials()).toEqual(expect.arrayContaining([first, second]))
    await DB.prepare('UPDATE certificates SET not_after = 1 WHERE serial = ?').bind(first).run()
    const [{ pin }] = (await admin('GET', '/authorities')).json.items as [{ pin: string }]
    expect((await revokedSerials(`?authority=${pin}`)).filter((serial) => serial === first || serial === second)).toEqual([second])
    const pem = await worker.fetch(new Request(`${ORIGIN}${fabric.revocationList.path}?format=pem`))
    expect([pem.headers.get('content-type'), new TextDecoder().decode(await pem.arrayBuffer())]).toEqual(['application/x-pem-file', expect.stringMatching(/^-----BEGIN X509 CRL-----/)])
    for (const wrong of [`?authority=${'0'.repeat(64)}`, '?authority=x', '?format=exe', '?a=1']) expect([404, 422]).toContain((await send('GET', `${fabric.revocationList.path}${wrong}`)).status)
  })
})

describe('a root gateway', () => {
  const member = async () => {
    const keys = await generateKey()
    const { serial } = dataOf(await init(keys)) as { serial: string }
    return { serial, keys, certify: async () => ({ serial, keys, certificate: der(dataOf(await init(keys)).certificate) }) }
  }
  const vouch = (root: Gateway, serial: string, more: object = {}) => by(root, 'POST', VOUCH, { fortigates: { [serial]: { authenticate: 'accept' } }, ...more })

  it('vouches for a time: when that is over the member is refused at that instant, cut at its alarm, and swept by the house', async () => {
    const [root, one, two] = [await joined(), await member(), await member()]
    await update(root.serial, { is_root: true })
    for (const { serial } of [one, two]) expect(dataOf(await vouch(root, serial, { expiry_period: 60 }))).toEqual({ authorized: [serial], deauthorized: [], expiry: { expiry_period: 60 } })
    const [first, second] = [await one.certify(), await two.certify()]
    const { listening } = await greeted(first)
    expect((await by(second, 'GET', SYSINFO)).status).toBe(200)
    expect(await listed(one.serial)).toMatchObject({ vouchedBy: root.serial, state: 'authorised' })
    vi.useFakeTimers({ now: Date.now() + 61_000, toFake: ['Date'] })
    try {
      expect((await refused(first)).json.result).toMatchObject({ retval: -2 })
      await runDurableObjectAlarm(real.FCM_NOTIFY.getByName(one.serial))
      await keepHouse(real, Date.now())
    } finally {
      vi.useRealTimers()
    }
    expect(messageOf(await listening.next(has('authorisation')), 'authorisation')).toMatchObject({ state: 'denied' })
    expect([(await listed(one.serial))?.state, (await listed(two.serial))?.state]).toEqual(['denied', 'denied'])
  })
  it('extends its word by giving it again, and an administrator\'s replaces it', async () => {
    const [root, one] = [await joined(), await member()]
    await update(root.serial, { is_root: true })
    await vouch(root, one.serial, { expiry_period: 60 })
    const before = await listed(one.serial)
    const { listening } = await greeted(await one.certify())
    await vouch(root, one.serial, { expiry_period: 600 })
    // Its word alone is news to nobody.
    expect(listening.frames.slice(2)).toEqual([])
    const after = await listed(one.serial)
    expect(Number(after?.vouchedUntil)).toBeGreaterThan(Number(before?.vouchedUntil) + 500_000)
    await vouch(root, one.serial)
    expect(await listed(one.serial)).toMatchObject({ vouchedUntil: null, vouchedBy: root.serial })
    await updateAuth(one.serial, true)
    expect(await listed(one.serial)).toMatchObject({ vouchedUntil: null, vouchedBy: null, state: 'authorised' })
  })
  it('takes its members with it when it is put out, or may vouch no more', async () => {
    const [root, one, two] = [await joined(), await member(), await member()]
    await update(root.serial, { is_root: true })
    await vouch(root, one.serial)
    const certified = await one.certify()
    await updateAuth(root.serial, false)
    expect((await refused(certified)).status).toBe(403)
    expect(await listed(one.serial)).toMatchObject({ state: 'denied', reason: expect.stringContaining(root.serial) as string })
    const other = await joined()
    await update(other.serial, { is_root: true })
    await vouch(other, two.serial)
    await update(other.serial, { is_root: false })
    expect((await listed(two.serial))?.state).toBe('denied')
  })
  it('gives at most what it has, also when it has less later', async () => {
    const [root, one] = [await joined(), await member()]
    await update(root.serial, { is_root: true, share_tag_types: [1, 2] })
    await vouch(root, one.serial)
    expect(await listed(one.serial)).toMatchObject({ shareTagTypes: [1, 2], shareMode: 1 })
    await update(root.serial, { share_tag_types: [2], share_mode: 2, selected_cn_list: ['SPGW000000000001'] })
    expect(await listed(one.serial)).toMatchObject({ shareTagTypes: [2], shareMode: 2, selectedSerials: ['SPGW000000000001'] })
    await update(root.serial, { share_tag_types: [1, 2, 3, 4], share_mode: 1 })
    expect(await listed(one.serial)).toMatchObject({ shareTagTypes: [2], shareMode: 2 })
  })
  it('can vouch for nobody who was denied, for no member of another root, and not for itself', async () => {
    const [root, other, denied, theirs] = [await joined(), await joined(), await member(), await member()]
    for (const each of [root, other]) await update(each.serial, { is_root: true })
    await updateAuth(denied.serial, false)
    await vouch(other, theirs.serial)
    for (const serial of [denied.serial, theirs.serial, root.serial, 'SPGW00000000000F']) {
      expect(dataOf(await vouch(root, serial))).toEqual({ authorized: [], deauthorized: [] })
      expect(dataOf(await by(root, 'POST', VOUCH, { fortigates: { [serial]: { authenticate: 'deny' } } }))).toEqual({ authorized: [], deauthorized: [] })
    }
    expect([(await listed(theirs.serial))?.state, (await listed(root.serial))?.vouchedBy]).toEqual(['authorised', null])
  })
})

describe('another CA', () => {
  it('is sent to every connected gateway as a document that it can verify, and cuts nobody', async () => {
    const gateway = await joined()
    const endpoint = await enrolled()
    const { listening } = await greeted(gateway)
    const before = await Promise.all(((await admin('GET', '/authorities')).json.items as { certificate: string }[]).map(({ certificate }) => trustAuthority(certificate)))
    expect((await admin('POST', '/authorities/roll', {})).status).toBe(200)
    const sent = messageOf(await listening.next(has('ca')), 'ca')
    const opened = await openDocument(sent?.document ?? '', { kind: 'authorities', to: gateway.serial, authorities: before, now: Date.now() })
    expect(opened.ok && opened.payload.body.certificates.length).toBe(before.length + 1)
    // The old certificates are good, of both; the socket goes on; a renewal comes from the new CA and is good, too.
    expect((await by(gateway, 'GET', SYSINFO)).status).toBe(200)
    expect((await report(endpoint, 1, { os: linux() })).status).toBe(200)
    expect((await listening.next(has('changed'))).length).toBeGreaterThan(0)
    const keys = await generateKey()
    const renewed = { serial: gateway.serial, keys, certificate: der((await by(gateway, 'POST', fabric.renewGateway.path, { csr: await createCsr(keys, gateway.serial) })).json.certificate) }
    expect((await by(renewed, 'GET', SYSINFO)).status).toBe(200)
    expect(readCertificate(renewed.certificate)?.authorityKeyId).not.toBe(readCertificate(gateway.certificate)?.authorityKeyId)
    await report(endpoint, 2, { os: linux('13.0') })
    await listening.next(has('changed'))
    expect(listening.frames.some(has('bye'))).toBe(false)
    const lists = await worker.fetch(new Request(`${ORIGIN}${fabric.revocationList.path}?format=pem`))
    expect(new TextDecoder().decode(await lists.arrayBuffer()).match(/BEGIN X509 CRL/g)?.length).toBe(before.length + 1)
  })
})
