// Signing in with a real browser: what it shows, and what another page in it gets while a sign-in is open.
import { existsSync } from 'node:fs'
import { chromium } from 'playwright-core'
import { afterEach, describe, expect, it } from 'vitest'
import { closeAll, onEnd } from '../agent-under-test.ts'
import { begun, world } from './sign-in-scene.ts'

afterEach(closeAll)
const chromiumPath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) => existsSync(path))

describe.skipIf(chromiumPath === undefined)('a real browser (needs Debian\'s chromium)', () => {
  it('is led to the provider and back, and shows how it ended', async () => {
    const { scene, provider } = await world()
    const browser = await chromium.launch({ executablePath: chromiumPath, args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'] })
    onEnd(() => browser.close())
    const page = await browser.newPage()
    const signed = async (address: string) => {
      await page.goto(address)
      await page.fill('input[name=login]', 'ada')
      await page.fill('input[name=password]', 'any')
      await page.click('button[type=submit]')
      await page.click('form button[type=submit]')
      await page.waitForURL(/^http:\/\/127\.0\.0\.1:\d+\/callback/)
      return await page.textContent('body')
    }
    const first = await begun(scene)
    expect(await signed(first.address)).toContain('You are signed in')
    expect((await first.ended).code).toBe(0)
    // A page of somebody else's, while a sign-in is open: it can neither read the agent's address nor end what is going on there.
    provider.intercept = ({ url = '' }, response) => {
      if (url !== '/elsewhere') return false
      response.setHeader('content-type', 'text/html').end('<!doctype html><title>elsewhere</title>')
      return true
    }
    const second = await begun(scene)
    await page.goto(`${provider.issuer}/elsewhere`)
    const heard = await page.evaluate(async (address: string) => {
      const told: string[] = []
      for (const ask of [fetch(`${address}?state=guess&code=x`), fetch(`${address}?state=guess&code=x`, { method: 'POST', mode: 'no-cors', body: 'x' })]) told.push(await ask.then((answer) => answer.type, String))
      return told
    }, second.redirect.href)
    expect(heard).toEqual(['TypeError: Failed to fetch', 'TypeError: Failed to fetch'])
    await page.context().clearCookies()
    expect(await signed(second.address)).toContain('You are signed in')
    expect((await second.ended).code).toBe(0)
  }, 90_000)
})
