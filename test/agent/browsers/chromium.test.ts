// A real Chromium reaches an HTTPS service through a real gateway with the certificate that the agent put there: no proxy, no prompt. It needs root for the policy.
import { existsSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { chromium, type BrowserContext, type Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startAgent, type AgentEvent, type RunningAgent } from '../../../agent/start.ts'
import * as administration from '../../../protocol/operations/admin.ts'
import { until } from '../../../start/steps.ts'
import { addRoot, hasNssTools, HOST, isRoot, listed, log, SECRET, startScene, type Scene } from './browser-scene.ts'

const executablePath = ['/usr/bin/chromium', '/usr/bin/google-chrome'].find((path) => existsSync(path))
const POLICY = '/etc/chromium/policies/managed/zz-sallyport.json'
const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

describe.skipIf(executablePath === undefined || !hasNssTools || !isRoot)('Chromium with the agent\'s certificate (needs root, Debian\'s chromium and libnss3-tools)', () => {
  let scene: Scene
  let agent: RunningAgent
  let home: string
  let uid: string
  const events: AgentEvent[] = []
  const browsers: BrowserContext[] = []
  const database = () => join(home, '.pki/nssdb')

  async function launch(profile: string): Promise<Page> {
    const browser = await chromium.launchPersistentContext(join(scene.directory, profile), { executablePath, env: { HOME: home }, args: [...flags, `--host-resolver-rules=MAP ${HOST} 127.0.0.1`] })
    browsers.push(browser)
    return await browser.newPage()
  }
  const visit = async (page: Page) => {
    const answer = await page.goto(scene.url)
    return { status: answer?.status(), text: await page.textContent('body') ?? '' }
  }
  const sees = (page: Page, status: number) => until(`an answer ${status}`, async () => {
    const seen = await visit(page)
    return seen.status === status ? seen : null
  }, 20_000, 50)

  beforeAll(async () => {
    scene = await startScene([HOST])
    home = await scene.newHome()
    await addRoot(scene, database())
    uid = await scene.enrol(join(scene.directory, 'state'))
    agent = await startAgent({ stateDirectory: join(scene.directory, 'state'), home, now: Date.now, log, onEvent: (event) => events.push(event), command: () => Promise.resolve(null) })
    await until('the certificate in the browser', () => Promise.resolve(events.some(({ event }) => event === 'browser-certificate') || null), 20_000)
    await until('the policy', () => Promise.resolve(existsSync(POLICY) || null))
  }, 60_000)
  afterAll(async () => {
    for (const browser of browsers) await browser.close()
    await agent?.close()
    await scene?.close()
  })

  let page: Page
  it('reaches the service as this endpoint', async () => {
    page = await launch('profile')
    expect(await sees(page, 200)).toEqual({ status: 200, text: `${SECRET} ${uid}` })
    expect((await agent.status()).troubles).toEqual([])
  }, 30_000)

  it('sees why it is refused when the tag goes, and gets back in when that is mended', async () => {
    await rm(scene.marker)
    const refused = await sees(page, 403)
    expect(refused.text).toContain('tag-missing')
    expect(refused.text).toContain(uid)
    await writeFile(scene.marker, 'on')
    expect((await sees(page, 200)).text).toContain(SECRET)
  }, 40_000)

  it('gets in no longer after deregistration: the certificate is gone, also from the gateway, and what is not ours is left', async () => {
    expect(await listed(database())).toEqual(['Administrator root C,,', `Sallyport ${uid} u,u,u`])
    await scene.administrator.call(administration.deregisterEndpoint, { params: { uid }, body: { reason: 'left' } })
    expect(await agent.ended).toBe('deregistered')
    expect(await listed(database())).toEqual(['Administrator root C,,'])
    expect(existsSync(POLICY)).toBe(false)
    expect(existsSync(join(scene.directory, 'state/browsers.json'))).toBe(false)
    const tried = (each: Page) => visit(each).catch((cause: unknown) => ({ status: 0, text: String(cause) }))
    // The browser that is still open holds the key; the gateway knows better.
    expect((await tried(page)).text).not.toContain(SECRET)
    const fresh = await tried(await launch('fresh'))
    expect(fresh.status).not.toBe(200)
    expect(fresh.text).not.toContain(SECRET)
  }, 40_000)
})
