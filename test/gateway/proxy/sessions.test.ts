import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { decision, sessionEnd, type Decision, type SessionEnd } from '../../../protocol/decisions.ts'
import { OK_TAG, OTHER, UID, cleanUp, connectTo, heldClock, issue, later, listen, openHttp2, readUntil, record, startEcho, startGate, until, userOf, type Gate } from './gate-under-test.ts'

afterEach(cleanUp)

const tcp = (port: number, more = '') => `services: [{name: ledger, protocol: tcp, match: [127.0.0.1, ledger.test], ports: [${port}], addresses: [127.0.0.1]${more}}]`
const allow = (more = 'tags: {all: [compliant]}') => `policies: [{name: staff, services: [ledger], ${more}, action: allow}]`

/** An open, echoing tunnel of a device, and one of another that stays compliant. */
async function two(policies: (port: number) => string, more: Parameters<typeof startGate>[1] = {}) {
  const echo = await startEcho()
  later(echo.close)
  const gate = await startGate(policies(echo.port), more)
  const other = await issue(gate.authority, OTHER, 'agent')
  gate.change({ endpoints: new Map([[OTHER, record(OTHER, [other])]]) })
  const open = async (credential: Parameters<typeof openHttp2>[1]) => {
    const { stream, status } = await connectTo(openHttp2(gate, credential), `127.0.0.1:${echo.port}`)
    expect(status).toBe(200)
    const read = readUntil(stream, 'open')
    stream.write('open')
    await read
    return stream
  }
  return { gate, echo, mine: await open(gate.agent), theirs: await open(other), other }
}
type Stream = Awaited<ReturnType<typeof two>>['mine']
async function reasonOfCut(stream: Stream, act: () => void): Promise<string> {
  const trailers = once(stream, 'trailers')
  act()
  const [told] = await trailers as [Record<string, string>]
  return (JSON.parse(decodeURIComponent(told['sallyport-denial'] ?? '')) as { reason: string }).reason
}
async function goesOn(stream: Stream): Promise<void> {
  const read = readUntil(stream, 'still')
  stream.write('still')
  await read
}

async function lines(gate: Gate): Promise<(Decision | SessionEnd)[]> {
  await gate.audit.close()
  return readFileSync(join(gate.directory, 'decisions.jsonl'), 'utf8').trim().split('\n').map((line) => JSON.parse(line) as Decision | SessionEnd)
}

describe('an open session is decided again', () => {
  const cases: Record<string, [reason: string, (gate: Gate) => void]> = {
    'a tag is lost': ['tag-missing', (gate) => gate.putTags([])],
    'a tag becomes unknown': ['tag-unknown', (gate) => gate.putTags([], [OK_TAG])],
    'the device is quarantined': ['endpoint-quarantined', (gate) => gate.change({ endpoints: new Map([[UID, record(UID, [gate.agent], { quarantined: true })]]) })],
    'the device is deregistered': ['endpoint-deregistered', (gate) => gate.change({ endpoints: new Map([[UID, record(UID, [gate.agent], { registered: false })]]) })],
    'the certificate is revoked': ['certificate-revoked', (gate) => gate.change({ endpoints: new Map([[UID, record(UID, [gate.browser])]]) })],
    'the device leaves the gateway\'s sight': ['endpoint-unknown', (gate) => gate.change({ endpoints: new Map([[UID, null]]) })],
  }
  for (const [name, [reason, act]] of Object.entries(cases)) {
    it(`when ${name}, and the other device is left alone`, async () => {
      const { gate, mine, theirs } = await two((port) => `${tcp(port)}\n${allow()}`)
      expect(await reasonOfCut(mine, () => act(gate))).toBe(reason)
      await goesOn(theirs)
    })
  }

  it('when policies change: only what they no longer allow is cut', async () => {
    const { gate, echo, mine, theirs, other } = await two((port) => `${tcp(port)}\n${allow()}`)
    gate.putPolicies(`${tcp(echo.port)}\n${allow('device: {onFabric: false}')}`)
    await Promise.all([goesOn(mine), goesOn(theirs)])
    gate.change({ endpoints: new Map([[OTHER, record(OTHER, [other], { onFabric: true })]]) })
    await until(() => theirs.closed)
    expect(await reasonOfCut(mine, () => gate.putPolicies(`${tcp(echo.port)}\npolicies: []`))).toBe('no-policy-matched')
  })

  it('when its service is taken away, or leads elsewhere', async () => {
    const { gate, echo, mine, theirs } = await two((port) => `${tcp(port)}\n${allow()}`)
    gate.putPolicies(`${tcp(echo.port, ', stale: {after: 300}')}\n${allow()}`)
    await Promise.all([goesOn(mine), goesOn(theirs)])
    expect(await reasonOfCut(mine, () => gate.putPolicies(`${tcp(echo.port, ', upstream: "127.0.0.2:1"')}\n${allow()}`))).toBe('address-refused')
    const again = await two((port) => `${tcp(port)}\n${allow()}`)
    expect(await reasonOfCut(again.mine, () => again.gate.putPolicies('services: []\npolicies: []'))).toBe('service-unknown')
  })

  it('when a schedule ends and when a policy does, at that instant', async () => {
    const start = Math.floor(Date.now() / 86_400_000) * 86_400_000 + 9 * 3_600_000
    const clock = heldClock(start)
    const schedule = 'schedule: {hours: ["08:00-10:00"], timeZone: UTC}'
    const { gate, echo, mine } = await two((port) => `${tcp(port, ', stale: {after: 1000000}')}\n${allow(schedule)}`, clock)
    clock.advance(3_599_000)
    await goesOn(mine)
    expect(await reasonOfCut(mine, () => clock.advance(1_000))).toBe('outside-schedule')
    gate.putPolicies(`${tcp(echo.port, ', stale: {after: 1000000}')}\n${allow(`until: "${new Date(clock.now() + 5_000).toISOString()}"`)}`)
    const { stream } = await connectTo(openHttp2(gate, gate.agent), `127.0.0.1:${echo.port}`)
    clock.advance(4_999)
    await goesOn(stream)
    expect(await reasonOfCut(stream, () => clock.advance(1))).toBe('deadline-passed')
  })

  it('not at the end of a tag that was renewed before; at the one that was not', async () => {
    const clock = heldClock(Date.now())
    const tagUntil = (gate: Gate, validUntil: number) => gate.change({ endpoints: new Map([[UID, record(UID, [gate.agent], { tags: new Map([[OK_TAG, { validUntil }]]) })]]) })
    const { gate, mine } = await two((port) => `${tcp(port, ', stale: {after: 1000000}')}\n${allow()}`, clock)
    tagUntil(gate, clock.now() + 60_000)
    for (let renewals = 0; renewals < 5; renewals++) {
      clock.advance(30_000)
      tagUntil(gate, clock.now() + 60_000)
      await goesOn(mine)
    }
    clock.advance(59_999)
    await goesOn(mine)
    expect(await reasonOfCut(mine, () => clock.advance(1))).toBe('tag-unknown')
  })

  it('when its user signs out, or another signs in, and the other device is left alone', async () => {
    const { gate, echo, mine, theirs, other } = await two((port) => `${tcp(port)}\n${allow()}`)
    const signedIn = (uid: string, credential: typeof other, user?: ReturnType<typeof userOf>) => gate.change({ endpoints: new Map([[uid, record(uid, [credential], user === undefined ? {} : { user })]]) })
    signedIn(UID, gate.agent, userOf('alice@corp.test', { groups: ['staff'] }))
    signedIn(OTHER, other, userOf('bob@corp.test', { groups: ['staff'] }))
    gate.putPolicies(`${tcp(echo.port)}\n${allow('groups: [staff]')}`)
    await Promise.all([goesOn(mine), goesOn(theirs)])
    expect(await reasonOfCut(mine, () => signedIn(UID, gate.agent))).toBe('user-unverified')
    signedIn(UID, gate.agent, userOf('alice@corp.test', { groups: ['staff'] }))
    const { stream } = await connectTo(openHttp2(gate, gate.agent), `127.0.0.1:${echo.port}`)
    await goesOn(stream)
    expect(await reasonOfCut(stream, () => signedIn(UID, gate.agent, userOf('carol@corp.test', { groups: ['guests'] })))).toBe('user-mismatch')
    await goesOn(theirs)
    // Every decision says who it was, and what was let in as somebody is told so when it is cut.
    const told = (await lines(gate)).filter((each) => each.event !== 'end').map(({ event, reason, user }) => `${event} ${reason} ${user?.name ?? '-'}`)
    expect(told).toEqual(['decide allowed -', 'decide allowed -', 'recheck user-unverified -', 'decide allowed alice@corp.test', 'recheck user-mismatch carol@corp.test'])
  })

  it('when what its user proved is over or too long ago, at that instant', async () => {
    const clock = heldClock(Date.now())
    const never = ', stale: {after: 1000000}'
    const { gate, echo, mine, theirs, other } = await two((port) => `${tcp(port, never)}\n${allow()}`, clock)
    const authenticatedAt = clock.now()
    gate.change({ endpoints: new Map([[UID, record(UID, [gate.agent], { user: userOf('alice@corp.test', { authenticatedAt, expiresAt: authenticatedAt + 600_000 }) })], [OTHER, record(OTHER, [other], { user: userOf('bob@corp.test', { authenticatedAt }) })]]) })
    gate.putPolicies(`${tcp(echo.port, never)}\n${allow('users: [ALICE@corp.test, bob@corp.test]')}`)
    clock.advance(599_999)
    await goesOn(mine)
    expect(await reasonOfCut(mine, () => clock.advance(1))).toBe('user-unverified')
    await goesOn(theirs)
    gate.putPolicies(`${tcp(echo.port, never)}\n${allow('authenticatedWithinSeconds: 900')}`)
    clock.advance(299_999)
    await goesOn(theirs)
    expect(await reasonOfCut(theirs, () => clock.advance(1))).toBe('user-unverified')
  })

  it('and is cut before a byte that came after the change', async () => {
    const { gate, echo, mine } = await two((port) => `${tcp(port)}\n${allow()}`)
    const got: string[] = []
    for (const socket of echo.sockets) socket.on('data', (chunk) => got.push(String(chunk)))
    mine.write('after')
    gate.putTags([])
    await until(() => mine.closed && echo.sockets.size === 1)
    expect(got.join('')).not.toContain('after')
  })
})

describe('what is kept of a session', () => {
  it('is the decision that let it in and its end, with bytes and time', async () => {
    const clock = heldClock(Date.now())
    const { gate, mine, theirs } = await two((port) => `${tcp(port, ', stale: {after: 1000}')}\n${allow()}`, clock)
    clock.advance(2_500)
    expect(await reasonOfCut(mine, () => gate.putTags([]))).toBe('tag-missing')
    theirs.end()
    await readUntil(theirs, 'bye')
    await until(async () => (await gate.metrics.text()).includes('sallyport_open_sessions 0'))
    const text = await gate.metrics.text()
    expect(text).toContain('sallyport_bytes_total{direction="up"} 8')
    expect(text).toContain('sallyport_bytes_total{direction="down"} 11')
    const kept = await lines(gate)
    const ends = kept.filter((each) => each.event === 'end').map((each) => sessionEnd.parse(each))
    const decisions = kept.filter((each) => each.event !== 'end').map((each) => decision.parse(each))
    const [cut, closed] = [ends.find(({ uid }) => uid === UID), ends.find(({ uid }) => uid === OTHER)]
    expect(cut).toMatchObject({ cutBy: decisions.find(({ event }) => event === 'recheck')?.id, durationMs: 2_500, bytesUp: 4, bytesDown: 4, service: 'ledger' })
    expect(closed).toMatchObject({ cutBy: null, bytesUp: 4, bytesDown: 7, session: decisions.find(({ uid, allowed }) => uid === OTHER && allowed)?.id })
    expect(await gate.audit.find(cut?.session ?? '')).toMatchObject({ allowed: true })
  })
  it('is kept of each request to an HTTPS service too', async () => {
    const upstream = createServer((request, response) => void request.pipe(response))
    later(() => {
      upstream.closeAllConnections()
      upstream.close()
    })
    const gate = await startGate(`services: [{name: web, protocol: https, match: [web.test], upstream: http://127.0.0.1:${await listen(upstream)}}]\npolicies: [{name: staff, services: [web], tags: {all: [compliant]}, action: allow}]`)
    const stream = openHttp2(gate, gate.browser).request({ ':method': 'POST', ':path': '/', ':authority': 'web.test', ':scheme': 'https' })
    stream.end('12345')
    await readUntil(stream, '12345')
    await until(() => stream.closed)
    await until(async () => (await gate.metrics.text()).includes('sallyport_open_sessions 0'))
    expect((await lines(gate)).filter((each) => each.event === 'end')).toMatchObject([{ protocol: 'https', bytesUp: 5, bytesDown: 5, cutBy: null }])
  })
})
