// A sign-in that comes to nothing: what whoever is not that person gets, what is said of a failure, and that the address is closed after it.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { afterEach, describe, expect, it } from 'vitest'
import { askAgent } from '../../../agent/local-status.ts'
import { signIn } from '../../../agent/sign-in/sign-in.ts'
import { closeAll, happened, onEnd } from '../agent-under-test.ts'
import { refusal } from '../ems-double.ts'
import { manualTimers } from '../manual-timers.ts'
import { createVisitor } from './identity-provider.ts'
import { agent, begun, isClosed, knock, program, world } from './sign-in-scene.ts'

afterEach(closeAll)

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
