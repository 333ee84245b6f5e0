// A web page in a real Chromium whose name comes to mean the agent's proxy. It may say to that port whatever a page can, and gets nothing.
import { existsSync, readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { fileURLToPath } from 'node:url'
import { chromium, type Browser, type Page } from 'playwright-core'
import { afterEach, describe, expect, it } from 'vitest'
import { freePort } from '../../../start/free-port.ts'
import { relayTo } from './gateway-double.ts'
import { closeAll, eventually, serveTcp, startScene, type Scene } from './tunnel-under-test.ts'

const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) => existsSync(path))
const script = readFileSync(fileURLToPath(new URL('rebinding-page.js', import.meta.url)), 'utf8')
const SECRET = 'the protected page'
const NAME = 'rebind.test'
const openThings: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of openThings.splice(0).reverse()) await close()
  await closeAll()
})

async function launch(...args: string[]): Promise<Browser> {
  const browser = await chromium.launch({
    executablePath, timeout: 150_000, args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', ...args],
  })
  openThings.push(() => browser.close())
  return browser
}

/** The page's own server, on the port that the agent's proxy will have. */
async function servePage(): Promise<{ port: number; close(): Promise<void> }> {
  const server: Server = createServer((_request, response) => response.setHeader('content-type', 'text/html').end(`<!doctype html><iframe name=frame></iframe><script>${script}</script>`))
  const port = await freePort()
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  const close = () => new Promise<void>((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
  return { port, close }
}

describe.skipIf(executablePath === undefined)('a page that rebinds its name to the agent\'s proxy (needs Debian\'s chromium)', () => {
  async function rebound(): Promise<{ scene: Scene; page: Page; port: number; direct: number; hits: string[] }> {
    const hits: string[] = []
    const web = createServer((request, response) => {
      hits.push(`${request.method} ${request.headers.host} ${request.url}`)
      response.end(SECRET)
    })
    const direct = await serveTcp((socket) => web.emit('connection', socket))
    const scene = await startScene({ handle: relayTo(() => direct) })
    const own = await servePage()
    const page = await (await launch(`--host-resolver-rules=MAP ${NAME} 127.0.0.1`)).newPage()
    await page.goto(`http://${NAME}:${own.port}/`)
    // The name now means the agent: same origin, another server.
    await own.close()
    scene.change({ proxy: { httpPort: own.port, socksPort: 0 } })
    await eventually(() => scene.tunnel.httpPort === own.port)
    return { scene, page, port: own.port, direct, hits }
  }

  it('gets nothing, whatever it says', async () => {
    const { scene, page, port, direct, hits } = await rebound()
    const heard = await page.evaluate<Record<string, string>>(`attack(${JSON.stringify({ port, socksPort: scene.tunnel.socksPort, direct })})`)
    expect(Object.keys(heard).length).toBeGreaterThan(18)
    expect(heard.get).toBe('400 basic This is a proxy: it takes CONNECT and absolute-form requests (http://host/path) only.\n')
    for (const [name, answer] of Object.entries(heard)) {
      expect(answer, name).not.toContain(SECRET)
      expect(answer, name).toMatch(/^(400 basic |0 opaque $|error: |silence|closed|sent|not sent|unreadable|This is a proxy)/)
    }
    expect(scene.gateway.authorities).toEqual([])
    expect(hits).toEqual([])
  }, 600_000)

  it('would have got it if it had been allowed: a browser that was given the proxy does', async () => {
    const { scene, port, hits } = await rebound()
    const page = await (await launch(`--proxy-server=http://127.0.0.1:${port}`)).newPage()
    await page.goto('http://wiki.corp.test/')
    expect(await page.textContent('body')).toBe(SECRET)
    expect(scene.gateway.authorities).toContain('wiki.corp.test:80')
    expect(hits[0]).toBe('GET wiki.corp.test /')
    const socks = await (await launch(`--proxy-server=socks5://127.0.0.1:${scene.tunnel.socksPort}`)).newPage()
    await socks.goto('http://docs.corp.test/')
    expect(await socks.textContent('body')).toBe(SECRET)
  }, 600_000)
})
