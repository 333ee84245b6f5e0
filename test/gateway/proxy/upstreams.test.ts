import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type RequestListener } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { createLocalJWKSet, decodeJwt, jwtVerify, type JSONWebKeySet, type JWTPayload } from 'jose'
import { afterEach, describe, expect, it } from 'vitest'
import { createAuthority } from '../../../identity/authority.ts'
import { gatewayTlsName } from '../../../protocol/certificates.ts'
import type { VerifiedUser } from '../../../protocol/identity.ts'
import { BAD_TAG, GATEWAY, OK_TAG, UID, ask, cleanUp, heldClock, issue, later, listen, openHttp1, openHttp2, readUntil, record, startGate, until, userOf, type Gate } from './gate-under-test.ts'

afterEach(cleanUp)

const file = (more: string) => `services: [{name: web, protocol: https, match: [web.test], ${more}}]\npolicies: [{name: staff, services: [web], tags: {all: [compliant]}, action: allow}]`
async function serve(handle: RequestListener): Promise<{ port: number; close: () => void }> {
  const server = createServer(handle)
  const close = () => {
    server.closeAllConnections()
    server.close()
  }
  later(close)
  return { port: await listen(server), close }
}
const get = (gate: Gate, headers: Record<string, string> = {}) => ask(openHttp2(gate, gate.browser), { ':method': 'GET', ':path': '/', ':authority': 'web.test', ':scheme': 'https', ...headers })
const bodyOf = async (gate: Gate) => await (await get(gate)).body()

describe('a service with several upstreams', () => {
  it('gives a request to the least busy one', async () => {
    const held = Promise.withResolvers<void>()
    const asked: string[] = []
    const slow = (name: string) => serve((_request, response) => {
      asked.push(name)
      void held.promise.then(() => response.end(name))
    })
    const [one, two, three] = await Promise.all([slow('one'), slow('two'), slow('three')])
    const gate = await startGate(file(`upstream: [http://127.0.0.1:${one.port}, http://127.0.0.1:${two.port}, http://127.0.0.1:${three.port}]`))
    const session = openHttp2(gate, gate.browser)
    const answers = Array.from({ length: 6 }, () => ask(session, { ':method': 'GET', ':path': '/', ':authority': 'web.test', ':scheme': 'https' }))
    await until(() => asked.length === 6)
    held.resolve()
    await Promise.all(answers)
    expect(asked.toSorted()).toEqual(['one', 'one', 'three', 'three', 'two', 'two'])
  })

  it('goes on to the next when one refuses the connection, body and all', async () => {
    const echo = await serve((request, response) => void request.pipe(response))
    const gate = await startGate(file(`upstream: [http://127.0.0.1:1, http://127.0.0.1:${echo.port}]`))
    const session = openHttp2(gate, gate.browser)
    for (let round = 0; round < 3; round++) {
      const stream = session.request({ ':method': 'POST', ':path': '/', ':authority': 'web.test', ':scheme': 'https' })
      stream.end('body')
      let text = ''
      for await (const chunk of stream) text += String(chunk)
      expect(text).toBe('body')
    }
  })

  it('passes over one that says it is ill, and comes back to it', async () => {
    let well = false
    const checked = await serve((request, response) => {
      response.statusCode = request.url === '/health' && !well ? 500 : 200
      response.end('checked')
    })
    const other = await serve((request, response) => {
      response.statusCode = request.url === '/health' ? 204 : 200
      response.end('other')
    })
    const gate = await startGate(file(`upstream: [http://127.0.0.1:${checked.port}, http://127.0.0.1:${other.port}], health: {path: /health, every: 0.1, within: 10}`))
    const four = async () => (await Promise.all([bodyOf(gate), bodyOf(gate), bodyOf(gate), bodyOf(gate)])).toSorted().join()
    await until(async () => await four() === 'other,other,other,other')
    expect(await four()).toBe('other,other,other,other')
    well = true
    await until(async () => (await four()).includes('checked'))
  })

  it('keeps connections, and asks again on a new one when the kept one is dead', async () => {
    let connections = 0
    const server = createServer((_request, response) => void response.end('ok'))
    server.on('connection', () => connections++)
    later(() => {
      server.closeAllConnections()
      server.close()
    })
    const port = await listen(server)
    const gate = await startGate(file(`upstream: http://127.0.0.1:${port}`))
    expect([await bodyOf(gate), await bodyOf(gate), connections]).toEqual(['ok', 'ok', 1])
    server.closeAllConnections()
    expect([await bodyOf(gate), connections]).toEqual(['ok', 2])
  })
})

describe('an upstream over TLS', () => {
  async function secure(more: object = {}, name = GATEWAY) {
    const authority = await createAuthority({ name: 'Upstream CA', now: Date.now() })
    const own = await issue(authority, name, 'gateway')
    const server = createTlsServer({ cert: own.cert, key: own.key, ...more }, (request: IncomingMessage, response) => {
      const { CN } = (request.socket as TLSSocket).getPeerCertificate().subject ?? {}
      response.end(`hello ${String(CN ?? 'stranger')}`)
    })
    later(() => {
      server.closeAllConnections()
      server.close()
    })
    return { authority, port: await listen(server) }
  }
  const pem = (text: string) => JSON.stringify(text)
  it('must bear its name under the CA that was declared for it', async () => {
    const { authority, port } = await secure()
    const name = gatewayTlsName(GATEWAY)
    const gate = await startGate(file(`upstream: https://127.0.0.1:${port}, upstreamTls: {ca: ${pem(authority.certificatePem)}, name: ${name}}`))
    expect(await bodyOf(gate)).toBe('hello stranger')
    for (const tls of [`{ca: ${pem(authority.certificatePem)}, name: other.test}`, `{name: ${name}}`, `{ca: ${pem(authority.certificatePem)}}`, `{ca: ${pem(gate.authority.certificatePem)}, name: ${name}}`]) {
      gate.putPolicies(file(`upstream: https://127.0.0.1:${port}, upstreamTls: ${tls}`))
      const answer = await get(gate)
      expect({ status: answer.status, tls, body: JSON.parse(await answer.body()) as unknown }).toMatchObject({ status: 502, body: { reason: 'upstream-unreachable', code: '022' } })
    }
  })
  it('is shown the certificate that was declared for it', async () => {
    const clients = await createAuthority({ name: 'Client CA', now: Date.now() })
    const { authority, port } = await secure({ requestCert: true, rejectUnauthorized: true, ca: clients.certificatePem })
    const own = await issue(clients, 'SPGW00000000CAFE', 'gateway')
    const gate = await startGate('services: []\npolicies: []')
    const [cert, key] = [join(gate.directory, 'client.pem'), join(gate.directory, 'client.key')]
    writeFileSync(cert, own.cert)
    writeFileSync(key, own.key)
    const tls = `ca: ${pem(authority.certificatePem)}, name: ${gatewayTlsName(GATEWAY)}`
    gate.putPolicies(file(`upstream: https://127.0.0.1:${port}, upstreamTls: {${tls}, certificateFile: ${cert}, keyFile: ${key}}`))
    await until(async () => await bodyOf(gate) === 'hello SPGW00000000CAFE')
    gate.putPolicies(file(`upstream: https://127.0.0.1:${port}, upstreamTls: {${tls}}`))
    await until(async () => (await get(gate)).status === 502)
  })
})

describe('what an upstream is told of the device', () => {
  it('is signed, can be checked by the published keys, and is said by the gateway alone', async () => {
    let seen: IncomingMessage['headers'] = {}
    const { port } = await serve((request, response) => {
      seen = request.headers
      response.end()
    })
    const gate = await startGate(file(`upstream: http://127.0.0.1:${port}`))
    gate.putTags([OK_TAG, BAD_TAG])
    await get(gate, { 'sallyport-assertion': 'forged', 'sallyport-device-tags': 'forged', 'sallyport_device_tags': 'forged', 'x-forwarded-host': 'forged' })
    expect(seen).toMatchObject({ 'sallyport-device-id': UID, 'sallyport-device-tags': 'compliant,infected', 'x-forwarded-host': 'web.test' })
    expect(JSON.stringify(seen)).not.toContain('forged')
    expect((await gate.audit.find(String(seen['sallyport-decision'])))?.allowed).toBe(true)
    // The keys are public: no certificate is shown.
    const keys = await ask(openHttp2(gate, null), { ':method': 'GET', ':path': '/.well-known/sallyport/jwks.json', ':authority': 'gateway.example.com', ':scheme': 'https' })
    const verified = await jwtVerify(String(seen['sallyport-assertion']), createLocalJWKSet(JSON.parse(await keys.body()) as JSONWebKeySet), { issuer: GATEWAY, audience: 'web', algorithms: ['ES256'] })
    expect(verified.payload).toMatchObject({ sub: UID, tags: ['compliant', 'infected'], certificate: gate.browser.serial })
    expect((verified.payload.exp ?? 0) - (verified.payload.iat ?? 0)).toBeLessThanOrEqual(300)
  })
  it('says who uses it, for as long as that is vouched for', async () => {
    let seen: IncomingMessage['headers'] = {}
    const { port } = await serve((request, response) => {
      seen = request.headers
      response.end()
    })
    const clock = heldClock(Math.floor(Date.now() / 1000) * 1000)
    const gate = await startGate(file(`upstream: http://127.0.0.1:${port}`), clock)
    const forged = { 'sallyport-user': 'root', 'sallyport_user': 'root', 'sallyport-user-groups': 'forged', 'sallyport_user_groups': 'forged' }
    const session = openHttp2(gate, gate.browser)
    const told = async (user?: VerifiedUser): Promise<JWTPayload & { user?: object }> => {
      gate.change({ endpoints: new Map([[UID, record(UID, [gate.browser], user === undefined ? {} : { user })]]) })
      expect((await ask(session, { ':method': 'GET', ':path': '/', ':authority': 'web.test', ':scheme': 'https', ...forged })).status).toBe(200)
      return decodeJwt(String(seen['sallyport-assertion']))
    }
    const headers = () => [seen['sallyport-user'], seen['sallyport-user-groups'], seen['sallyport_user'], seen['sallyport_user_groups']]
    const now = clock.now()
    const alice = userOf('alice@corp.test', { subject: 's-1', name: 'Alice', groups: ['ops', 'Geschäft, Süd', '100%'], authenticatedAt: now - 60_000, expiresAt: now + 20_000 })
    expect(await told(alice)).toMatchObject({ sub: UID, exp: (now + 20_000) / 1000, user: { iss: 'https://idp.test', sub: 's-1', email: 'alice@corp.test', name: 'Alice', groups: alice.groups, auth_time: (now - 60_000) / 1000, exp: (now + 20_000) / 1000 } })
    expect(headers()).toEqual(['alice@corp.test', 'ops,Gesch%C3%A4ft%2C%20S%C3%BCd,100%25', undefined, undefined])
    expect(String(seen['sallyport-user-groups']).split(',').map(decodeURIComponent)).toEqual(alice.groups)
    // Without news, at the very end of it.
    clock.advance(20_000)
    expect((await ask(session, { ':method': 'GET', ':path': '/', ':authority': 'web.test', ':scheme': 'https', ...forged })).status).toBe(200)
    expect([decodeJwt(String(seen['sallyport-assertion']))['user'], ...headers()]).toEqual(Array(5).fill(undefined))
    // Another user of the same device, on the same connection: no word of the one before.
    expect((await told(userOf('bob@corp.test', { subject: 'Bjørn|7', email: undefined }))).user).toEqual({ iss: 'https://idp.test', sub: 'Bjørn|7', auth_time: expect.any(Number) as number })
    expect(headers()).toEqual(['Bj%C3%B8rn|7', undefined, undefined, undefined])
    // Nobody verified that address, and whoever reads the header would take it for one.
    expect([(await told(userOf('bob@corp.test', { subject: 'alice@corp.test', email: undefined }))).user, ...headers()]).toEqual([expect.objectContaining({ sub: 'alice@corp.test' }), ...Array<undefined>(4).fill(undefined)])
    expect([(await told()).user, ...headers()]).toEqual(Array(5).fill(undefined))
    // More groups than a header carries are cut, and that is said.
    const many = Array.from({ length: 256 }, (_, n) => `group-${String(n).padStart(30, '0')}`)
    const { user } = await told(userOf('alice@corp.test', { groups: many }))
    expect(user).toMatchObject({ groups: many.slice(0, 83), more_groups: true })
    expect(String(seen['sallyport-user-groups']).split(',')).toEqual(many.slice(0, 83))
  })
  it('is nothing when there is none', async () => {
    let seen: IncomingMessage['headers'] = {}
    const { port } = await serve((request, response) => {
      seen = request.headers
      response.end()
    })
    const gate = await startGate(`noCertificate: {mode: anonymous}\nservices: [{name: web, protocol: https, match: [web.test], upstream: http://127.0.0.1:${port}, anonymous: true}]\npolicies: [{name: all, services: [web], action: allow}]`)
    const answer = await ask(openHttp2(gate, null), { ':method': 'GET', ':path': '/', ':authority': 'web.test', ':scheme': 'https', 'sallyport-device-id': UID })
    expect(answer.status).toBe(200)
    expect(Object.keys(seen).filter((name) => name.startsWith('sallyport-'))).toEqual(['sallyport-decision'])
  })
})

describe('a request is bounded', () => {
  it('in size, announced or not, over both protocols', async () => {
    let bytes = 0
    const { port } = await serve((request, response) => {
      request.on('data', (chunk: Uint8Array) => {
        bytes += chunk.length
      })
      request.on('end', () => response.end('taken'))
    })
    const gate = await startGate(file(`upstream: http://127.0.0.1:${port}, limits: {requestBytes: 1000}`))
    const session = openHttp2(gate, gate.browser)
    for (const headers of [{}, { 'content-length': '2000' }]) {
      const stream = session.request({ ':method': 'POST', ':path': '/', ':authority': 'web.test', ':scheme': 'https', ...headers })
      stream.on('error', () => stream.destroy())
      stream.end(Buffer.alloc(2_000))
      const [head] = await once(stream, 'response') as [Record<string, unknown>]
      expect(head[':status']).toBe(413)
    }
    for (const head of ['Content-Length: 2000\r\n\r\n', `Transfer-Encoding: chunked\r\n\r\n7d0\r\n${'x'.repeat(2_000)}\r\n0\r\n\r\n`]) {
      const socket = await openHttp1(gate, gate.browser)
      const read = readUntil(socket, '\r\n\r\n')
      socket.write(`POST / HTTP/1.1\r\nHost: web.test\r\n${head}`)
      expect(await read).toMatch(/^HTTP\/1.1 413 /)
    }
    expect(bytes).toBeLessThanOrEqual(1_000)
  })
  it('in time', async () => {
    const { port } = await serve((request, response) => void request.on('end', () => response.end()).resume())
    const gate = await startGate(file(`upstream: http://127.0.0.1:${port}, limits: {requestSeconds: 1}`))
    const socket = await openHttp1(gate, gate.browser)
    const read = readUntil(socket, '\r\n\r\n')
    socket.write('POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 10\r\n\r\nx')
    expect(await read).toMatch(/^HTTP\/1.1 408 /)
  })
})
