import { once } from 'node:events'
import { createServer } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { createAuthority } from '../../../identity/authority.ts'
import { decision, type Decision } from '../../../protocol/decisions.ts'
import { BAD_TAG, OK_TAG, OTHER, UID, cleanUp, connectTo, heldClock, issue, later, listen, openHttp1, openHttp2, readUntil, record, refused, startEcho, startGate, until } from './gate-under-test.ts'

afterEach(cleanUp)

const policies = (port: number, more = '') => `
services:
  - {name: ledger, protocol: tcp, match: [127.0.0.1, ledger.test, unlisted.test], ports: [${port}], addresses: [127.0.0.1]${more}}
  - {name: bare, protocol: tcp, match: [localhost, metadata.test, nowhere.test, 127.0.0.2], ports: [1-65535]}
  - {name: closed, protocol: tcp, match: [closed.test], ports: [1-65535], addresses: [127.0.0.1]}
policies:
  - {name: staff, services: [ledger, bare, closed], tags: {all: [compliant], none: [infected]}, action: allow}
`
const names: Record<string, string[]> = { 'ledger.test': ['127.0.0.1'], 'localhost': ['127.0.0.1', '::1'], 'metadata.test': ['169.254.169.254'], 'closed.test': ['127.0.0.1'] }
const resolve = async (host: string) => {
  const found = names[host]
  if (found === undefined) throw new Error(`ENOTFOUND ${host}`)
  return found
}
async function gateWithEcho(more: Parameters<typeof startGate>[1] = {}, service = '') {
  const echo = await startEcho()
  later(echo.close)
  return { echo, gate: await startGate(policies(echo.port, service), { resolve, ...more }) }
}
async function echoes(stream: NodeJS.ReadWriteStream, text: string) {
  const read = readUntil(stream, text)
  stream.write(text)
  await read
}
const destroyed = (stream: { closed: boolean }) => until(() => stream.closed)

describe('a tunnel over HTTP/2', () => {
  it('is opened for a compliant device and carries bytes both ways, by address and by name', async () => {
    const { gate, echo } = await gateWithEcho()
    const session = openHttp2(gate, gate.agent)
    for (const host of ['127.0.0.1', 'ledger.test']) {
      const { status, stream } = await connectTo(session, `${host}:${echo.port}`)
      expect(status).toBe(200)
      await echoes(stream, 'hello')
      stream.end()
      await readUntil(stream, 'bye')
    }
    await until(async () => (await gate.metrics.text()).includes('sallyport_open_sessions 0'))
  })

  it('carries a megabyte whole through back-pressure', async () => {
    const { gate, echo } = await gateWithEcho()
    const { stream } = await connectTo(openHttp2(gate, gate.agent), `127.0.0.1:${echo.port}`)
    let size = 0
    stream.on('data', (chunk: Uint8Array) => {
      size += chunk.length
    })
    stream.end(Buffer.alloc(1 << 20, 7))
    await once(stream, 'end')
    expect(size).toBe((1 << 20) + 3)
  })

  it('is cut when the device loses the tag, says why in its trailer, and leaves a compliant device alone', async () => {
    const { gate, echo } = await gateWithEcho()
    const otherCredential = await issue(gate.authority, OTHER, 'agent')
    gate.change({ endpoints: new Map([[OTHER, record(OTHER, [otherCredential])]]) })
    const { stream } = await connectTo(openHttp2(gate, gate.agent), `127.0.0.1:${echo.port}`)
    const { stream: undisturbed } = await connectTo(openHttp2(gate, otherCredential), `127.0.0.1:${echo.port}`)
    await Promise.all([echoes(stream, 'one'), echoes(undisturbed, 'one')])
    const trailers = once(stream, 'trailers')
    gate.putTags([])
    const [told] = await trailers as [Record<string, string>]
    const denial = JSON.parse(decodeURIComponent(told['sallyport-denial'] ?? '')) as { reason: string; decision: string; code: string }
    expect(denial).toMatchObject({ reason: 'tag-missing', code: '065' })
    const cut = await gate.audit.find(denial.decision)
    expect(decision.parse(cut)).toMatchObject({ event: 'recheck', allowed: false, uid: UID, tags: [{ uid: OK_TAG, name: 'compliant', state: 'absent' }] })
    expect(await gate.audit.find(cut?.session ?? '')).toMatchObject({ allowed: true, event: 'decide' })
    await until(() => echo.sockets.size === 1)
    await echoes(undisturbed, 'two')
    expect((await gate.metrics.text())).toMatch(/sallyport_cut_seconds_count 1/)
  })

  it('sends not a byte more once it is cut, even when the client has not drunk what waits', async () => {
    const flood = createServer((socket) => {
      socket.on('error', () => socket.destroy())
      const pour = () => {
        while (!socket.destroyed && socket.write(Buffer.alloc(65_536)));
      }
      socket.on('drain', pour)
      pour()
    })
    const port = await listen(flood)
    later(() => flood.close())
    const gate = await startGate(policies(port))
    const { stream } = await connectTo(openHttp2(gate, gate.agent), `127.0.0.1:${port}`)
    await once(stream, 'readable')
    gate.putTags([OK_TAG, BAD_TAG])
    stream.resume()
    await destroyed(stream)
    expect(stream.rstCode).not.toBe(0)
  })

  it('breaks when the upstream resets in mid-stream, and the gate goes on', async () => {
    const { gate, echo } = await gateWithEcho()
    const session = openHttp2(gate, gate.agent)
    const { stream } = await connectTo(session, `127.0.0.1:${echo.port}`)
    await echoes(stream, 'x')
    for (const socket of echo.sockets) socket.resetAndDestroy()
    await destroyed(stream)
    expect(stream.rstCode).not.toBe(0)
    const next = await connectTo(session, `127.0.0.1:${echo.port}`)
    expect(next.status).toBe(200)
  })

  it('lets the upstream go when the client resets', async () => {
    const { gate, echo } = await gateWithEcho()
    const { stream } = await connectTo(openHttp2(gate, gate.agent), `127.0.0.1:${echo.port}`)
    await echoes(stream, 'x')
    stream.destroy(new Error('gone'))
    await until(() => echo.sockets.size === 0)
  })
})

describe('a tunnel over HTTP/1.1', () => {
  const open = async (socket: NodeJS.ReadWriteStream, authority: string) => {
    const head = readUntil(socket, '\r\n\r\n')
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`)
    return await head
  }
  it('is opened, lets the answer finish after the client has ended, and is cut', async () => {
    const { gate, echo } = await gateWithEcho()
    const first = await openHttp1(gate, gate.agent)
    expect(await open(first, `127.0.0.1:${echo.port}`)).toMatch(/^HTTP\/1.1 200 /)
    await echoes(first, 'ping')
    const second = await openHttp1(gate, gate.agent)
    await open(second, `127.0.0.1:${echo.port}`)
    const bye = readUntil(second, 'bye')
    second.end()
    await bye
    gate.putTags([OK_TAG], [BAD_TAG])
    await destroyed(first)
    await until(() => echo.sockets.size === 0)
  })
  it('is refused with a body that says why', async () => {
    const { gate, echo } = await gateWithEcho()
    const socket = await openHttp1(gate, gate.browser)
    const text = await open(socket, `127.0.0.1:${echo.port}`)
    expect(text).toMatch(/^HTTP\/1.1 403 /)
    expect(text).toMatch(/proxy-status: sallyport; error=http_request_denied/)
  })
})

describe('a tunnel is refused', () => {
  it('with its reason, its code and a decision that is found again', async () => {
    const { gate, echo } = await gateWithEcho({ limits: { connectMs: 2_000 } })
    const [port, session] = [echo.port, openHttp2(gate, gate.agent)]
    const foreignAuthority = await createAuthority({ name: 'Other CA', now: Date.now() })
    const foreign = await issue(foreignAuthority, UID, 'agent')
    const expired = await issue(gate.authority, UID, 'agent', Date.now() - 40 * 86_400_000)
    const unknownSerial = await issue(gate.authority, UID, 'agent')
    const unknownDevice = await issue(gate.authority, OTHER, 'agent')
    const gateway = await issue(gate.authority, 'SPGW0000000000FF', 'gateway')
    const cases: [string, string, Parameters<typeof openHttp2>[1] | 'agent', string][] = [
      ['no-certificate', '002', null, `127.0.0.1:${port}`], ['certificate-invalid', '001', foreign, `127.0.0.1:${port}`],
      ['certificate-expired', '001', expired, `127.0.0.1:${port}`], ['certificate-wrong-purpose', '001', gate.browser, `127.0.0.1:${port}`],
      ['certificate-wrong-purpose', '001', gateway, `127.0.0.1:${port}`],
      ['certificate-revoked', '063', unknownSerial, `127.0.0.1:${port}`], ['endpoint-unknown', '066', unknownDevice, `127.0.0.1:${port}`],
      ['service-unknown', '021', 'agent', 'undeclared.test:1'], ['service-unknown', '021', 'agent', `ledger.test:${port === 1 ? 2 : 1}`],
      ['address-refused', '021', 'agent', 'localhost:80'], ['address-refused', '021', 'agent', '127.0.0.2:80'], ['address-refused', '021', 'agent', 'metadata.test:80'],
      ['name-not-resolved', '023', 'agent', 'nowhere.test:80'], ['upstream-unreachable', '022', 'agent', 'closed.test:1'],
    ]
    for (const [reason, code, who, authority] of cases) {
      const answer = await refused(who === 'agent' ? session : openHttp2(gate, who), authority)
      expect({ ...answer, at: authority }).toMatchObject({ reason, code })
      expect(answer.status).toBe(reason === 'name-not-resolved' || reason === 'upstream-unreachable' ? 502 : 403)
      expect(answer.proxyStatus).toContain(answer.decision)
      expect((await gate.audit.find(answer.decision))?.reason).toBe(reason)
    }
    expect(gate.lookups).toEqual([UID, OTHER])
  })

  it('for what the record of the device says', async () => {
    const { gate, echo } = await gateWithEcho({}, ', requireOnline: true')
    const session = openHttp2(gate, gate.agent)
    const cases: [string, Partial<Parameters<typeof record>[2]>][] = [
      ['endpoint-deregistered', { registered: false }], ['endpoint-quarantined', { quarantined: true }], ['endpoint-offline', { online: false }],
      ['tag-missing', { tags: new Map() }], ['tag-unknown', { tags: new Map(), unknown: new Set([OK_TAG]) }], ['tag-unknown', { tagsKnown: false }],
      ['denied-by-tag', { tags: new Map([[OK_TAG, { validUntil: null }], [BAD_TAG, { validUntil: null }]]) }],
    ]
    for (const [reason, more] of cases) {
      gate.change({ endpoints: new Map([[UID, record(UID, [gate.agent], more)]]) })
      expect(await refused(session, `127.0.0.1:${echo.port}`)).toMatchObject({ reason, uid: UID })
    }
    gate.putTags([OK_TAG])
    gate.putPolicies(`services: [{name: ledger, protocol: tcp, match: [127.0.0.1], ports: [${echo.port}], addresses: [127.0.0.1]}]\npolicies: []`)
    expect(await refused(session, `127.0.0.1:${echo.port}`)).toMatchObject({ reason: 'no-policy-matched', code: '061' })
    gate.putPolicies(`services: [{name: ledger, protocol: tcp, match: [127.0.0.1], ports: [${echo.port}], addresses: [127.0.0.1]}]\npolicies: [{name: no, services: [ledger], action: deny}]`)
    expect(await refused(session, `127.0.0.1:${echo.port}`)).toMatchObject({ reason: 'denied-by-policy', code: '062' })
  })

  it('when the gate is full, and a device that the EMS knows is asked for and let in', async () => {
    const { gate, echo } = await gateWithEcho({ limits: { sessions: 1 } })
    const credential = await issue(gate.authority, OTHER, 'agent')
    gate.answers.set(OTHER, record(OTHER, [credential]))
    const session = openHttp2(gate, credential)
    const { status } = await connectTo(session, `127.0.0.1:${echo.port}`)
    expect({ status, asked: gate.lookups }).toEqual({ status: 200, asked: [OTHER] })
    expect(await refused(session, `127.0.0.1:${echo.port}`)).toMatchObject({ reason: 'overloaded', status: 503 })
  })
})

describe('when the EMS is silent', () => {
  const start = Date.now()
  async function silence(service: string) {
    const clock = heldClock(start)
    const { gate, echo } = await gateWithEcho(clock, service)
    const session = openHttp2(gate, gate.agent)
    const { stream } = await connectTo(session, `127.0.0.1:${echo.port}`)
    await echoes(stream, 'open')
    return { clock, gate, echo, session, stream }
  }
  it('deny: until `after` nothing changes, then the session is cut and none is opened', async () => {
    const { clock, echo, session, stream } = await silence(', stale: {after: 60, then: deny}')
    clock.advance(59_000)
    await echoes(stream, 'still')
    const cut = once(stream, 'trailers')
    clock.advance(1_000)
    await cut
    expect(await refused(session, `127.0.0.1:${echo.port}`)).toMatchObject({ reason: 'snapshot-stale', code: '067' })
  })
  it('hold: the open session lives on, none is opened, and after `holdFor` it is cut', async () => {
    const { clock, echo, session, stream } = await silence(', stale: {after: 60, then: hold, holdFor: 120}')
    clock.advance(100_000)
    await echoes(stream, 'held')
    expect(await refused(session, `127.0.0.1:${echo.port}`)).toMatchObject({ reason: 'snapshot-stale' })
    const cut = once(stream, 'trailers')
    clock.advance(80_000)
    await cut
  })
  it('hold: a lost tag that is known wins; word from the EMS makes it fresh again', async () => {
    const { clock, gate, echo, session, stream } = await silence(', stale: {after: 60, then: hold, holdFor: 120}')
    clock.advance(100_000)
    gate.change({ currentAt: clock.now() }, new Set())
    clock.advance(59_000)
    await echoes(stream, 'fresh')
    expect((await connectTo(session, `127.0.0.1:${echo.port}`)).status).toBe(200)
    clock.advance(30_000)
    const cut = once(stream, 'trailers')
    gate.putTags([])
    await cut
  })
  it('a tag past its validity closes what it had opened, at that instant', async () => {
    const { clock, gate, stream } = await silence('')
    gate.change({ endpoints: new Map([[UID, record(UID, [gate.agent], { tags: new Map([[OK_TAG, { validUntil: start + 5_000 }]]) })]]) })
    clock.advance(4_000)
    await echoes(stream, 'valid')
    const trailers = once(stream, 'trailers')
    clock.advance(1_000)
    const [told] = await trailers as [Record<string, string>]
    const denial = JSON.parse(decodeURIComponent(told['sallyport-denial'] ?? '')) as Pick<Decision, 'reason'>
    expect(denial.reason).toBe('tag-unknown')
  })
})
