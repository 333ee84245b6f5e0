// Signing in by a real OpenID provider: what the person sees, and that it is theirs alone on their machine.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { agentStatus } from '../../../agent/local-status.ts'
import { closeAll, enrolledScene, happened, onEnd } from '../agent-under-test.ts'
import { createVisitor, startProvider } from './identity-provider.ts'
import { agent, begun, isClosed, program, world } from './sign-in-scene.ts'
import { vouch } from './vouching.ts'

afterEach(closeAll)

describe('agent sign-in', { timeout: 120_000 }, () => {
  it('has the provider vouch for the person, tells both the browser and the terminal, and shows it until they sign out', async () => {
    const { scene, provider, vouching } = await world()
    expect((await agent(scene, 'status')).out).toContain('signed in    nobody is signed in (agent sign-in)\n')
    const { address, redirect, ended } = await begun(scene)
    const asked = new URL(address)
    expect(Object.fromEntries(asked.searchParams)).toMatchObject({ response_type: 'code', client_id: 'sallyport', code_challenge_method: 'S256', nonce: vouching.nonces[0], max_age: '43200', scope: 'openid email profile groups' })
    expect(redirect.href).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/callback$/)
    const page = await createVisitor().signIn(address)
    expect(page.text).toMatch(/You are signed in.*You can close this window/s)
    expect(page.text).not.toMatch(/eyJ|script/)
    expect(page.headers.get('referrer-policy')).toBe('no-referrer')
    expect(page.headers.get('content-security-policy')).toContain('default-src \'none\'')
    expect(page.headers.get('cache-control')).toBe('no-store')
    const { code, out, err } = await ended
    expect([code, out]).toEqual([0, expect.stringMatching(/^Signed in as ada@example\.com \(Ada Lovelace\) by example, since \S+Z, until \S+Z\.\n$/)])
    expect(err).not.toContain('eyJ')
    expect(await isClosed(redirect.port)).toBe(true)
    expect(vouching.signedIn?.user).toMatchObject({ issuer: provider.issuer, subject: 'ada', groups: ['staff'] })
    expect(scene.lines.filter((line) => JSON.stringify(line).includes('eyJ'))).toEqual([])

    expect((await agent(scene, 'status')).out).toMatch(/^signed in {4}ada@example\.com \(Ada Lovelace\) by example, since \S+, until \S+$/m)
    const shown = agentStatus.parse(JSON.parse((await agent(scene, 'status', '--json')).out))
    expect(shown.identity).toMatchObject({ state: 'somebody', provider: 'example', user: { email: 'ada@example.com' } })
    // As an administrator may sign them out, or the end may have come, at any time.
    vouching.signedIn = null
    expect((await agent(scene, 'status')).out).toContain('nobody is signed in')
    await scene.ems.stop()
    expect((await agent(scene, 'status')).out).toMatch(/^signed in +not known: the EMS does not answer$/m)
  })

  it('says who it was as JSON, and signs out', async () => {
    const { scene, vouching } = await world()
    const { address, ended } = await begun(scene, '--json', '--provider', 'example')
    await createVisitor().signIn(address, 'grace')
    expect(JSON.parse((await ended).out)).toMatchObject({ provider: 'example', user: { subject: 'grace', email: 'grace@example.com' } })
    expect(await agent(scene, 'sign-out')).toMatchObject({ code: 0, err: '', out: expect.stringMatching(/^Signed out\..*agent sign-in/) as string })
    expect(vouching.signedIn).toBeNull()
    expect(scene.told('signed-in').length + scene.told('signed-out').length).toBe(2)
  })

  it('listens where the provider wants it, and says so when another program does', async () => {
    const { scene, vouching, provider } = await world()
    const other = createServer()
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    onEnd(() => new Promise<void>((resolve) => other.close(() => resolve())))
    const { port } = other.address() as AddressInfo
    vouching.providers = [{ ...provider.settings, redirectPort: port }]
    expect(await agent(scene, 'sign-in', '--no-browser')).toMatchObject({ code: 1, err: expect.stringMatching(new RegExp(`Port ${port} on 127.0.0.1 is taken.*try again`)) as string })
    await new Promise<void>((resolve) => other.close(() => resolve()))
    const { redirect, address, ended } = await begun(scene)
    expect(redirect.port).toBe(String(port))
    await createVisitor().signIn(address)
    expect((await ended).code).toBe(0)
  })

  it('trusts whom the machine was told to trust at its enrolment', async () => {
    const scene = await enrolledScene()
    const provider = await startProvider({}, scene.ems.tls)
    onEnd(() => provider.close())
    const vouching = vouch(scene.ems, provider)
    await scene.start()
    const { address, ended } = await begun(scene)
    expect(address).toMatch(/^https:\/\/localhost:/)
    await createVisitor(scene.ems.tlsCa).signIn(address)
    expect((await ended).code).toBe(0)
    expect(vouching.signedIn?.user.issuer).toBe(provider.issuer)
  })

  it('names the providers where there are several, and what to do where there is none', async () => {
    const { scene, vouching, provider } = await world()
    vouching.providers = [provider.settings, { ...provider.settings, name: 'other' }]
    expect(await agent(scene, 'sign-in')).toMatchObject({ code: 1, err: 'There are several identity providers: example, other. Name one: agent sign-in --provider example\n' })
    vouching.providers = []
    expect(await agent(scene, 'sign-in')).toMatchObject({ code: 1, err: expect.stringMatching(/no identity provider.*Ask an administrator/) as string })
    expect(await agent(scene, 'sign-in', '--provider', 'nobody')).toMatchObject({ code: 1 })
  })
})

describe('the enrolled user of an agent that runs as root', { timeout: 120_000 }, () => {
  it('signs in without root\'s help; another user of the machine does not, nor can they sign them out', async ({ skip }) => {
    if (process.getuid?.() !== 0) return skip('needs root to act as other users')
    const [owner, stranger] = [65_534, 65_533]
    const provider = await startProvider()
    onEnd(() => provider.close())
    const scene = await enrolledScene(undefined, owner)
    const vouching = vouch(scene.ems, provider)
    await scene.start()
    await chmod(join(scene.directory, '..'), 0o755)
    const as = (uid: number, ...words: string[]) => {
      const child = spawn(process.execPath, [program, ...words, '--state', scene.directory], { stdio: ['ignore', 'pipe', 'pipe'], uid, gid: uid, env: { HOME: '/nonexistent', PATH: process.env.PATH ?? '' } })
      onEnd(() => Promise.resolve(void child.kill('SIGKILL')))
      const said = { out: '', err: '' }
      child.stdout.on('data', (chunk: Buffer) => { said.out += chunk.toString() })
      child.stderr.on('data', (chunk: Buffer) => { said.err += chunk.toString() })
      return { said, ended: once(child, 'exit').then(([code]) => ({ code: code as number | null, ...said })) }
    }
    const { said, ended } = as(owner, 'sign-in', '--no-browser')
    const address = await happened('the address', () => /^ +(http\S+)$/m.exec(said.err)?.[1])
    await createVisitor().signIn(address)
    expect(await ended).toMatchObject({ code: 0, out: expect.stringContaining('Signed in as ada@example.com') as string })
    for (const words of [['sign-in', '--no-browser'], ['sign-out'], ['status'], ['ssh-certificate', 'host.test']]) expect(await as(stranger, ...words).ended).toMatchObject({ code: 1, out: '', err: expect.stringMatching(/status\.sock: this account may not/) as string })
    expect(vouching.signedIn?.user.subject).toBe('ada')
    expect(vouching.nonces).toHaveLength(1)
  })

  it('has their own browser opened, also where root signs them in; none where there is no screen, or they want none', async ({ skip }) => {
    if (process.getuid?.() !== 0) return skip('needs root to act as other users')
    const provider = await startProvider()
    onEnd(() => provider.close())
    const scene = await enrolledScene(undefined, 65_534)
    vouch(scene.ems, provider)
    await scene.start()
    const tools = join(scene.directory, '..', 'tools')
    await mkdir(tools)
    for (const open of [join(scene.directory, '..'), tools]) await chmod(open, 0o777)
    await writeFile(join(tools, 'xdg-open'), `#!/bin/sh\necho "$(id -u) $(id -g) $HOME $1" > ${tools}/opened.part\nmv ${tools}/opened.part ${tools}/opened\n`, { mode: 0o755 })
    const opened = () => readFile(join(tools, 'opened'), 'utf8').catch(() => null)
    const begin = async (env: Record<string, string>, ...words: string[]) => {
      const child = spawn(process.execPath, [program, 'sign-in', ...words, '--state', scene.directory], { stdio: ['ignore', 'ignore', 'pipe'], env: { HOME: '/root', PATH: `${tools}:${process.env.PATH ?? ''}`, ...env } })
      onEnd(() => Promise.resolve(void child.kill('SIGKILL')))
      let err = ''
      child.stderr.on('data', (chunk: Buffer) => { err += chunk.toString() })
      const address = await happened('the address', () => /^ +(http\S+)$/m.exec(err)?.[1])
      return { address, async end() {
        child.kill('SIGTERM')
        await once(child, 'exit')
      } }
    }
    for (const [env, ...words] of [[{}], [{ DISPLAY: ':9' }, '--no-browser']] as const) {
      await (await begin(env, ...words)).end()
      expect(await opened()).toBeNull()
    }
    const { address, end } = await begin({ DISPLAY: ':9' })
    expect(await happened('the browser', opened)).toBe(`65534 65534 /nonexistent ${address}\n`)
    await end()
  })
})
