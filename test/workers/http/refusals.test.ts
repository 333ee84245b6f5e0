// Each way in which a request may not be what it says, by the front door: refused with its own code, and before the database is asked where cryptography alone can tell.
import { beforeAll, describe, expect, it } from 'vitest'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { createAuthority, issueCertificate } from '../../../identity/authority.ts'
import { toBase64, utf8, type Bytes } from '../../../identity/encoding.ts'
import { exportPublicKey, generateKey } from '../../../identity/keys.ts'
import { createCsr } from '../../../identity/request.ts'
import { signRequest } from '../../../identity/request-signature.ts'
import type { Purpose } from '../../../protocol/certificates.ts'
import type { ToAgent } from '../../../protocol/channel.ts'
import { activeAuthority } from '../../../workers/flows/authority.ts'
import worker from '../../../workers/index.ts'
import { admin, answerOf, enrolled, joinedByCode, ORIGIN, requestOf, send, signatureOf, TOKEN, type Endpoint } from '../ems.ts'
import { answerTo, CHANNEL, listen, open } from '../gateway.ts'
import { meter } from '../meter.ts'
import { contextOf, envWith, real } from '../standing.ts'

const DAY = 86_400_000
const path = '/api/v1/endpoint/report'
const body = { sequence: 1, sections: {}, hashes: {} }
const metered = meter(real.DB)

/** Status, code and what the database was asked. */
async function ask(request: Request) {
  const context = createExecutionContext()
  metered.reset()
  const { status, code, json } = await answerOf(await worker.fetch(request, envWith({ DB: metered.database }), context))
  const { queries } = metered.tally
  await waitOnExecutionContext(context)
  return { status, code, json, queries }
}
const certify = async (authority: Awaited<ReturnType<typeof activeAuthority>>, keys: CryptoKeyPair, commonName: string, purpose: Purpose = 'agent', now = Date.now()) =>
  await issueCertificate({ authority, publicKeySpki: await exportPublicKey(keys.publicKey), purpose, commonName, now })
/** Puts a certificate into the records, as if it had been issued then. */
async function record(uid: string, issued: Awaited<ReturnType<typeof certify>>, state = 'current'): Promise<Bytes> {
  await real.DB.prepare('INSERT INTO certificates (serial, uid, purpose, os_user, key_hash, pem, not_after, state, issued_at) VALUES (?, ?, \'agent\', \'\', ?, ?, ?, ?, ?)')
    .bind(issued.serial, uid, issued.publicKeyHash, issued.pem, issued.notAfter, state, issued.notBefore).run()
  return issued.der
}

describe('a request', () => {
  let endpoint: Endpoint
  let headers: Record<string, string>
  beforeAll(async () => {
    endpoint = await enrolled()
    headers = await signatureOf(endpoint, 'POST', path, body)
    // Warm: from here on the isolate knows the CA.
    expect((await send('POST', path, { body, headers: await signatureOf(endpoint, 'POST', path, body) })).status).toBe(200)
  })
  const refused = async (changes: { method?: string; path?: string; body?: unknown; headers?: Record<string, string> | Headers } = {}) => {
    const { code, queries } = await ask(requestOf(changes.method ?? 'POST', changes.path ?? path, { body: changes.body ?? body, headers: changes.headers ?? headers }))
    return [code, queries]
  }
  const by = (signer: Partial<Endpoint>, changes: { now?: number } = {}) => signatureOf({ ...endpoint, ...signer }, 'POST', path, body, changes)
  const without = (name: string) => Object.fromEntries(Object.entries(headers).filter(([each]) => each !== name))

  it.each(['signature', 'signature-input', 'sallyport-certificate', 'content-digest'])('without its %s is unsigned', async (name) => expect(await refused({ headers: without(name) })).toEqual(['unsigned', 0]))
  it('signed by another key is refused', async () => expect(await refused({ headers: await by({ keys: await generateKey() }) })).toEqual(['bad_signature', 0]))
  it('of a foreign CA for the right UID is refused', async () => {
    const foreign = await createAuthority({ name: 'Sallyport EMS CA', now: Date.now() })
    // Another isolate may have rolled the CA over: the records are asked once, and not again for a second.
    expect((await refused({ headers: await by({ certificate: (await certify(foreign, endpoint.keys, endpoint.uid)).der }) }))[0]).toBe('bad_certificate')
  })
  it.each(['browser', 'gateway', 'signing'] as const)('of a certificate for %s is refused', async (purpose) => {
    const { der: certificate } = await certify(await activeAuthority(contextOf(real)), endpoint.keys, endpoint.uid, purpose)
    expect(await refused({ headers: await by({ certificate }) })).toEqual(['wrong_purpose', 0])
  })
  it('of a gateway is no endpoint\'s, and an endpoint\'s no gateway\'s', async () => {
    const gateway = await joinedByCode()
    expect(await refused({ headers: await signatureOf({ ...gateway, uid: gateway.serial }, 'POST', path, body) })).toEqual(['wrong_purpose', 0])
    const status = '/api/v1/report/fct/status'
    const { json, queries } = await ask(requestOf('GET', status, { headers: await signatureOf(endpoint, 'GET', status) }))
    expect([(json.problem as { code: string }).code, queries]).toEqual(['wrong_purpose', 0])
  })
  it('whose certificate was swapped for another of ours is refused', async () => {
    const other = await enrolled()
    expect(await refused({ headers: { ...headers, 'sallyport-certificate': `:${toBase64(other.certificate)}:` } })).toEqual(['bad_signature', 0])
  })
  it('of a certificate of ours that is not in the records, or stands there for another UID or key, is refused', async () => {
    const authority = await activeAuthority(contextOf(real))
    const [own, other, stranger] = [await enrolled(), await enrolled(), await generateKey()]
    expect((await refused({ headers: await by({ certificate: (await certify(authority, endpoint.keys, endpoint.uid)).der }) }))[0]).toBe('bad_certificate')
    const forOther = await record(other.uid, await certify(authority, own.keys, own.uid))
    expect((await refused({ headers: await by({ keys: own.keys, certificate: forOther }) }))[0]).toBe('bad_certificate')
    const issued = await certify(authority, stranger, own.uid)
    const otherKey = await record(own.uid, { ...issued, publicKeyHash: 'f'.repeat(64) })
    expect((await refused({ headers: await by({ keys: stranger, certificate: otherKey }) }))[0]).toBe('bad_certificate')
  })
  it('of an expired certificate is refused, but may ask for a new one for thirty days', async () => {
    const authority = await activeAuthority(contextOf(real))
    const renew = async (age: number) => {
      const [own, keys] = [await enrolled(), await generateKey()]
      const certificate = await record(own.uid, await certify(authority, own.keys, own.uid, 'agent', Date.now() - age))
      const asked = { csr: await createCsr(keys, 'x') }
      const old = { ...own, certificate }
      return [(await refused({ headers: await signatureOf(old, 'POST', path, body) }))[0], (await send('POST', '/api/v1/endpoint/renew', { body: asked, headers: await signatureOf(old, 'POST', '/api/v1/endpoint/renew', asked) })).code]
    }
    expect(await renew(31 * DAY)).toEqual(['certificate_expired', ''])
    expect(await renew(61 * DAY)).toEqual(['certificate_expired', 'certificate_expired'])
  })
  it('of a revoked certificate, or one before the last, is refused for everything; the last one before may still ask for a new one', async () => {
    const authority = await activeAuthority(contextOf(real))
    const [own, csr] = [await enrolled(), await createCsr(await generateKey(), 'x')]
    const renewed = async (state: string, issuedBefore: number) => {
      const certificate = await record(own.uid, await certify(authority, own.keys, own.uid, 'agent', Date.now() - issuedBefore), state)
      const old = { ...own, certificate }
      return [(await refused({ headers: await signatureOf(old, 'POST', path, body) }))[0], (await send('POST', '/api/v1/endpoint/renew', { body: { csr }, headers: await signatureOf(old, 'POST', '/api/v1/endpoint/renew', { csr }) })).code]
    }
    expect(await renewed('revoked', 1_000)).toEqual(['certificate_revoked', 'certificate_revoked'])
    expect(await renewed('retired', 2 * DAY)).toEqual(['certificate_revoked', ''])
    expect(await renewed('retired', 3 * DAY)).toEqual(['certificate_revoked', 'certificate_revoked'])
  })
  it.each<[string, Parameters<typeof refused>[0], string]>([
    ['body', { body: { ...body, sequence: 2 } }, 'bad_digest'],
    ['path', { path: '/api/v1/endpoint/documents' }, 'bad_signature'],
    ['query', { path: `${path}?x=1` }, 'bad_signature'],
    ['method', { method: 'PUT', path: '/api/v1/endpoint/avatar' }, 'bad_signature'],
  ])('whose %s was altered is refused', async (_, changes, code) => expect(await refused(changes)).toEqual([code, 0]))
  it('for another host is refused, by its address and by its header', async () => {
    const elsewhere = new Request(`https://other.test${path}`, { method: 'POST', headers: { ...headers, 'content-type': 'application/json' }, body: JSON.stringify(body) })
    expect(await ask(elsewhere)).toMatchObject({ code: 'bad_signature', queries: 0 })
    expect(await refused({ headers: { ...headers, host: 'other.test' } })).toEqual(['bad_signature', 0])
  })
  it('seen before is refused', async () => {
    const once = await by({})
    expect((await send('POST', path, { body, headers: once })).status).toBe(200)
    expect(await refused({ headers: once })).toEqual(['replayed', 0])
  })
  it('with a clock wrong by days, either way, is told the EMS time and works by it', async () => {
    for (const now of [Date.now() + 3 * DAY, Date.now() - 400 * DAY]) {
      const { code, json, queries } = await ask(requestOf('POST', path, { body, headers: await by({}, { now }) }))
      expect([code, queries]).toEqual(['clock_skew', 0])
      expect((await send('POST', path, { body, headers: await by({}, { now: Number(json.emsTime) }) })).status).toBe(200)
    }
  })
  it('tells nobody the time who has not proved a key', async () => {
    const forged = await by({ keys: await generateKey() }, { now: Date.now() + 3 * DAY })
    expect((await ask(requestOf('POST', path, { body, headers: forged }))).json.emsTime).toBeUndefined()
  })
  it('of a deregistered endpoint is refused with the document that says so', async () => {
    const own = await enrolled()
    await admin('POST', `/endpoints/${own.uid}/deregister`, { reason: 'left' })
    const { code, json } = await ask(requestOf('POST', path, { body, headers: await signatureOf(own, 'POST', path, body) }))
    expect([code, typeof json.document]).toEqual(['deregistered', 'string'])
    const csr = await createCsr(await generateKey(), 'x')
    expect((await send('POST', '/api/v1/endpoint/renew', { body: { csr }, headers: await signatureOf(own, 'POST', '/api/v1/endpoint/renew', { csr }) })).code).toBe('deregistered')
  })

  const doubled = (name: string, value: string): Headers => {
    const twice = new Headers(headers)
    twice.append(name, value)
    return twice
  }
  it('with a truncated, an empty or an overlong signature is refused', async () => {
    const signature = headers.signature ?? ''
    const inner = signature.slice('sallyport=:'.length, -1)
    for (const other of [inner.slice(0, -4), '', `${inner.slice(0, -2)}AA==`, toBase64(new Uint8Array(64)), toBase64(new Uint8Array(63)), toBase64(new Uint8Array(65))]) {
      expect([other, ...await refused({ headers: { ...headers, signature: `sallyport=:${other}:` } })]).toEqual([other, 'bad_signature', 0])
    }
  })
  it('with a doubled or a second signature, input, certificate or digest is refused', async () => {
    for (const [name, value] of Object.entries(headers)) expect([name, (await refused({ headers: doubled(name, value) }))[1]]).toEqual([name, 0])
    expect(await refused({ headers: doubled('signature', headers.signature ?? '') })).toEqual(['bad_signature', 0])
    expect(await refused({ headers: doubled('signature', 'other=:AAAA:') })).toEqual(['bad_signature', 0])
    expect(await refused({ headers: doubled('signature-input', (headers['signature-input'] ?? '').replace('sallyport=', 'other=')) })).toEqual(['bad_signature', 0])
    expect(await refused({ headers: doubled('sallyport-certificate', headers['sallyport-certificate'] ?? '') })).toEqual(['bad_certificate', 0])
    expect(['bad_signature', 'bad_digest']).toContain((await refused({ headers: doubled('content-digest', headers['content-digest'] ?? '') }))[0])
  })
  it('with huge headers is refused before anything is parsed', async () => {
    for (const name of Object.keys(headers)) expect([name, ...await refused({ headers: { ...headers, [name]: 'A'.repeat(8_200) } })]).toEqual([name, 'bad_signature', 0])
  })
  it('signed by a bare key is refused where there must be a certificate', async () => {
    const { keys } = endpoint
    const bare = await signRequest({ method: 'POST', url: `${ORIGIN}${path}`, body: utf8(JSON.stringify(body)), privateKey: keys.privateKey, spkiDer: await exportPublicKey(keys.publicKey), now: Date.now() })
    expect(await refused({ headers: bare })).toEqual(['unsigned', 0])
  })
  it('of whom nothing is proved is not read: its body stays where it is', async () => {
    let pulled = 0
    const stream = () => new ReadableStream({ pull: (controller) => { pulled++; controller.enqueue(new Uint8Array(1024)) } }, { highWaterMark: 0 })
    for (const each of [{}, { ...headers, 'content-type': 'application/json', 'signature': 'sallyport=:AAAA:' }]) {
      const { status } = await ask(new Request(`${ORIGIN}${path}`, { method: 'POST', headers: each, body: stream() }))
      expect(status).toBe(401)
    }
    expect((await ask(new Request(`${ORIGIN}/api/v1/admin/rule-sets`, { method: 'POST', body: stream() }))).status).toBe(401)
    expect(pulled).toBe(0)
  })
})

describe('a body', () => {
  const endless = () => {
    const told = { pulled: 0 }
    const stream = new ReadableStream({ pull: (controller) => { told.pulled += 1024; controller.enqueue(new Uint8Array(1024).fill(0x20)) } }, { highWaterMark: 0 })
    return { told, stream }
  }
  it('that says it is too large is refused for that, before anything is asked', async () => {
    const { stream, told } = endless()
    const { status, code, queries } = await ask(new Request(`${ORIGIN}${path}`, { method: 'POST', headers: { 'content-length': '2097153', 'content-type': 'application/json' }, body: stream }))
    expect([status, code, queries, told.pulled]).toEqual([413, 'too_large', 0, 0])
  })
  it('that does not say so, and does not end, is read no further than its operation takes', async () => {
    for (const [at, limit] of [['/api/v1/endpoint/enrol', 16_384], ['/api/v1/introduce', 16_384], ['/api/v1/admin/rule-sets', 131_072]] as const) {
      const { stream, told } = endless()
      const { status, queries } = await ask(new Request(`${ORIGIN}${at}`, { method: 'POST', headers: { 'content-type': 'application/json', 'authorization': `Bearer ${TOKEN}` }, body: stream }))
      expect([at, status, queries, told.pulled <= limit + 2_048]).toEqual([at, 413, 0, true])
    }
  })
})

describe('the opening of a socket', () => {
  it('that was recorded opens nothing: the request is refused, and its answer is of another challenge', async () => {
    const endpoint = await enrolled()
    const headers = { ...await signatureOf(endpoint, 'GET', CHANNEL), upgrade: 'websocket' }
    const first = await worker.fetch(new Request(`${ORIGIN}${CHANNEL}`, { headers }), real, createExecutionContext())
    if (first.webSocket === null) throw new Error('no websocket')
    const recorded = listen<ToAgent>(first.webSocket)
    const challenge = await recorded.next(({ type }) => type === 'challenge')
    const answer = JSON.stringify({ type: 'answer', signature: await answerTo(endpoint, challenge.type === 'challenge' ? challenge.challenge : '', 'agent') })
    recorded.socket.send(answer)
    expect((await recorded.next(({ type }) => type === 'welcome')).type).toBe('welcome')
    expect(await ask(new Request(`${ORIGIN}${CHANNEL}`, { headers }))).toMatchObject({ code: 'replayed', queries: 0 })
    // Even to an isolate that has not seen it, the recorded answer is worth nothing.
    const replayed = await open<ToAgent>(endpoint, CHANNEL)
    await replayed.next(({ type }) => type === 'challenge')
    replayed.socket.send(answer)
    expect(await replayed.next(({ type }) => type === 'bye')).toEqual({ type: 'bye', reason: 'bad-challenge' })
    recorded.socket.close()
  })
})

describe('a flood of strangers', () => {
  it('costs no question to the database: of 300 requests that prove nothing, and whatever they claim, two reads of the CAs at most', async () => {
    const foreign = await createAuthority({ name: 'Sallyport EMS CA', now: Date.now() })
    const [keys, known] = [await generateKey(), await enrolled()]
    const forged = { uid: known.uid, keys, certificate: (await certify(foreign, keys, known.uid)).der }
    const kinds = [
      () => Promise.resolve({}), () => signatureOf(forged, 'POST', path, body), () => signatureOf({ ...known, keys }, 'POST', path, body),
      async () => ({ ...await signatureOf(known, 'POST', path, body), 'content-digest': 'sha-256=:AAAA:' }),
    ]
    metered.reset()
    const bindings = envWith({ DB: metered.database })
    const requests = await Promise.all(Array.from({ length: 300 }, async (_, n) => requestOf('POST', path, { body, headers: await kinds[n % kinds.length]?.() ?? {} })))
    const statuses = await Promise.all(requests.map(async (request) => (await worker.fetch(request, bindings, createExecutionContext())).status))
    expect(new Set(statuses)).toEqual(new Set([401]))
    for (const [method, at, given] of [['POST', '/api/v1/introduce', { challenge: 'ab'.repeat(32) }], ['GET', '/api/v1/health', undefined], ['GET', '/api/v1/system/serial_number', undefined], ['GET', '/api/v1/ztna_certificates/download', undefined], ['GET', '/openapi.json', undefined]] as const) {
      await send(method, at, { body: given })
      for (let n = 0; n < 20; n++) expect((await worker.fetch(requestOf(method, at, { body: given }), bindings, createExecutionContext())).status).toBe(200)
    }
    expect(metered.tally.trips).toBeLessThanOrEqual(2)
  })
  it('with invented invitations asks one trip each, which reads no endpoint', async () => {
    const keys = await generateKey()
    const asked = { invitation: 'A'.repeat(43), csr: await createCsr(keys, 'x'), hostName: 'x', os: 'linux', agentVersion: '1', protocol: '7.0.0' }
    metered.reset()
    const { code } = await answerOf(await worker.fetch(requestOf('POST', '/api/v1/endpoint/enrol', { body: asked }), envWith({ DB: metered.database }), createExecutionContext()))
    expect([code, metered.tally.trips, metered.tally.rowsRead < 10]).toEqual(['invitation_refused', 1, true])
  })
})
