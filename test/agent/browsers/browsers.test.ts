// Real browsers reach an HTTPS service through a real gateway with the certificate that the agent put there: no proxy, no prompt. Policies lie in /etc, so it needs root.
import { existsSync } from 'node:fs'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { letGoOfBrowsers } from '../../../agent/certificates/browsers/remove.ts'
import { startAgent, type AgentEvent, type RunningAgent } from '../../../agent/start.ts'
import * as administration from '../../../protocol/operations/admin.ts'
import { until } from '../../../start/steps.ts'
import { addRoot, hasNssTools, HOST, isRoot, listed, log, run, SECRET, startScene, type Scene } from './browser-scene.ts'
import { chromiumBrowser, dumpAs, firefoxBrowser, type Browser, type Driven } from './drive.ts'

const CHROMIUM_POLICY = '/etc/chromium/policies/managed/zz-sallyport.json'
const FIREFOX_POLICY = '/etc/firefox/policies/policies.json'
const NOBODY = 65_534
const browsers = [chromiumBrowser, firefoxBrowser].filter(({ installed }) => installed)
const missing = [...(isRoot ? [] : ['root']), ...(hasNssTools ? [] : ['Debian\'s libnss3-tools']), ...(browsers.length > 0 ? [] : ['Debian\'s chromium or firefox-esr'])]

describe.skipIf(missing.length > 0)(`browsers with the agent's certificate${missing.length > 0 ? ` (needs ${missing.join(', ')})` : ''}`, () => {
  let scene: Scene
  let agent: RunningAgent
  let home: string
  let uid: string
  const events: AgentEvent[] = []
  const databases = new Map<Browser, string>()
  const open = new Map<Browser, Driven>()
  const closing: (() => Promise<void>)[] = []
  const launch = async (browser: Browser, profile: string): Promise<Driven> => {
    const driven = await browser.launch(home, profile)
    closing.push(driven.close)
    return driven
  }
  const opened = (browser: Browser): Driven => {
    const driven = open.get(browser)
    if (driven === undefined) throw new Error(`${browser.name} was not launched`)
    return driven
  }
  const sees = (browser: Browser, wanted: string) => until(`${wanted} in ${browser.name}`, async () => {
    const text = await opened(browser).visit(scene.url)
    if (text.includes(wanted)) return text
    throw new Error(`it shows: ${text.slice(0, 300)}`)
  }, 60_000, 50)

  beforeAll(async () => {
    scene = await startScene([HOST])
    home = await scene.newHome()
    for (const browser of browsers) {
      const database = await browser.prepare(home)
      databases.set(browser, database)
      await addRoot(scene, database)
    }
    uid = await scene.enrol(join(scene.directory, 'state'))
    agent = await startAgent({ stateDirectory: join(scene.directory, 'state'), home, now: Date.now, log, onEvent: (event) => events.push(event), command: () => Promise.resolve(null) })
    await until('the certificates', () => Promise.resolve([...databases.values()].every((store) => events.some((event) => event.event === 'browser-certificate' && event.store === store)) || null), 60_000)
    await until('the policies', () => Promise.resolve((existsSync(CHROMIUM_POLICY) && existsSync(FIREFOX_POLICY)) || null))
  }, 600_000)
  afterAll(async () => {
    for (const close of closing.splice(0)) await close()
    await agent?.close()
    // What lies in /etc must not outlive a test that failed.
    await letGoOfBrowsers({ stateDirectory: join(scene.directory, 'state'), home, log })
    await scene?.close()
  })

  for (const browser of [chromiumBrowser, firefoxBrowser]) it.skipIf(!browser.installed)(`${browser.name} reaches the service as this endpoint, and not without the tag; it gets back in when that is mended${browser.installed ? '' : ' (not installed)'}`, async () => {
    open.set(browser, await launch(browser, 'profile'))
    expect(await sees(browser, SECRET)).toBe(`${SECRET} ${uid}`)
    await rm(scene.marker)
    // Also where the browser still sends what the gateway does not want any more: the refusal is whole.
    for (const length of [10, 1_000_000]) await until(`a refusal of ${length} characters`, async () => (await opened(browser).post(length)).includes('"reason":"tag-missing"') || null, 60_000)
    expect(await sees(browser, 'tag-missing')).toContain(uid)
    await writeFile(scene.marker, 'on')
    await sees(browser, SECRET)
    expect((await agent.status()).troubles).toEqual([])
  }, 600_000)

  it('have one key each, and what is not ours beside it', async () => {
    for (const database of databases.values()) expect(await listed(database)).toEqual(['Administrator root C,,', `Sallyport ${uid} u,u,u`])
    const { stores } = JSON.parse(await readFile(join(scene.directory, 'state/browsers.json'), 'utf8')) as { stores: { current: { keyId: string } }[] }
    expect(new Set(stores.map(({ current }) => current.keyId)).size).toBe(new Set([...databases.values(), join(home, '.pki/nssdb')]).size)
  })

  it.skipIf(!chromiumBrowser.installed)('of another user get in by an agent that runs as root; its end takes nothing from the first', async () => {
    const other = await scene.newHome()
    await addRoot(scene, join(other, '.pki/nssdb'))
    await run('chown', ['-R', `${NOBODY}:${NOBODY}`, other])
    const stateDirectory = join(scene.directory, 'other')
    const otherUid = await scene.enrol(stateDirectory, NOBODY)
    const placed = Promise.withResolvers<void>()
    const second = await startAgent({ stateDirectory, home: other, now: Date.now, log, onEvent: ({ event }) => { if (event === 'browser-certificate') placed.resolve() }, command: () => Promise.resolve(null) })
    await placed.promise
    const policy = () => readFile(CHROMIUM_POLICY, 'utf8')
    await until('the policy', async () => (await policy()).includes(otherUid) || null)
    const seen = await until('the page', async () => {
      const page = await dumpAs(NOBODY, other, scene.url)
      return page.includes(SECRET) ? page : null
    }, 60_000)
    expect(seen).toContain(otherUid)
    const foreign = (await run('find', [other, '!', '-user', String(NOBODY)])).stdout
    expect(foreign).toBe('')
    await scene.administrator.call(administration.deregisterEndpoint, { params: { uid: otherUid }, body: { reason: 'left' } })
    expect(await second.ended).toBe('deregistered')
    expect(await listed(join(other, '.pki/nssdb'))).toEqual(['Administrator root C,,'])
    expect(await policy()).not.toContain(otherUid)
    expect(await policy()).toContain(uid)
  }, 600_000)

  it('get in no longer after deregistration: certificates and policies are gone, and what is not ours is left', async () => {
    await scene.administrator.call(administration.deregisterEndpoint, { params: { uid }, body: { reason: 'left' } })
    expect(await agent.ended).toBe('deregistered')
    for (const database of databases.values()) expect(await listed(database)).toEqual(['Administrator root C,,'])
    expect([CHROMIUM_POLICY, FIREFOX_POLICY, join(scene.directory, 'state/browsers.json')].filter((path) => existsSync(path))).toEqual([])
    for (const browser of browsers) {
      // The browser that is still open may hold the key in memory; the gateway knows better.
      expect(await opened(browser).visit(scene.url)).not.toContain(SECRET)
      await opened(browser).close()
      expect(await (await launch(browser, 'fresh')).visit(scene.url)).not.toContain(SECRET)
    }
  }, 600_000)
})
