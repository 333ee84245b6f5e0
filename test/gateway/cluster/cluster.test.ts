import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { afterEach, describe, expect, it } from 'vitest'
import { auditReader } from '../../../gateway/audit/audit.ts'
import type { TraceSettings } from '../../../gateway/traces/traces.ts'
import { createAuthority } from '../../../identity/authority.ts'
import { gatewayTlsName } from '../../../protocol/certificates.ts'
import { GATEWAY, OK_TAG, OTHER, UID, ask, cleanUp, connectTo, issue, later, openHttp1, openHttp2, readUntil, record, refused, startEcho, until, type Answer, type Gate } from '../proxy/gate-under-test.ts'
import { startCollector, valueOf } from '../traces/collector.ts'
import { startClusterGate } from './cluster-under-test.ts'

afterEach(cleanUp)

const file = (port: number, tag = 'compliant') => `services: [{name: ledger, protocol: tcp, match: [127.0.0.1], ports: [${port}], addresses: [127.0.0.1]}]\npolicies: [{name: staff, services: [ledger], tags: {all: [${tag}]}, action: allow}]\n`

async function clustered(count = 2, limits = {}, traces: TraceSettings | null = null) {
  const echo = await startEcho()
  later(echo.close)
  const gate = await startClusterGate(file(echo.port), count, limits, traces)
  // What opens connections needs the port and the CA alone.
  const facade = { proxy: gate.proxy, authority: gate.authority } as unknown as Gate
  const to = `127.0.0.1:${echo.port}`
  return { echo, gate, to, facade, open: (credential = gate.agent) => openHttp2(facade, credential) }
}
const metric = async (text: Promise<string>, name: string): Promise<number> => Number(new RegExp(`^${name} (\\S+)`, 'm').exec(await text)?.[1] ?? -1)
const decisionsOf = (directory: string, slot: number) => {
  const path = join(directory, 'audit', String(slot), 'decisions.jsonl')
  return existsSync(path) ? readFileSync(path, 'utf8') : ''
}

describe('a gate of several processes', () => {
  it('serves by each of them, and tells its metrics summed', async () => {
    const { gate, to, open } = await clustered()
    const streams = []
    for (let round = 0; round < 8; round++) {
      const { status, stream } = await connectTo(open(), to)
      expect(status).toBe(200)
      const read = readUntil(stream, 'hello')
      stream.write('hello')
      await read
      streams.push(stream)
    }
    await until(() => [1, 2].every((slot) => decisionsOf(gate.directory, slot).includes(UID)))
    expect(await metric(gate.proxy.text(), 'sallyport_open_sessions')).toBe(8)
    expect(await metric(gate.proxy.text(), 'sallyport_snapshot_age_seconds')).toBeLessThan(60)
    expect([...gate.seen]).toEqual([`${UID} 127.0.0.1`])
    // A decision is found wherever it was taken.
    gate.putTags([])
    await gate.proxy.applied()
    const denial = await refused(open(), to)
    await until(async () => (await auditReader(join(gate.directory, 'audit')).find(denial.decision))?.reason === 'tag-missing')
  })

  it('hands a trace of each session to a collector, whoever of them served it', async () => {
    const collector = await startCollector()
    const { gate, to, open } = await clustered(2, {}, { url: collector.url, share: 1 })
    for (let round = 0; round < 4; round++) {
      const session = open()
      expect((await connectTo(session, to)).status).toBe(200)
      session.destroy()
    }
    await until(async () => await metric(gate.proxy.text(), 'sallyport_open_sessions') === 0)
    await gate.proxy.close()
    expect(collector.roots().map((root) => [root.name, valueOf(root, 'sallyport.endpoint.uid')])).toEqual(Array.from({ length: 4 }, () => ['tcp ledger', UID]))
  })

  it('has applied a change when every one of them has, and has cut by then', async () => {
    const { gate, echo, to, open } = await clustered(3)
    const streams = await Promise.all(Array.from({ length: 9 }, async () => (await connectTo(open(), to)).stream))
    await until(() => echo.sockets.size === 9)
    const told = streams.map((stream) => once(stream, 'trailers'))
    gate.putTags([])
    await gate.proxy.applied()
    expect(await metric(gate.proxy.text(), 'sallyport_open_sessions')).toBe(0)
    await Promise.all(told)
    // Many steps at once end where the last one leads.
    for (let round = 0; round < 200; round++) gate.putTags(round % 2 === 0 ? [OK_TAG] : [])
    gate.putTags([OK_TAG])
    await gate.proxy.applied()
    for (let round = 0; round < 6; round++) expect((await connectTo(open(), to)).status).toBe(200)
    // Everything anew: who is not named is gone.
    gate.change({ whole: true, endpoints: new Map(Array.from({ length: 2_500 }, (_, n) => [n.toString(16).padStart(32, '0'), record(n.toString(16).padStart(32, '0'), [])])) }, 'all')
    await gate.proxy.applied()
    expect(await refused(open(), to)).toMatchObject({ reason: 'endpoint-unknown' })
  })

  it('asks the EMS through the one process that follows it', async () => {
    const { gate, to, open } = await clustered()
    const other = await issue(gate.authority, OTHER, 'agent')
    gate.answers.set(OTHER, record(OTHER, [other]))
    expect((await connectTo(open(other), to)).status).toBe(200)
    for (let round = 0; round < 4; round++) expect((await connectTo(open(other), to)).status).toBe(200)
  })

  it('resumes in each what another began, and forgets in all when the CAs change', async () => {
    const { gate } = await clustered()
    let ticket: Buffer | undefined
    const greet = async () => {
      const socket = connect({ host: '127.0.0.1', port: gate.proxy.port, ca: gate.authority.certificatePem, servername: gatewayTlsName(GATEWAY), cert: gate.agent.cert, key: gate.agent.key, ALPNProtocols: ['http/1.1'], session: ticket })
      later(() => socket.destroy())
      socket.on('error', () => socket.destroy())
      socket.on('session', (made: Buffer) => {
        ticket ??= made
      })
      await once(socket, 'secureConnect')
      const read = readUntil(socket, '}')
      socket.write('GET / HTTP/1.1\r\nHost: undeclared.test\r\n\r\n')
      await read
      return socket.isSessionReused()
    }
    expect(await greet()).toBe(false)
    for (let round = 0; round < 6; round++) expect(await greet()).toBe(true)
    // Another certificate of the gateway's own changes nothing for those who know it.
    gate.proxy.updateIdentity({ certPem: gate.own.cert, keyPem: gate.own.key })
    expect(await greet()).toBe(true)
    gate.believe((await createAuthority({ name: 'Next CA', now: Date.now() })).certificatePem)
    await until(async () => (await Promise.all([greet(), greet(), greet(), greet()])).every((resumed) => !resumed))
  })

  it('tells why a tunnel was reset, whichever of them the device asks', async () => {
    const { gate, echo, to, facade, open } = await clustered(3)
    const socket = await openHttp1(facade, gate.agent)
    socket.on('error', () => socket.destroy())
    const head = readUntil(socket, '\r\n\r\n')
    socket.write(`CONNECT ${to} HTTP/1.1\r\nHost: ${to}\r\n\r\n`)
    const session = /^sallyport-session: (\S+)/mi.exec(await head)?.[1] ?? ''
    gate.putTags([])
    await until(() => echo.sockets.size === 0)
    // It may pass again by now: what would be decided anew is not why it was cut.
    gate.putTags([OK_TAG])
    await gate.proxy.applied()
    const asked = async () => {
      const { body } = await ask(open(), { ':method': 'GET', ':path': `/.well-known/sallyport/cut?session=${session}&destination=${to}`, ':authority': gatewayTlsName(GATEWAY), ':scheme': 'https' })
      return await body()
    }
    await until(async () => (await Promise.all(Array.from({ length: 6 }, asked))).every((body) => body.includes('tag-missing')))
  })

  it('takes over changed policies in each', async () => {
    const { gate, echo, to, open } = await clustered()
    writeFileSync(gate.policiesFile, file(echo.port, 'infected'))
    await until(async () => {
      const reasons = await Promise.all(Array.from({ length: 6 }, () => refused(open(), to).catch(() => null)))
      return reasons.every((each) => each?.reason === 'tag-missing')
    })
  })

  it('fills the place of a process that dies; the others go on, and the new one knows what they know', async () => {
    const { gate, to, open } = await clustered()
    // One after the other, for then each process takes every second one.
    const streams: Answer['stream'][] = []
    for (let round = 0; round < 6; round++) streams.push((await connectTo(open(), to)).stream)
    for (const stream of streams) stream.on('error', () => stream.destroy())
    const [victim = 0] = gate.processes()
    process.kill(victim, 'SIGKILL')
    // Whoever waits for all is not held up by the dead.
    gate.change({ currentAt: Date.now() }, new Set())
    await gate.proxy.applied()
    await until(() => streams.filter((stream) => stream.closed).length === 3)
    const left = streams.filter((stream) => !stream.closed)
    for (const stream of left) {
      const read = readUntil(stream, 'still')
      stream.write('still')
      await read
    }
    await until(() => gate.processes().length === 2 && !gate.processes().includes(victim))
    await until(async () => {
      const statuses = await Promise.all(Array.from({ length: 6 }, () => connectTo(open(), to).then(({ status }) => status, () => 0)))
      return statuses.every((status) => status === 200)
    })
  })

  it('divides its limits', async () => {
    const { to, open } = await clustered(2, { sessions: 4 })
    // One after the other, for then each process takes every second one.
    const statuses = []
    for (let round = 0; round < 10; round++) statuses.push((await connectTo(open(), to)).status)
    expect(statuses.filter((status) => status === 200)).toHaveLength(4)
    expect(statuses.filter((status) => status === 503)).toHaveLength(6)
  })

  it('drains all of them', async () => {
    const { gate, to, open } = await clustered()
    const streams = await Promise.all(Array.from({ length: 4 }, async () => (await connectTo(open(), to)).stream))
    const told = streams.map((stream) => once(stream, 'trailers') as Promise<[Record<string, string>]>)
    await gate.proxy.drain(50)
    for (const [trailers] of await Promise.all(told)) expect(decodeURIComponent(trailers['sallyport-denial'] ?? '')).toContain('gateway-stopping')
    await gate.proxy.close()
    expect(gate.processes()).toEqual([])
  })
})
