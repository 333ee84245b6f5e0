// The real EMS, a real agent, and two gateways that are processes: one is drained, one is killed, and certificates are lost, retired and revoked. Nobody mends anything by hand.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readIdentity, stateFiles } from '../../agent/certificates/identity-store.ts'
import { enrolAgent } from '../../agent/enrol.ts'
import { startAgent, type AgentEvent, type RunningAgent } from '../../agent/start.ts'
import { readMembership } from '../../gateway/fabric/membership.ts'
import { copyBytes, fromPem } from '../../identity/encoding.ts'
import { generateKey } from '../../identity/keys.ts'
import { createCsr } from '../../identity/request.ts'
import { createControlClient, type ControlClient } from '../../node/control-client.ts'
import { silentLog } from '../../node/logging.ts'
import * as administration from '../../protocol/operations/admin.ts'
import { documents, renew } from '../../protocol/operations/endpoint.ts'
import { downloadAuthorities } from '../../protocol/operations/fabric.ts'
import { profileSettings } from '../../protocol/profile.ts'
import { startEms, type LocalEms } from '../../start/ems.ts'
import { freePort } from '../../start/free-port.ts'
import { until } from '../../start/steps.ts'
import { openSession, type Opened } from '../../start/visit.ts'
import { knock, policiesText, startService } from '../gateway/fabric/gateway-under-test.ts'

const log = silentLog()
const program = fileURLToPath(new URL('../../gateway/main.ts', import.meta.url))
type Session = Extract<Opened, { ok: true }>

describe('an agent, its EMS and two gateways', () => {
  let directory: string
  let ems: LocalEms
  let administrator: ControlClient
  let service: Awaited<ReturnType<typeof startService>>
  let agent: RunningAgent
  let profileId = ''
  const gates: { name: string; port: number; child: ChildProcess; serial: string }[] = []
  const events: AgentEvent[] = []
  const state = () => join(directory, 'agent')
  const told = <E extends AgentEvent['event']>(name: E) => events.filter((event): event is Extract<AgentEvent, { event: E }> => event.event === name)
  const runGate = async (name: string, port: number): Promise<{ child: ChildProcess; serial: string }> => {
    const child = spawn(process.execPath, [program, 'run', '--state', join(directory, name), '--policies', join(directory, 'policies.yaml'), '--listen', `127.0.0.1:${port}`, '--metrics-port', '0', '--join-code-file', join(directory, `${name}.code`), '--tls-ca', join(directory, 'tls-ca.pem'), '--drain', '20'], { stdio: 'ignore' })
    return { child, serial: await until('the gateway to have joined', async () => (await readMembership(join(directory, name)))?.serial ?? null, 60_000) }
  }
  const start = async () => {
    events.length = 0
    agent = await startAgent({ stateDirectory: state(), now: Date.now, log, command: () => Promise.resolve(null), onEvent: (event) => events.push(event) })
  }
  const open = async (): Promise<Opened> => {
    const tunnel = agent.tunnel()
    return await openSession(tunnel.running ? tunnel.socksPort : 0, 'greeter.test', 7000)
  }
  const opened = () => until('a session', async (): Promise<Session | null> => {
    const outcome = await open()
    return outcome.ok ? outcome : null
  }, 60_000)
  /** A gateway that has just been started may know the device by its record before it knows its tags. */
  const ready = async (gate: { port: number; serial: string }) => {
    const identity = await readIdentity(state())
    const authorities = await administrator.call(downloadAuthorities, {})
    await until('the gateway to know the device', async () => (identity !== null && (await knock(gate, identity, authorities).catch(() => ({ text: '' }))).text.includes('hello')) || null, 60_000)
  }
  /** Opens one, the first time that it is asked for. */
  const openAtOnce = async (): Promise<Session> => {
    const outcome = await open()
    if (!outcome.ok) throw new Error(`refused: ${JSON.stringify(told('denied').at(-1))}`)
    return outcome
  }
  const issued = async () => (await (await ems.miniflare.getD1Database('DB')).prepare('SELECT count(*) AS n FROM certificates WHERE purpose = ?').bind('agent').first<{ n: number }>())?.n ?? 0
  /** As whoever restored an old image of this machine and let it run a while: the agent's certificate is not the last one any more. */
  const renewElsewhere = async () => {
    const identity = await readIdentity(state())
    if (identity === null) throw new Error('no identity')
    const client = createControlClient({ ems: ems.address, identity: () => identity, tlsCa: [ems.tlsCaPem], now: Date.now, log })
    const keys = await generateKey(true)
    const { certificate } = await client.call(renew, { body: { csr: await createCsr(keys, identity.uid) } })
    const next = createControlClient({ ems: ems.address, identity: () => ({ privateKey: keys.privateKey, certificateDer: copyBytes(fromPem('CERTIFICATE', certificate) ?? new Uint8Array()) }), tlsCa: [ems.tlsCaPem], now: Date.now, log })
    await next.call(documents, { body: { have: { profile: 0, rules: 0, licence: 0, authorities: 0 } } })
    await Promise.all([client.close(), next.close()])
  }

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'sallyport-gateways-'))
    ems = await startEms()
    service = await startService()
    administrator = createControlClient({ ems: ems.address, token: ems.adminToken, tlsCa: [ems.tlsCaPem], now: Date.now, log })
    await administrator.call(administration.createRuleSet, { body: { name: 'known', tag: 'known', rules: { linux: { conditions: [{ type: 'os-version', comparator: '>=', version: '1' }] } } } })
    await writeFile(join(directory, 'policies.yaml'), policiesText(service.port, 'known'))
    await writeFile(join(directory, 'tls-ca.pem'), ems.tlsCaPem)
    for (const name of ['first', 'second']) {
      await writeFile(join(directory, `${name}.code`), (await administrator.call(administration.createJoinCode, { body: { name } })).text)
      const port = await freePort()
      gates.push({ name, port, ...await runGate(name, port) })
    }
    const [first, second] = gates.map(({ serial }) => serial)
    profileId = (await administrator.call(administration.createProfile, { body: { name: 'default', settings: profileSettings.parse({
      gateways: gates.map(({ serial, port }) => ({ serial, host: 'localhost', port })),
      destinations: [{ match: 'greeter.test', ports: [7000], gateway: first, fallbacks: [second] }], proxy: { httpPort: 0, socksPort: 0 },
    }) } })).id
    await administrator.call(administration.createPolicy, { body: { name: 'everybody', position: 0, profileId } })
    const { text } = await administrator.call(administration.createInvitation, { body: { name: 'this machine' } })
    await enrolAgent({ invitation: text, stateDirectory: state(), tlsCa: [ems.tlsCaPem], ownerUid: userInfo().uid, now: Date.now, log })
    await start()
  }, 300_000)
  afterAll(async () => {
    await agent.close()
    for (const { child } of gates) child.kill('SIGKILL')
    await administrator.close()
    await service.close()
    await ems.close()
    await rm(directory, { recursive: true, force: true, maxRetries: 10 })
  })

  it('goes on by the second when the first is told to stop, and what is open by the first stays open meanwhile', async () => {
    const old = await opened()
    for (const gate of gates) await ready(gate)
    events.length = 0
    const [first] = gates
    if (first === undefined) throw new Error('no gates')
    const stopped = once(first.child, 'exit')
    first.child.kill('SIGTERM')
    const fresh = await openAtOnce()
    expect(old.socket.destroyed).toBe(false)
    old.socket.destroy()
    expect(await stopped).toEqual([0, null])
    expect((await openAtOnce()).greeting).toBe('hello')
    expect(fresh.socket.destroyed).toBe(false)
    // Back again: what was open by the second is not cut.
    Object.assign(first, await runGate(first.name, first.port))
    await ready(first)
    await openAtOnce()
    expect(fresh.socket.destroyed).toBe(false)
    expect(told('denied')).toEqual([])
  })

  it('goes on by the first when the second is killed while it carries sessions, and the other way round', async () => {
    for (const gate of [...gates].reverse()) {
      const sessions = await Promise.all([opened(), opened(), opened()])
      const exited = once(gate.child, 'exit')
      gate.child.kill('SIGKILL')
      await exited
      // Those of the killed one are over; no new one is refused.
      for (const each of await Promise.all([openAtOnce(), openAtOnce(), openAtOnce()])) expect(each.greeting).toBe('hello')
      for (const { socket } of sessions) socket.destroy()
      Object.assign(gate, await runGate(gate.name, gate.port))
      await ready(gate)
    }
    expect(told('denied')).toEqual([])
  })

  it('has a certificate that was retired issued anew, by one renewal, and the stream goes through that was refused', async () => {
    await opened()
    const before = await issued()
    await renewElsewhere()
    await openAtOnce()
    // The one made elsewhere, and the agent's own; a report that crossed it may have asked as well.
    expect(await issued() - before).toBeLessThanOrEqual(3)
    expect(told('certificate-renewed').length).toBeGreaterThanOrEqual(1)
    const settled = await issued()
    await openAtOnce()
    expect(await issued()).toBe(settled)
  })

  it('starts with a lost or damaged file, even with an older copy, and is through at the first session', async () => {
    const { identity, identityCopy } = stateFiles(state())
    await agent.close()
    await rm(identity)
    await start()
    expect((await opened()).greeting).toBe('hello')
    const old = await readFile(identity, 'utf8')
    await renewElsewhere()
    await agent.close()
    await writeFile(identityCopy, old)
    await writeFile(identity, '{"uid":"')
    await start()
    expect((await opened()).greeting).toBe('hello')
    await until('a renewal', () => Promise.resolve(told('certificate-renewed').length > 0 || null))
    // One for the stream or the report, whichever came first; a report that crossed it may have asked as well.
    expect(told('certificate-renewed').length).toBeLessThanOrEqual(2)
  })

  it('does not ask without end for what an administrator has taken away', async () => {
    const before = await issued()
    const serial = (await readIdentity(state()))?.serial ?? ''
    await administrator.call(administration.revokeCertificate, { params: { uid: agent.uid, serial }, body: {} })
    // The EMS has told the gateways, which are processes of their own: they read it when they have their turn.
    await until('the refusal', async () => (await open()).ok ? null : true)
    for (let n = 0; n < 20; n += 1) expect((await open()).ok).toBe(false)
    expect(told('denied').at(-1)?.denial).toMatchObject({ code: '063', reason: 'certificate-revoked' })
    expect(await issued()).toBe(before)
    await agent.checkNow()
    await until('the trouble to be said', async () => (await agent.status()).troubles.some(({ sentence }) => sentence.includes('An administrator revoked it')) || null)
    expect(await issued()).toBe(before)
  })
})
