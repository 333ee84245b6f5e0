// A gateway that is cut off, end to end: the real EMS, two real gateways, an agent with sessions through both. What is stolen from the one opens nothing any more.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { enrolAgent } from '../../agent/enrol.ts'
import { agentStatus, askAgent } from '../../agent/local-status.ts'
import { describeStatus } from '../../agent/print.ts'
import { startAgent, type AgentEvent } from '../../agent/start.ts'
import { readMembership } from '../../gateway/fabric/membership.ts'
import { startGateway, type Gateway } from '../../gateway/start.ts'
import { createControlClient, type ControlClient } from '../../node/control-client.ts'
import { silentLog } from '../../node/logging.ts'
import * as administration from '../../protocol/operations/admin.ts'
import { startEms, type LocalEms } from '../../start/ems.ts'
import { until } from '../../start/steps.ts'
import { openSession, type Opened } from '../../start/visit.ts'
import { startGatewayDouble } from '../agent/tunnel/gateway-double.ts'

const log = silentLog()
const closing: (() => Promise<unknown>)[] = []

describe('a gateway that an administrator cuts off', { timeout: 300_000 }, () => {
  let directory: string
  let ems: LocalEms
  let administrator: ControlClient
  let gateways: [Gateway, Gateway]
  const events: AgentEvent[] = []
  const stateOf = (name: string) => join(directory, name)
  const socksPort = () => {
    const told = events.findLast((event) => event.event === 'tunnel')
    return told?.event === 'tunnel' && told.state.running ? told.state.socksPort : 0
  }
  const session = (host: string) => openSession(socksPort(), host, 22)
  const open = (host: string) => until(`a session with ${host}`, async (): Promise<Extract<Opened, { ok: true }> | null> => {
    const opened = await session(host)
    return opened.ok ? opened : null
  }, 60_000)
  const status = async () => agentStatus.parse(await askAgent(stateOf('agent'), { ask: 'status' }))
  const says = async ({ socket }: { socket: Socket }, word: string) => await new Promise<string>((resolve) => {
    socket.once('data', (chunk) => { resolve(String(chunk)) })
    socket.write(word)
  })

  async function startGate(name: string, port: number): Promise<Gateway> {
    const { text } = await administrator.call(administration.createJoinCode, { body: { name } })
    const current = Promise.withResolvers<void>()
    const gateway = await startGateway({
      stateDirectory: stateOf(name), policiesFile: stateOf('policies.yaml'), listen: { host: '127.0.0.1', port }, metricsPort: 0, joinCode: text, displayName: name,
      tlsCa: [ems.tlsCaPem], now: Date.now, log, onEvent: ({ event }) => { if (event === 'current') current.resolve() },
    })
    closing.push(() => gateway.close())
    await current.promise
    return gateway
  }

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'sallyport-revoked-'))
    closing.push(() => rm(directory, { recursive: true, force: true, maxRetries: 10 }))
    const server = createServer((socket) => {
      socket.on('error', () => socket.destroy())
      socket.write('ready\n')
      socket.pipe(socket)
    })
    await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
    closing.push(() => new Promise((resolve) => { server.close(resolve) }))
    ems = await startEms({ directory: stateOf('ems') })
    closing.push(() => ems.close())
    administrator = createControlClient({ ems: ems.address, token: ems.adminToken, tlsCa: [ems.tlsCaPem], now: Date.now, log })
    closing.push(() => administrator.close())
    await writeFile(stateOf('policies.yaml'), `services:
  - { name: shell, protocol: tcp, match: [a.corp.test, b.corp.test], ports: [22], upstream: '127.0.0.1:${(server.address() as AddressInfo).port}' }
policies:
  - { name: managed, services: [shell], tags: { all: [managed] }, action: allow }
`)
    gateways = [await startGate('first', 0), await startGate('second', 0)]
    await administrator.call(administration.createRuleSet, { body: { name: 'managed', tag: 'managed', rules: { linux: { conditions: [{ type: 'ems-management' }] } } } })
    const [first, second] = gateways
    const profile = await administrator.call(administration.createProfile, { body: { name: 'default', settings: {
      gateways: gateways.map(({ serial, port }) => ({ serial, host: '127.0.0.1', port })), proxy: { httpPort: 0, socksPort: 0 },
      destinations: [{ match: 'a.corp.test', ports: [22], gateway: first.serial }, { match: 'b.corp.test', ports: [22], gateway: second.serial }],
    } } })
    await administrator.call(administration.createPolicy, { body: { name: 'everybody', position: 0, profileId: profile.id } })
    const { text } = await administrator.call(administration.createInvitation, { body: { name: 'this machine' } })
    await enrolAgent({ invitation: text, stateDirectory: stateOf('agent'), tlsCa: [ems.tlsCaPem], ownerUid: process.getuid?.() ?? 0, now: Date.now, log })
    const agent = await startAgent({ stateDirectory: stateOf('agent'), now: Date.now, log, command: () => Promise.resolve(null), onEvent: (event) => events.push(event) })
    closing.push(() => agent.close())
    await until('the channel', async () => ((await status()).channel === 'open' ? true : null), 60_000)
  }, 300_000)
  afterAll(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })

  it('loses every session and gets none, even for whoever took its key, while the other one goes on', async () => {
    const [first] = gateways
    const [through, beside] = [await open('a.corp.test'), await open('b.corp.test')]
    const stolen = await readMembership(stateOf('first'))
    const before = events.length
    await administrator.call(administration.deauthoriseGateway, { params: { serial: first.serial }, body: { reason: 'stolen' } })
    await through.closed
    await until('the list', () => Promise.resolve(events.slice(before).some((event) => event.event === 'document-applied' && event.kind === 'authorities') || null), 60_000)
    await first.close()

    // Somebody else now answers there, with the key and the certificate of the gateway: the EMS can't reach it, but agents know.
    const impostor = await startGatewayDouble({ certificatePem: stolen?.certificate ?? '', privateKeyPem: stolen?.privateKey ?? '' }, (stolen?.authorities ?? []).join('\n'), (stream) => stream.respond({ ':status': 200 }), first.port)
    closing.push(() => impostor.close())
    const trouble = await until('the trouble', async () => {
      expect((await session('a.corp.test')).ok).toBe(false)
      return (await status()).troubles.find(({ kind }) => kind === 'gateways') ?? null
    }, 60_000, 100)
    expect(trouble.sentence).toContain(first.serial)
    expect(describeStatus(await status(), Date.now())).toContain(`The EMS has revoked the certificate of gateway ${first.serial}`)
    expect(impostor.authorities).toEqual([])
    expect(await says(beside, 'still here')).toBe('still here')
    expect(beside.socket.destroyed).toBe(false)
  })
})
