// Address lists over real HTTPS: what pollers read, what they are spared, and what nobody learns without a token.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { IncomingHttpHeaders } from 'node:http'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createAddressLists } from '../../../gateway/firewall/address-lists.ts'
import { createAllowance } from '../../../gateway/firewall/allowance.ts'
import { createListAnswers } from '../../../gateway/firewall/list-requests.ts'
import { createToken, createTokenCheck, readTokens, revokeToken } from '../../../gateway/firewall/list-tokens.ts'
import { NeighbourTable } from '../../../gateway/firewall/neighbour-table.ts'
import { serveLists, type ListServer } from '../../../gateway/firewall/serve-lists.ts'
import { createTaggedAddresses, type TaggedAddresses } from '../../../gateway/firewall/tagged-addresses.ts'
import { openAddressList } from '../../../identity/address-list.ts'
import { createAuthority, issueCertificate, type Authority } from '../../../identity/authority.ts'
import { trustAuthority } from '../../../identity/certificate.ts'
import { exportPrivateKey, exportPublicKey, generateKey } from '../../../identity/keys.ts'
import { silentLog } from '../../../node/logging.ts'
import { gatewayTlsName } from '../../../protocol/certificates.ts'
import { heldClock, type HeldClock } from './held-clock.ts'
import { holdWorld, laptopRecord, type HeldWorld } from './held-world.ts'

const SERIAL = 'SPGW0123456789AB'
let directory: string
let token: string
let world: HeldWorld
let clock: HeldClock
let addresses: TaggedAddresses
let authority: Authority
let gatewayKeys: CryptoKeyPair
let certificatePem: string
let server: ListServer

interface Got { status: number; headers: IncomingHttpHeaders; body: string }
function get(path: string, { authorization, ...more }: { method?: string; authorization?: string | null; headers?: Record<string, string>; body?: string } = {}): Promise<Got> {
  const credentials = authorization === null ? {} : { authorization: authorization ?? `Bearer ${token}` }
  return new Promise((resolve, reject) => {
    const asked = request({
      host: '127.0.0.1', port: server.port, path, method: more.method ?? 'GET', ca: authority.certificatePem, servername: gatewayTlsName(SERIAL), agent: false, headers: { ...credentials, ...more.headers },
    }, (response) => {
      let body = ''
      response.on('data', (chunk: Buffer) => {
        body += chunk.toString()
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }))
    })
    asked.on('error', reject)
    asked.end(more.body)
  })
}

const macOf = (number: number) => `02:00:00:00:00:${number.toString(16).padStart(2, '0')}`
const ips = ['10.0.0.10', '10.0.0.9', '9.255.0.1', 'fd00::10', 'fd00::9']

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'lists-'))
  clock = heldClock(Date.now())
  world = holdWorld(clock.now())
  const table = new NeighbourTable((address, macs) => addresses.neighbourChanged(address, macs))
  addresses = createTaggedAddresses({ world, neighbours: () => table, onSight: () => {}, sightMs: 120_000, staleMs: 180_000, timers: clock.timers, now: clock.now, log: silentLog() })
  world.put(...ips.map((ip, index) => laptopRecord(index + 1, { addresses: [ip, '10.0.0.200'], macs: [macOf(index + 1)] })))
  ips.forEach((address, index) => table.apply({ address, link: 'lan', mac: macOf(index + 1), state: 'PERMANENT' }, clock.now()))
  addresses.refreshAll()
  authority = await createAuthority({ name: 'EMS of the test', now: Date.now() })
  gatewayKeys = await generateKey(true)
  const issued = await issueCertificate({ authority, publicKeySpki: await exportPublicKey(gatewayKeys.publicKey), purpose: 'gateway', commonName: SERIAL, now: Date.now() })
  certificatePem = issued.pem
  token = await createToken(directory, 'edge firewall', Date.now()) ?? ''
  const lists = createAddressLists({ world, addresses, serial: SERIAL, now: clock.now, signer: () => ({ privateKey: gatewayKeys.privateKey, certificateDer: issued.der }) })
  server = await serveLists({
    listen: { host: '127.0.0.1', port: 0 }, identity: { certPem: certificatePem, keyPem: await exportPrivateKey(gatewayKeys.privateKey) }, log: silentLog(),
    answer: createListAnswers({ lists, serial: SERIAL, nameOf: createTokenCheck(directory), now: clock.now }),
  })
})
afterEach(async () => {
  await server.close()
  addresses.close()
  await rm(directory, { recursive: true })
})

describe('a list', () => {
  it('is plain text, one address a line, sorted as numbers, with a heading that names whose sight it is', async () => {
    const { status, headers, body } = await get('/lists/tags/healthy')
    expect(status).toBe(200)
    expect(headers['content-type']).toBe('text/plain; charset=utf-8')
    expect(body).toBe(`# Sallyport address list\n# tag: healthy\n# seen by gateway: ${SERIAL}\n# state: current\n9.255.0.1\n10.0.0.9\n10.0.0.10\nfd00::9\nfd00::10\n`)
  })

  it.each([
    ['?family=ip4&comments=no', '9.255.0.1\n10.0.0.9\n10.0.0.10\n'],
    ['?family=ip6&comments=no&cidr=yes', 'fd00::9/128\nfd00::10/128\n'],
    ['?family=ip4&comments=no&cidr=yes', '9.255.0.1/32\n10.0.0.9/32\n10.0.0.10/32\n'],
    ['?family=mac&comments=no&cidr=yes', [1, 2, 3, 4, 5].map((number) => `${macOf(number)}\n`).join('')],
  ])('comes in the form that is asked for: %s', async (query, body) => expect((await get(`/lists/tags/healthy${query}`)).body).toBe(body))

  it('is had by tag name, by the gateway\'s serial, and found in the directory', async () => {
    expect((await get('/lists')).body).toBe('/lists/tags/Finance%20_EU_\n/lists/tags/healthy\n')
    expect((await get('/lists/tags/Finance%20_EU_?comments=no')).body).toBe('')
    expect((await get(`/lists/devices/${SERIAL}/tags/healthy`)).body).toBe((await get('/lists/tags/healthy')).body)
    for (const path of ['/lists/devices/SPGW00000000000F/tags/healthy', '/lists/tags/', '/lists/tags/..%2f..%2fetc', '/lists/tags/%zz', '/lists/tags/a/b', '/', '/metrics']) expect((await get(path)).status, path).toBe(404)
    for (const query of ['?family=ip5', '?what=1', '?comments=maybe']) expect((await get(`/lists/tags/healthy${query}`)).status).toBe(400)
  })

  it('is not sent again while nothing changed', async () => {
    const first = await get('/lists/tags/healthy')
    const etag = String(first.headers.etag)
    expect(etag).toMatch(/^"[\w-]{27}"$/)
    for (const header of [etag, `W/${etag}`, `"other", ${etag}`, '*']) {
      const again = await get('/lists/tags/healthy', { headers: { 'if-none-match': header } })
      expect([again.status, again.body, again.headers.etag]).toEqual([304, '', etag])
    }
    world.put(laptopRecord(1, { tags: new Map(), addresses: [ips[0] ?? ''], macs: [macOf(1)] }))
    const changed = await get('/lists/tags/healthy', { headers: { 'if-none-match': etag } })
    expect(changed.status).toBe(200)
    expect(changed.body).not.toContain('10.0.0.10\n')
    const head = await get('/lists/tags/healthy', { method: 'HEAD' })
    expect([head.status, head.body, head.headers.etag]).toEqual([200, '', changed.headers.etag])
  })

  it('is empty, never an error, when this gateway may vouch for nobody: pollers keep their last copy on errors', async () => {
    clock.advance(180_000)
    expect((await get('/lists/tags/healthy')).body).toContain('# state: stale\n')
    expect((await get('/lists/tags/healthy?comments=no')).body).toBe('')
    world.forget()
    expect(await get('/lists/tags/healthy?comments=no')).toMatchObject({ status: 200, body: '' })
    world.change({ currentAt: clock.now() }, new Set())
    expect((await get('/lists/tags/healthy')).body).toContain('# state: no-such-tag\n')
  })
})

describe('a signed list', () => {
  it('is verified by the gateway\'s certificate, about its own sight, and only for a while', async () => {
    const { status, headers, body } = await get('/lists/tags/healthy/signed?family=ip4')
    expect([status, headers['content-type']]).toEqual([200, 'application/jose'])
    const authorities = [await trustAuthority(authority.certificatePem)]
    const opened = await openAddressList(body, { authorities, now: clock.now() })
    expect(opened).toMatchObject({ ok: true, list: { gateway: SERIAL, tag: 'healthy', family: 'ip4', state: 'current', addresses: ['9.255.0.1', '10.0.0.9', '10.0.0.10'] } })
    if (!opened.ok) return
    expect(await openAddressList(body, { authorities, now: opened.list.until })).toEqual({ ok: false, reason: 'expired' })
    const stranger = await createAuthority({ name: 'Another', now: Date.now() })
    expect(await openAddressList(body, { authorities: [await trustAuthority(stranger.certificatePem)], now: clock.now() })).toEqual({ ok: false, reason: 'foreign' })
    const [head = '', payload = '', signature = ''] = body.split('.')
    const forged = Buffer.from(Buffer.from(payload, 'base64url').toString().replace('9.255.0.1', '9.255.0.2')).toString('base64url')
    expect(await openAddressList(`${head}.${forged}.${signature}`, { authorities, now: clock.now() })).toEqual({ ok: false, reason: 'altered' })
    expect(await openAddressList('nonsense', { authorities, now: clock.now() })).toEqual({ ok: false, reason: 'malformed' })
  })

  it('is the same for a minute, then signed anew', async () => {
    clock.advance(60_000 - clock.now() % 60_000)
    const first = await get('/lists/tags/healthy/signed')
    clock.advance(59_000)
    const header = { 'if-none-match': String(first.headers.etag) }
    expect((await get('/lists/tags/healthy/signed')).body).toBe(first.body)
    expect((await get('/lists/tags/healthy/signed', { headers: header })).status).toBe(304)
    clock.advance(1_000)
    expect((await get('/lists/tags/healthy/signed', { headers: header })).status).toBe(200)
  })

  it('is not taken from a laptop, nor from one gateway for another', async () => {
    const authorities = [await trustAuthority(authority.certificatePem)]
    for (const [purpose, commonName] of [['agent', 'a'.repeat(32)], ['gateway', 'SPGW00000000000F']] as const) {
      const issued = await issueCertificate({ authority, publicKeySpki: await exportPublicKey(gatewayKeys.publicKey), purpose, commonName, now: Date.now() })
      const lists = createAddressLists({ world, addresses, serial: SERIAL, now: clock.now, signer: () => ({ privateKey: gatewayKeys.privateKey, certificateDer: issued.der }) })
      const { body } = await lists.signed({ tag: 'healthy', family: 'ip', comments: false, cidr: false })
      expect(await openAddressList(body, { authorities, now: clock.now() })).toEqual({ ok: false, reason: 'foreign' })
    }
  })
})

describe('a poller', () => {
  it('learns nothing without a token, whatever it asks for', async () => {
    const answers: string[] = []
    for (const path of ['/lists', '/lists/tags/healthy', '/lists/tags/nothing', '/', '/lists/tags/healthy/signed']) {
      const { status, body, headers } = await get(path, { authorization: null })
      answers.push(`${status} ${body} ${String(headers.etag)}`)
    }
    expect(new Set(answers).size).toBe(1)
    expect(answers[0]).toMatch(/^401 /)
    for (const authorization of [`Bearer ${token}x`, `Bearer ${token.slice(0, -1)}`, 'Bearer ', 'Basic !!!', `Digest ${token}`]) expect((await get('/lists', { authorization })).status).toBe(401)
    expect((await get(`/lists?token=${token}`, { authorization: null })).status).toBe(429)
  })

  it('may show its token as the password of basic authentication', async () => {
    const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`
    expect((await get('/lists', { authorization: basic(`firewall:${token}`) })).status).toBe(200)
    expect((await get('/lists', { authorization: basic(`firewall:wrong:${token}`) })).status).toBe(401)
  })

  it('is refused from the next request on when its token was revoked, and others are not', async () => {
    const other = await createToken(directory, 'other', Date.now()) ?? ''
    expect((await get('/lists')).status).toBe(200)
    expect(await revokeToken(directory, 'edge firewall')).toBe(true)
    expect((await get('/lists')).status).toBe(401)
    expect((await get('/lists', { authorization: `Bearer ${other}` })).status).toBe(200)
    expect(await revokeToken(directory, 'edge firewall')).toBe(false)
  })

  it('is told to wait when it asks too often, by token', async () => {
    const other = await createToken(directory, 'other', Date.now()) ?? ''
    const statuses: number[] = []
    for (let count = 0; count < 61; count++) statuses.push((await get('/lists/tags/healthy?comments=no')).status)
    expect(statuses.filter((status) => status === 200)).toHaveLength(60)
    const refused = await get('/lists')
    expect([refused.status, refused.headers['retry-after']]).toEqual([429, '1'])
    expect((await get('/lists', { authorization: `Bearer ${other}` })).status).toBe(200)
    clock.advance(1_000)
    expect((await get('/lists')).status).toBe(200)
  })

  it('only reads, and sends nothing', async () => {
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) expect(await get('/lists', { method })).toMatchObject({ status: 405, headers: { allow: 'GET, HEAD' } })
    expect(await get('/lists', { method: 'POST', body: 'x'.repeat(1_000_000) }).catch((cause: NodeJS.ErrnoException) => ({ status: cause.code }))).toMatchObject({ status: expect.toSatisfy((status) => [405, 'ECONNRESET', 'EPIPE'].includes(status as string)) as number })
    expect((await get('/lists', { headers: { 'x-long': 'x'.repeat(10_000) } })).status).toBe(431)
  })

  it('is refused, and the failure said, when the file of tokens is damaged', async () => {
    await writeFile(join(directory, 'list-tokens.json'), '{')
    expect((await get('/lists')).status).toBe(500)
  })
})

describe('the file of tokens', () => {
  it('holds no token, and one of each name', async () => {
    expect(JSON.stringify(await readTokens(directory))).not.toContain(token.slice(5))
    expect(await createToken(directory, 'edge firewall', 1)).toBeNull()
    expect(token).toMatch(/^slt1_[\w-]{43}$/)
  })
})

describe('an allowance', () => {
  it('remembers a bounded number of askers, those who ask longest', () => {
    const allowance = createAllowance({ burst: 1, perSecond: 0.1, now: () => 0 })
    expect(allowance.take('a')).toBe(0)
    expect(allowance.take('a')).toBe(10)
    for (let count = 0; count < 10_000; count++) allowance.take(`stranger ${count}`)
    expect(allowance.take('a')).toBe(0)
  })
})
