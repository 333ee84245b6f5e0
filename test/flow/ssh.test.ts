// SSH from end to end: a person signs in by a real OpenID provider, the real EMS tells a real gateway, its SSH CA certifies a key, a real sshd lets them in; and all that ends with the sign-out.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { enrolAgent } from '../../agent/enrol.ts'
import { startAgent, type RunningAgent } from '../../agent/start.ts'
import { startGateway, type Gateway } from '../../gateway/start.ts'
import { openSshAuthority } from '../../gateway/ssh/authority.ts'
import { silentLog } from '../../node/logging.ts'
import { until } from '../../start/steps.ts'
import { createVisitor, startProvider, type RunningProvider } from '../agent/sign-in/identity-provider.ts'
import { startFabric, type Fabric } from '../cli/fabric-under-test.ts'
import { cleanUp } from '../gateway/proxy/gate-under-test.ts'
import { hasOpenSsh, newKey, startSshd, type Sshd } from '../gateway/ssh/sshd-under-test.ts'

const log = silentLog()
const login = userInfo().username
const program = fileURLToPath(new URL('../../agent/main.ts', import.meta.url))

describe.skipIf(!hasOpenSsh)('SSH for whoever is signed in (needs sshd, ssh and ssh-keygen, as root or with /run/sshd)', { timeout: 240_000 }, () => {
  let directory: string
  let fabric: Fabric
  let provider: RunningProvider
  let host: Sshd
  let gateway: Gateway
  let agent: RunningAgent
  const state = () => join(directory, 'state')
  const settings = () => ({ proxy: { httpPort: 0, socksPort: 0 }, gateways: [{ serial: gateway.serial, host: '127.0.0.1', port: gateway.port }], destinations: [{ match: 'build.test', ports: [22], gateway: gateway.serial }] })

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'ssh-flow-'));
    [fabric, provider] = await Promise.all([startFabric(), startProvider()])
    const hostKey = await newKey(directory, 'host')
    const gatewayState = join(directory, 'gateway')
    const authority = (await openSshAuthority({ directory: gatewayState, now: Date.now }).published()).map(({ line }) => line)
    host = await startSshd({ principals: ['ada@example.com'], trusts: authority, hostKey })
    const policies = join(directory, 'policies.yaml')
    await writeFile(policies, `
services: [{name: build, protocol: tcp, match: [build.test], ports: [22], upstream: "127.0.0.1:${host.port}", ssh: {hostKeys: ["${hostKey.line}"]}}]
policies: [{name: staff, services: [build], groups: [staff], action: allow}]
`)
    await fabric.json('identity-providers', 'set', 'corp', '--issuer', provider.issuer, '--client-id', 'sallyport', '--scopes', 'openid,email,profile,groups')
    const [code] = await fabric.json<{ text: string }>('gateways', 'join-code', 'create')
    const current = Promise.withResolvers<void>()
    gateway = await startGateway({ stateDirectory: gatewayState, policiesFile: policies, joinCode: code?.text ?? '', listen: { host: '127.0.0.1', port: 0 }, metricsPort: 0, tlsCa: [fabric.ems.tlsCaPem], now: Date.now, log, onEvent: ({ event }) => { if (event === 'current') current.resolve() } })
    await fabric.json('gateways', 'entitle', gateway.serial, '--share-mode', 'all')
    await current.promise
    const [profile] = await fabric.json<{ id: string }>('profiles', 'apply', await fabric.file('profile.json', JSON.stringify({ name: 'default', settings: settings() })))
    await fabric.json('policies', 'apply', await fabric.file('policy.json', JSON.stringify({ name: 'everybody', position: 0, profileId: profile?.id })))
    const [invitation] = await fabric.json<{ text: string }>('invitations', 'create')
    await enrolAgent({ invitation: invitation?.text ?? '', stateDirectory: state(), tlsCa: [fabric.ems.tlsCaPem], ownerUid: process.getuid?.() ?? 0, now: Date.now, log })
    agent = await startAgent({ stateDirectory: state(), now: Date.now, log, command: () => Promise.resolve(null) })
    await until('the proxy', () => Promise.resolve(agent.tunnel().running || null), 60_000)
  })
  afterAll(async () => {
    await agent.close()
    await gateway.close()
    await fabric.close()
    await cleanUp()
    await Promise.all([provider.close(), rm(directory, { recursive: true })])
  })

  const begin = (...words: string[]) => {
    const [verb = '', ...rest] = words
    return spawn(process.execPath, [program, verb, '--state', state(), ...rest], { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: process.env.PATH ?? '', HOME: directory, TMPDIR: directory } })
  }
  const run = async (...words: string[]) => {
    const child = begin(...words)
    const [out, err, [exit]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit') as Promise<[number | null]>])
    return { code: exit, out, err }
  }

  it('is refused to nobody in particular, who is told to sign in; then it works, by a certificate that names them', async () => {
    const refused = await until('the gateway to know the device', async () => {
      const said = await run('ssh', `${login}@build.test`, '--', 'echo inside')
      return said.err.includes('user-unverified') ? said : null
    }, 60_000)
    expect(refused).toMatchObject({ code: 1, out: '', err: expect.stringMatching(/sign in: agent sign-in/i) as string })

    const signing = begin('sign-in', '--no-browser')
    let shown = ''
    signing.stderr.on('data', (chunk: Uint8Array) => { shown += Buffer.from(chunk).toString() })
    const signed = once(signing, 'exit')
    await createVisitor().signIn(await until('the address', () => Promise.resolve(/^ +(http\S+)$/m.exec(shown)?.[1] ?? null), 30_000))
    expect(await signed).toEqual([0, null])
    expect((await run('status')).out).toMatch(/^signed in {4}ada@example\.com \(Ada Lovelace\) by corp, since /m)
    expect(await run('ssh', `${login}@build.test`, '--', 'echo inside; exit 3')).toEqual({ code: 3, out: 'inside\n', err: '' })
    expect(host.log()).toMatch(new RegExp(`Accepted publickey for ${login} .* ID uid=${agent.uid} user=ada@example\\.com decision=D`))
  })

  it('ends, the open session too, when an administrator signs them out', async () => {
    const open = begin('ssh', `${login}@build.test`, '--', 'echo open; exec sleep 1000')
    await once(open.stdout, 'data')
    const cut = once(open, 'exit')
    await fabric.json('endpoints', 'sign-out', agent.uid)
    expect(await cut).toEqual([255, null])
    expect(await run('ssh', `${login}@build.test`, '--', 'echo inside')).toMatchObject({ code: 1, out: '', err: expect.stringContaining('user-unverified') as string })
    const status = await run('status')
    expect(status.out).toContain('nobody is signed in (agent sign-in)')
    expect(status.out).toMatch(/build\.test:22/)
    expect((await readdir(directory)).filter((name) => name.startsWith('sallyport-ssh-'))).toEqual([])
  })
})
