// How a gateway comes into the fabric and how it is put out, through the front door.
import { beforeEach, describe, expect, it } from 'vitest'
import { env, exports } from 'cloudflare:workers'
import { readCertificate, trustAuthority } from '../../../identity/certificate.ts'
import { openDocument } from '../../../identity/document.ts'
import { generateKey, secretHash } from '../../../identity/keys.ts'
import { createCsr } from '../../../identity/request.ts'
import * as fabric from '../../../protocol/operations/fabric.ts'
import { listGateways } from '../../../workers/flows/describe-gateway.ts'
import { authoriseGateway, deauthoriseGateway } from '../../../workers/flows/gateways.ts'
import { makeContext } from '../../../workers/context.ts'
import { readConfig, type Env } from '../../../workers/env.ts'
import { admin, der, ORIGIN, send } from '../ems.ts'
import { by, dataOf, greeted, has, init, INIT, joined, messageOf, proved, update, updateAuth } from '../gateway.ts'

const { default: worker } = exports as unknown as { default: { fetch(request: Request): Promise<Response> } }
const real = env as unknown as Env
const { DB } = real
const context = () => makeContext(real, readConfig(real), new Request('https://ems.test/'), { waitUntil: () => undefined })
const SYSINFO = '/api/v1/report/fct/sysinfo'
const authorities = async () => Promise.all(((await admin('GET', '/authorities')).json as { items: { certificate: string }[] }).items.map(({ certificate }) => trustAuthority(certificate)))

beforeEach(async () => { await DB.prepare('DELETE FROM gateways').run() })

describe('a gateway', () => {
  it('is pending until the fingerprint it shows is authorised, then has a certificate with its serial', async () => {
    const keys = await generateKey()
    const asked = await init(keys)
    expect(fabric.joinInit.reply.safeParse(asked.json).success).toBe(true)
    const { serial, state, fingerprint, certificate } = dataOf(asked) as Record<string, string>
    expect([state, certificate]).toEqual(['pending', undefined])
    await expect(authoriseGateway(context(), serial ?? '', 'AA:BB')).rejects.toMatchObject({ code: 'conflict' })
    expect(await authoriseGateway(context(), serial ?? '', fingerprint ?? '')).toMatchObject({ serial, state: 'authorised' })
    const told = dataOf(await init(keys)) as Record<string, string>
    expect([told.serial, told.state]).toEqual([serial, 'authorised'])
    const info = readCertificate(der(told.certificate))
    expect([info?.commonName, info?.purpose]).toEqual([serial, 'gateway'])
    expect((await openDocument(told.authorities ?? '', { kind: 'authorities', to: serial ?? '', authorities: await authorities(), now: Date.now() })).ok).toBe(true)
  })
  it('asking with a key that is not the one of its request, or unsigned, is refused', async () => {
    const other = await createCsr(await generateKey(), 'edge')
    expect((await init(await generateKey(), { csr: other })).json.problem).toMatchObject({ code: 'bad_signature' })
    expect((await send('POST', INIT, { body: { serial_number: 'edge', csr: other } })).status).toBe(401)
    expect((await DB.prepare('SELECT count(*) AS n FROM gateways').first<{ n: number }>())?.n).toBe(0)
  })
  it('with a join code is authorised at once; the code is good for one key, which may ask again', async () => {
    const code = 'A'.repeat(43)
    await DB.prepare('INSERT INTO join_codes (id, code_hash, name, expires_at, created_at) VALUES (?, ?, \'edge\', ?, 0)').bind(crypto.randomUUID(), await secretHash(code), Date.now() + 60_000).run()
    const keys = await generateKey()
    const [first, second] = [await init(keys, { join_code: code }), await init(keys, { join_code: code })]
    expect([dataOf(first).state, dataOf(second).certificate]).toEqual(['authorised', dataOf(first).certificate])
    expect((await init(await generateKey(), { join_code: code })).json.problem).toMatchObject({ code: 'invitation_refused' })
  })
  it('is one of a hundred that may wait', async () => {
    const insert = DB.prepare('INSERT INTO gateways (serial, name, state, reason, key_hash, fingerprint, csr, joined_at) VALUES (?, \'x\', \'pending\', \'\', ?, \'\', \'\', ?)')
    await DB.batch(Array.from({ length: 100 }, (_, n) => insert.bind(`SPGW${String(n).padStart(12, '0')}`, `key ${n}`, Date.now())))
    expect((await init(await generateKey())).status).toBe(429)
    await DB.prepare('UPDATE gateways SET joined_at = 1').run()
    expect((await init(await generateKey())).status).toBe(200)
  })
  it('that was de-authorised is cut at once, refused from then on, and may be let in again', async () => {
    const gateway = await joined()
    const { listening } = await greeted(gateway)
    await deauthoriseGateway(context(), gateway.serial, 'stolen')
    expect(messageOf(await listening.next(has('authorisation')), 'authorisation')).toMatchObject({ state: 'denied', reason: 'stolen' })
    expect(messageOf(await listening.next(has('bye')), 'bye')?.reason).toBe('deauthorised')
    expect(await listening.closed).toBe(4000)
    expect((await by(gateway, 'GET', SYSINFO)).json.result).toMatchObject({ retval: -2 })
    expect(dataOf(await init(gateway.keys))).toMatchObject({ state: 'denied', reason: 'stolen' })
    await updateAuth(gateway.serial, true)
    const again = { ...gateway, certificate: der(dataOf(await init(gateway.keys)).certificate) }
    expect((await by(again, 'GET', SYSINFO)).status).toBe(200)
    expect((await by(gateway, 'GET', SYSINFO)).status).toBe(401)
  })
  it('renews: both certificates are good until the new one is used, and a lost reply gives the same again', async () => {
    const gateway = await joined()
    const keys = await generateKey()
    const renew = async () => by(gateway, 'POST', '/api/v1/fabric/renew', { csr: await createCsr(keys, gateway.serial) })
    const [first, second] = [await renew(), await renew()]
    expect(fabric.renewGateway.reply.safeParse(first.json).success).toBe(true)
    expect(second.json.certificate).toBe(first.json.certificate)
    const renewed = { serial: gateway.serial, keys, certificate: der(first.json.certificate) }
    expect((await by(gateway, 'GET', SYSINFO)).status).toBe(200)
    const socket = await proved(renewed)
    expect((await by(renewed, 'GET', SYSINFO)).status).toBe(200)
    expect((await by(gateway, 'GET', SYSINFO)).status).toBe(401)
    socket.socket.close()
  })
})

describe('a root gateway', () => {
  it('vouches for pending members, who get at most what it has itself, and takes it back', async () => {
    const [root, keys] = [await joined(), await generateKey()]
    const { serial } = dataOf(await init(keys)) as { serial: string }
    const vouch = (authenticate: string) => by(root, 'POST', '/api/v1/fabric_device_auth/fortigate', { fortigates: { [serial]: { authenticate } } })
    expect((await vouch('accept')).status).toBe(403)
    await update(root.serial, { is_root: true, share_tag_types: [1] })
    const accepted = await vouch('accept')
    expect(fabric.joinApprove.reply.safeParse(accepted.json).success).toBe(true)
    expect(dataOf(accepted)).toEqual({ authorized: [serial], deauthorized: [] })
    const { items } = await listGateways(context(), { limit: 10 })
    expect(items.find((each) => each.serial === serial)).toMatchObject({ state: 'authorised', shareTagTypes: [1] })
    expect(dataOf(await vouch('deny'))).toEqual({ authorized: [], deauthorized: [serial] })
  })
  it('cannot disconnect a gateway that it did not vouch for; a gateway can leave', async () => {
    const [one, other] = [await joined(), await joined()]
    expect((await by(one, 'POST', '/api/v1/fabric_device_auth/disconnect', { fgt_sns: [other.serial] })).status).toBe(404)
    expect((await by(one, 'POST', '/api/v1/fabric_device_auth/disconnect', { fgt_sns: [one.serial] })).status).toBe(200)
    expect((await by(one, 'GET', SYSINFO)).status).not.toBe(200)
  })
})

describe('the EMS', () => {
  it('says who it is to anybody, each answer by its schema', async () => {
    for (const operation of [fabric.capabilities, fabric.serialNumber, fabric.fabricId, fabric.version, fabric.publicAddress, fabric.websocketPort]) {
      const { status, json } = await send('GET', operation.path)
      expect([operation.id, status, operation.reply.safeParse(json).success]).toEqual([operation.id, 200, true])
    }
    const pem = await worker.fetch(new Request(`${ORIGIN}${fabric.downloadAuthorities.path}`))
    expect(new TextDecoder().decode(await pem.arrayBuffer())).toMatch(/^-----BEGIN CERTIFICATE-----/)
  })
})
