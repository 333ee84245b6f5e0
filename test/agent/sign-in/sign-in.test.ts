// Signing in by a real OpenID provider: what the person sees, and what whoever is not that person gets.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { connect, createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'
import { agentStatus, askAgent } from '../../../agent/local-status.ts'
import { signIn } from '../../../agent/sign-in/sign-in.ts'
import { closeAll, enrolledScene, happened, onEnd } from '../agent-under-test.ts'
import { refusal } from '../ems-double.ts'
import { manualTimers } from '../manual-timers.ts'
import { createVisitor, startProvider } from './identity-provider.ts'
import { agent, begun, world } from './sign-in-scene.ts'
import { vouch } from './vouching.ts'

afterEach(closeAll)
const program = fileURLToPath(new URL('../../../agent/main.ts', import.meta.url))

/** One request to the agent's address, as somebody else may make it. */
async function knock(port: string, path: string, over: { method?: string; host?: string } = {}): Promise<{ status: number; text: string; headers: Record<string, unknown> }> {
  const asked = request({ host: '127.0.0.1', port, path, method: over.method ?? 'GET', headers: { host: over.host ?? `127.0.0.1:${port}` }, agent: false })
  asked.end()
  const [response] = await once(asked, 'response') as [import('node:http').IncomingMessage]
  return { status: response.statusCode ?? 0, text: await text(response), headers: response.headers }
}
const isClosed = async (port: string): Promise<boolean> => {
  const socket = connect({ host: '127.0.0.1', port: Number(port) })
  return await new Promise((resolve) => {
    socket.once('connect', () => { socket.destroy(); resolve(false) })
    socket.once('error', () => resolve(true))
  })
}

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

describe('an answer that is none', { timeout: 120_000 }, () => {
  it('ends nothing: foreign state, none, two, another path, POST, a foreign name', async () => {
    const { scene, vouching } = await world()
    const { redirect: { port }, address, state, ended } = await begun(scene)
    const tries: [number, string, { method?: string; host?: string }?][] = [
      [400, '/callback?code=stolen&state=of-another'], [400, '/callback?code=stolen'], [400, `/callback?code=stolen&state=${state}&state=${state}`], [400, `/callback?code=stolen&state=${state.slice(1)}`], [400, '/callback?error=access_denied'],
      [405, `/callback?code=stolen&state=${state}`, { method: 'POST' }], [405, `/callback?code=stolen&state=${state}`, { method: 'HEAD' }], [404, `/?code=stolen&state=${state}`], [404, `/callback/?code=stolen&state=${state}`], [404, '/favicon.ico'],
      [421, `/callback?code=stolen&state=${state}`, { host: 'attacker.example' }], [421, `/callback?code=stolen&state=${state}`, { host: `attacker.example:${port}` }], [421, `/callback?code=stolen&state=${state}`, { host: '127.0.0.1' }], [421, `/callback?code=stolen&state=${state}`, { host: `localhost:${port}` }],
      [404, `http://attacker.example/callback?code=stolen&state=${state}`],
    ]
    for (const [status, path, over] of tries) expect([path, over, (await knock(port, path, over)).status]).toEqual([path, over, status])
    expect(scene.ems.count('sign-in')).toBe(0)
    expect((await createVisitor().signIn(address)).text).toContain('You are signed in')
    expect((await ended).code).toBe(0)
    expect(vouching.signedIn?.user.subject).toBe('ada')
  })

  it('is none the second time', async () => {
    const { scene } = await world()
    const answering = Promise.withResolvers<void>()
    const usual = scene.ems.instead.get('sign-in')
    scene.ems.instead.set('sign-in', async (asked) => {
      await answering.promise
      return await (usual ?? asked.usual)(asked)
    })
    const { address, redirect: { port }, ended } = await begun(scene)
    const answer = await createVisitor().answerFor(address)
    const first = knock(port, `${answer.pathname}${answer.search}`)
    await happened('the token', () => scene.ems.count('sign-in') === 1)
    expect((await knock(port, `${answer.pathname}${answer.search}`)).status).toBe(410)
    answering.resolve()
    expect((await first).text).toContain('You are signed in')
    expect((await ended).code).toBe(0)
    expect(scene.ems.count('sign-in')).toBe(1)
  })

  it('of another sign-in is refused: its code belongs to another proof, its nonce to another beginning', async () => {
    const { scene, vouching } = await world()
    const [first, second] = [await begun(scene), await begun(scene)]
    // The answer to the first, brought to the second under its state: PKCE tells.
    const stolen = await createVisitor().answerFor(first.address)
    const carried = await knock(second.redirect.port, `/callback?${new URLSearchParams({ code: stolen.searchParams.get('code') ?? '', state: second.state, iss: stolen.searchParams.get('iss') ?? '' }).toString()}`)
    expect(carried.text).toContain('You are not signed in')
    expect(await second.ended).toMatchObject({ code: 1, out: '', err: expect.stringMatching(/refused: invalid_grant/) as string })
    // The first itself: another was begun since, so that the EMS takes its nonce no more.
    expect((await createVisitor().signIn(first.address)).text).toContain('You are not signed in')
    expect((await first.ended).code).toBe(1)
    expect(vouching.signedIn).toBeNull()
  })

  it('that says another issuer is refused', async () => {
    const { scene, vouching } = await world()
    const { address, redirect: { port }, ended } = await begun(scene)
    const answer = await createVisitor().answerFor(address)
    answer.searchParams.set('iss', 'https://attacker.example')
    expect((await knock(port, `${answer.pathname}${answer.search}`)).text).toContain('You are not signed in')
    expect((await ended).code).toBe(1)
    expect(vouching.signedIn).toBeNull()
  })
})

describe('a sign-in that fails', { timeout: 120_000 }, () => {
  it('says what the provider said, with nothing in it that speaks to a terminal or a browser', async () => {
    const { scene } = await world()
    const declined = await begun(scene)
    expect((await createVisitor().decline(declined.address)).text).toMatch(/You are not signed in.*access_denied/s)
    expect(await declined.ended).toMatchObject({ code: 1, err: expect.stringMatching(/The identity provider "example" refused: access_denied .*Sign in with an account that may/) as string })
    const hostile = await begun(scene)
    const page = await knock(hostile.redirect.port, `/callback?${new URLSearchParams({ error: 'access_denied', error_description: '<script>alert(1)</script>\u001b[31m', state: hostile.state, iss: new URL(hostile.address).origin }).toString()}`)
    expect(page.text).not.toContain('<script>')
    const { err } = await hostile.ended
    expect(err).toContain('<script>alert(1)</script>')
    expect(err).not.toContain('\u001b')
    expect(await isClosed(hostile.redirect.port)).toBe(true)
  })

  it('says that the provider is away, or is another than it should be, and what the EMS refuses', async () => {
    const { scene, provider, vouching } = await world()
    scene.ems.instead.set('sign-in', () => refusal('forbidden'))
    const refused = await begun(scene)
    expect((await createVisitor().signIn(refused.address)).text).toContain('refused: forbidden')
    expect(await refused.ended).toMatchObject({ code: 1, err: expect.stringContaining('refused: forbidden') as string })
    vouching.providers = [{ ...provider.settings, issuer: `${provider.issuer}/other` }]
    expect(await agent(scene, 'sign-in', '--no-browser')).toMatchObject({ code: 1, err: expect.stringMatching(/can not be taken.*administrator should check/) as string })
    vouching.providers = [provider.settings]
    await provider.close()
    expect(await agent(scene, 'sign-in', '--no-browser')).toMatchObject({ code: 1, err: expect.stringMatching(/"example" was not reached: ECONNREFUSED\. Check the network/) as string })
  })

  it('ends when the provider goes away in between', async () => {
    const { scene, provider } = await world()
    const { address, ended } = await begun(scene)
    provider.intercept = ({ url = '', socket }) => {
      if (!url.startsWith('/token')) return false
      socket.destroy()
      return true
    }
    expect((await createVisitor().signIn(address)).text).toContain('You are not signed in')
    expect((await ended).code).toBe(1)
  })

  it('closes its address after five minutes', async () => {
    const { scene } = await world()
    const timers = manualTimers()
    const address = Promise.withResolvers<string>()
    const failed = signIn({ ask: (question) => askAgent(scene.directory, question), provider: undefined, onAddress: address.resolve, timers, stopping: new AbortController().signal }).catch((cause: unknown) => cause)
    const { port } = new URL(new URL(await address.promise).searchParams.get('redirect_uri') ?? '')
    await timers.advance(299_000)
    expect(await isClosed(port)).toBe(false)
    await timers.advance(2_000)
    expect(await failed).toMatchObject({ message: 'Nobody signed in within 5 minutes. Run agent sign-in again.' })
    expect(await isClosed(port)).toBe(true)
  })

  it('closes its address at Ctrl-C', async () => {
    const { scene } = await world()
    const child = spawn(process.execPath, [program, 'sign-in', '--no-browser', '--state', scene.directory], { stdio: ['ignore', 'ignore', 'pipe'] })
    onEnd(() => Promise.resolve(void child.kill('SIGKILL')))
    let err = ''
    child.stderr.on('data', (chunk: Buffer) => { err += chunk.toString() })
    const address = await happened('the address', () => /^ +(http\S+)$/m.exec(err)?.[1])
    child.kill('SIGINT')
    expect(await once(child, 'exit')).toEqual([1, null])
    expect(err).toMatch(/Called off\.\n$/)
    expect(await isClosed(new URL(new URL(address).searchParams.get('redirect_uri') ?? '').port)).toBe(true)
  })
})
