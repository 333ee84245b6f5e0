// A person signs in: the real agent and a real OpenID provider, the real EMS, a real gateway whose policy asks who it is. And how it ends.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readIdentity } from '../../agent/certificates/identity-store.ts'
import { agentCommand } from '../../agent/command-line.ts'
import { enrolAgent } from '../../agent/enrol.ts'
import { startAgent, type RunningAgent } from '../../agent/start.ts'
import { readMembership } from '../../gateway/fabric/membership.ts'
import { startGateway, type Gateway } from '../../gateway/start.ts'
import { copyBytes, fromPem } from '../../identity/encoding.ts'
import { importPrivateKey } from '../../identity/keys.ts'
import { createControlClient } from '../../node/control-client.ts'
import { silentLog } from '../../node/logging.ts'
import { downloadAuthorities, sysinfo } from '../../protocol/operations/fabric.ts'
import { until } from '../../start/steps.ts'
import { createVisitor, startProvider, type RunningProvider } from '../agent/sign-in/identity-provider.ts'
import { startFabric, type Fabric } from '../cli/fabric-under-test.ts'
import { gatewayDirectory, knock, policiesText, startService, type Knocker } from '../gateway/fabric/gateway-under-test.ts'

const log = silentLog()

describe('a person who signs in', { timeout: 240_000 }, () => {
  let fabric: Fabric
  let provider: RunningProvider
  let service: Awaited<ReturnType<typeof startService>>
  let gateway: Gateway
  let place: Awaited<ReturnType<typeof gatewayDirectory>>
  let agent: RunningAgent
  let laptop: Knocker
  let authority: string
  let directory: string
  const state = () => join(directory, 'state')

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'sign-in-'));
    [fabric, provider, service] = await Promise.all([startFabric(), startProvider(), startService()])
    const [invitation] = await fabric.json<{ text: string }>('invitations', 'create')
    await enrolAgent({ invitation: invitation?.text ?? '', stateDirectory: state(), tlsCa: [fabric.ems.tlsCaPem], ownerUid: process.getuid?.() ?? 0, now: Date.now, log })
    agent = await startAgent({ stateDirectory: state(), now: Date.now, log, command: () => Promise.resolve(null) })
    const identity = await readIdentity(state())
    laptop = { certificatePem: identity?.certificatePem ?? '', privateKeyPem: identity?.privateKeyPem ?? '', serial: identity?.serial ?? '' }
    const rule = { name: 'staff', tag: 'staff', rules: { linux: { conditions: [{ type: 'user-identity', verified: true, groups: ['staff'], issuer: provider.issuer }] } } }
    await fabric.json('rule-sets', 'apply', await fabric.file('staff.json', JSON.stringify(rule)))
    await fabric.json('identity-providers', 'set', 'corp', '--issuer', provider.issuer, '--client-id', 'sallyport', '--scopes', 'openid,email,profile,groups')
    const [code] = await fabric.json<{ text: string }>('gateways', 'join-code', 'create')
    place = await gatewayDirectory(service.port, 'staff')
    await writeFile(place.policiesFile, policiesText(service.port, 'staff').replace('    action:', '    users: [ada@example.com]\n    action:'))
    const { promise: current, resolve } = Promise.withResolvers<void>()
    gateway = await startGateway({ ...place, joinCode: code?.text ?? '', listen: { host: '127.0.0.1', port: 0 }, metricsPort: 0, tlsCa: [fabric.ems.tlsCaPem], now: Date.now, log, onEvent: ({ event }) => { if (event === 'current') resolve() } })
    await fabric.json('gateways', 'entitle', gateway.serial, '--share-mode', 'all')
    await current
    const reader = createControlClient({ ems: fabric.ems.address, tlsCa: [fabric.ems.tlsCaPem], now: Date.now, log })
    authority = await reader.call(downloadAuthorities, {})
    await reader.close()
  })
  afterAll(async () => {
    await agent.close()
    await gateway.close()
    await fabric.close()
    await Promise.all([provider.close(), service.close(), rm(directory, { recursive: true }), rm(dirname(place.policiesFile), { recursive: true })])
  })

  const shown = async () => (await fabric.json<{ signedInBy: string | null; tags: { state: string }[]; facts: { identity?: { provenance: string; value: object } } }>('endpoints', 'show', agent.uid))[0]
  const getsIn = () => until('the laptop is let in', async () => (await knock(gateway, laptop, authority)).status === 200 || null, 60_000)
  const isRefused = () => until('the laptop is refused', async () => (await knock(gateway, laptop, authority)).status === 403 || null, 60_000)
  /** The gateway's page of endpoint records, asked for as that gateway. */
  async function recordAtGateway() {
    const member = await readMembership(place.stateDirectory)
    const { privateKey } = await importPrivateKey(member?.privateKey ?? '', false)
    const client = createControlClient({ ems: fabric.ems.address, tlsCa: [fabric.ems.tlsCaPem], now: Date.now, log, identity: () => ({ privateKey, certificateDer: copyBytes(fromPem('CERTIFICATE', member?.certificate ?? '') ?? new Uint8Array()) }) })
    try {
      return (await client.call(sysinfo.get, { query: {} })).data.data[agent.uid]
    } finally {
      await client.close()
    }
  }
  /** `agent sign-in`, and whoever that is in the browser. */
  async function signIn(login: string): Promise<string> {
    const said = { out: '', err: '' }
    const ended = agentCommand(['sign-in', '--no-browser', '--state', state()], { out: (line) => { said.out += `${line}\n` }, err: (line) => { said.err += `${line}\n` } })
    const address = await until('the address', () => Promise.resolve(/^ +(http\S+)$/m.exec(said.err)?.[1] ?? null))
    await createVisitor().signIn(address, login)
    expect([await ended, said.err.includes('eyJ')]).toEqual([0, false])
    return said.out
  }

  it('is let through by a policy that names them, and was nobody before', async () => {
    await until('the first report', async () => (await shown())?.tags[0] ?? null, 60_000)
    expect(await shown()).toMatchObject({ signedInBy: null, tags: [{ state: 'unknown' }] })
    await isRefused()
    const before = Math.floor(Date.now() / 1000)
    expect(await signIn('ada')).toContain('Signed in as ada@example.com (Ada Lovelace) by corp')
    expect(await shown()).toMatchObject({ signedInBy: 'corp', tags: [{ state: 'present' }], facts: { identity: { provenance: 'proved', value: { issuer: provider.issuer, subject: 'ada', groups: ['staff'] } } } })
    const record = await recordAtGateway()
    expect(record?.verified_user).toMatchObject({ issuer: provider.issuer, subject: 'ada', email: 'ada@example.com', name: 'Ada Lovelace', groups: ['staff'] })
    const { authenticated_at: from = 0, expires_at: to = 0 } = record?.verified_user ?? {}
    expect([from >= before - 1 && from <= Date.now() / 1000, (to ?? 0) - from]).toEqual([true, 43_200])
    await getsIn()
  })
  it('is another person when another signs in, and none when they sign out or are signed out', async () => {
    await signIn('grace')
    expect((await recordAtGateway())?.verified_user).toMatchObject({ subject: 'grace' })
    await isRefused()
    await signIn('ada')
    await getsIn()
    expect(await agentCommand(['sign-out', '--state', state()], { out: () => undefined, err: () => undefined })).toBe(0)
    expect([(await shown())?.signedInBy, await recordAtGateway()]).toEqual([null, expect.not.objectContaining({ verified_user: expect.anything() as unknown })])
    await isRefused()
    await signIn('ada')
    await getsIn()
    await fabric.json('endpoints', 'sign-out', agent.uid)
    await isRefused()
  })
  it('is signed out with their provider', async () => {
    await signIn('ada')
    await getsIn()
    await fabric.json('identity-providers', 'delete', 'corp', '--yes')
    await isRefused()
    await until('nobody at the gateway', async () => (await recordAtGateway())?.verified_user === undefined || null, 30_000)
    expect((await shown())?.facts.identity).toBeUndefined()
  })
})
