// The PAC file: what it says, who may read it, and a real Chromium that follows it.
import { existsSync } from 'node:fs'
import { appendFile } from 'node:fs/promises'
import { createServer, request } from 'node:http'
import { join } from 'node:path'
import { runInNewContext } from 'node:vm'
import { chromium, type Browser } from 'playwright-core'
import { afterEach, describe, expect, it } from 'vitest'
import { compileDestinations } from '../../../agent/tunnel/destinations.ts'
import { pacPath } from '../../../agent/tunnel/pac.ts'
import { pacScript } from '../../../agent/tunnel/pac-script.ts'
import { parseAuthority } from '../../../agent/tunnel/target.ts'
import type { Destination } from '../../../protocol/profile.ts'
import { freePort } from '../../../start/free-port.ts'
import { firefoxBrowser } from '../browsers/drive.ts'
import { closeAll as closeAgents, temporaryDirectory } from '../agent-under-test.ts'
import { relayTo } from './gateway-double.ts'
import { closeAll, eventually, serveTcp, serial, startScene, type Scene } from './tunnel-under-test.ts'

const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) => existsSync(path))
const PATH = '/0123456789abcdefghijAB/proxy.pac'
const SECRET = 'the protected page'
const openThings: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of openThings.splice(0).reverse()) await close()
  await closeAll()
  await closeAgents()
})

describe('the script', () => {
  const destinations: Destination[] = [
    { match: 'wiki.corp.test', ports: [443], gateway: serial }, { match: '*.corp.test', ports: [{ from: 80, to: 90 }], gateway: serial }, { match: '10.0.0.0/8', ports: [443], gateway: serial },
    { match: '192.168.7.128/25', ports: [80], gateway: serial }, { match: '172.16.5.4', ports: [80], gateway: serial }, { match: 'fd00:9::/32', ports: [443], gateway: serial }, { match: 'fd00:a:b:c:8000::/65', ports: [80], gateway: serial },
    { match: 'constructor', ports: [80], gateway: serial },
  ]
  const hosts = [
    'wiki.corp.test', 'WIKI.corp.test.', 'docs.corp.test', 'a.b.corp.test', 'corp.test', 'evilcorp.test', 'wiki.corp.test.evil.test', '10.1.2.3', '11.1.2.3', '192.168.7.127', '192.168.7.128', '172.16.5.4', '172.16.5.5', '10.evil.test',
    'constructor', 'tostring', '__proto__', '[fd00:9::1]', '[fd00:8::1]', '[fd00:a:b:c:8000::1]', '[fd00:a:b:c:7fff::1]', '[::ffff:a01:203]', '[::ffff:10.1.2.3]', '[::]',
  ]
  it('judges every host and port as the proxy does', () => {
    const find = runInNewContext(`${pacScript(destinations, 8630)};FindProxyForURL`) as (url: string, host: string) => string
    const isProtected = compileDestinations(destinations)
    for (const host of hosts) {
      for (const [scheme, port] of [['http', 80], ['https', 443], ['ws', 80], ['http', 85], ['https', 90], ['http', 444]] as const) {
        const shown = { http: 80, ws: 80, https: 443 }[scheme] === port ? '' : `:${port}`
        const target = parseAuthority(`${host}:${port}`)
        const wanted = target !== null && isProtected(target) !== null ? 'PROXY 127.0.0.1:8630' : 'DIRECT'
        for (const spelled of [host, host.replace(/^\[|\]$/g, '')]) expect([host, scheme, port, find(`${scheme}://${host}${shown}/x:9/?u=http://wiki.corp.test/`, spelled)]).toEqual([host, scheme, port, wanted])
      }
    }
  })
})

interface Heard { status: number | undefined; body: string; type: string | undefined }
const ask = (port: number, path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Heard> => new Promise((resolve, reject) => {
  request({ host: '127.0.0.1', port, path, method, headers, agent: false }, (answer) => {
    let body = ''
    answer.setEncoding('utf8').on('data', (text) => { body += String(text) })
    answer.on('end', () => resolve({ status: answer.statusCode, body, type: answer.headers['content-type'] }))
  }).on('error', reject).end()
})

describe('the file', () => {
  it('is read by whoever has its address, follows the profile and its port, and looks like nothing to others', async () => {
    const scene = await startScene({ options: { pacPath: PATH } })
    const { httpPort, pacUrl } = scene.tunnel
    expect(pacUrl).toBe(`http://127.0.0.1:${httpPort}${PATH}`)
    const told = await ask(httpPort, PATH)
    expect([told.status, told.type]).toEqual([200, 'application/x-ns-proxy-autoconfig'])
    expect(told.body).toContain('corp.test')
    expect((await ask(httpPort, PATH, { 'sec-fetch-site': 'none', 'host': `localhost:${httpPort}` })).status).toBe(200)
    const nothing = await ask(httpPort, '/')
    const refused: [string, Record<string, string>, string?][] = [
      [PATH, { host: `rebind.test:${httpPort}` }], [PATH, { host: '127.0.0.1' }], [PATH, { host: `127.0.0.1:${httpPort + 1}` }], [PATH, { 'sec-fetch-site': 'cross-site' }], [PATH, { 'sec-fetch-site': 'same-site' }],
      [PATH, { 'sec-fetch-site': 'same-origin' }], [PATH, { origin: 'http://evil.test' }], [PATH, { origin: 'null' }], [PATH, {}, 'POST'], [`${PATH}?`, {}], [PATH.toUpperCase(), {}], [`/${PATH}`, {}], ['/proxy.pac', {}], ['/0123456789abcdefghijAC/proxy.pac', {}],
    ]
    for (const [path, headers, method] of refused) expect([path, headers, await ask(httpPort, path, headers, method)]).toEqual([path, headers, nothing])
    scene.change({ destinations: [{ match: 'other.test', ports: [80], gateway: serial }] })
    expect((await ask(httpPort, PATH)).body).toMatch(/ other\.test/)
    expect((await ask(httpPort, PATH)).body).not.toContain('corp.test')
    scene.change({ proxy: { httpPort: 0, socksPort: 0 } })
    expect((await ask(httpPort, PATH)).body).toContain(`PROXY 127.0.0.1:${httpPort}"`)
  })
  it('keeps its address over restarts, and has another after a new enrolment', async () => {
    const file = `${await temporaryDirectory()}/pac.path`
    const first = await pacPath(file)
    expect(first).toMatch(/^\/[A-Za-z0-9_-]{22}\/proxy\.pac$/)
    expect(await pacPath(file)).toBe(first)
    expect(await pacPath(`${file}.other`)).not.toBe(first)
  })
})

describe.skipIf(executablePath === undefined)('Chromium (needs Debian\'s chromium)', () => {
  async function launch(...args: string[]): Promise<Browser> {
    const browser = await chromium.launch({
      executablePath, timeout: 150_000, args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', ...args],
    })
    openThings.push(() => browser.close())
    return browser
  }
  async function scene(): Promise<{ scene: Scene; direct: number; hits: string[] }> {
    const hits: string[] = []
    const web = createServer((request, response) => {
      hits.push(String(request.headers.host))
      response.setHeader('content-type', 'text/html').end(request.headers.host?.includes('corp.test') === true ? SECRET : '<!doctype html><p>another page</p><iframe></iframe>')
    })
    const direct = await serveTcp((socket) => web.emit('connection', socket))
    return { scene: await startScene({ handle: relayTo(() => direct), options: { pacPath: PATH } }), direct, hits }
  }
  /** All that a page can do to read a script of another origin. */
  const reading = (url: string) => `(async () => {
    const heard = []
    const note = (says) => Promise.race([says, new Promise((resolve) => setTimeout(() => resolve('silence'), 20_000))]).then((text) => heard.push(String(text)), (cause) => heard.push('error: ' + cause))
    await note(fetch(${JSON.stringify(url)}).then((answer) => answer.text()))
    await note(fetch(${JSON.stringify(url)}, { mode: 'no-cors' }).then((answer) => answer.text()))
    await note(fetch(${JSON.stringify(url)}, { credentials: 'include', referrerPolicy: 'no-referrer' }).then((answer) => answer.text()))
    await note(new Promise((resolve) => { const script = document.createElement('script'); script.src = ${JSON.stringify(url)}; script.onload = script.onerror = () => resolve(typeof FindProxyForURL + (typeof suffixes === 'undefined' ? '' : JSON.stringify(suffixes))); document.head.append(script) }))
    await note(new Promise((resolve) => { const frame = document.querySelector('iframe'); frame.onload = () => { try { resolve(frame.contentDocument?.body?.textContent) } catch (cause) { resolve(cause) } }; frame.src = ${JSON.stringify(url)} }))
    return heard
  })()`

  it('reaches what is protected through the gateway and all else directly; no page reads the file', async () => {
    const { scene: { tunnel, gateway }, direct, hits } = await scene()
    const browser = await launch(`--proxy-pac-url=${tunnel.pacUrl}`, '--host-resolver-rules=MAP direct.test 127.0.0.1')
    const page = await browser.newPage()
    await page.goto('http://wiki.corp.test/')
    expect(await page.textContent('body')).toBe(SECRET)
    await page.goto(`http://direct.test:${direct}/`)
    expect(await page.textContent('p')).toBe('another page')
    expect(gateway.authorities.every((authority) => authority === 'wiki.corp.test:80')).toBe(true)
    expect(hits).toContain(`direct.test:${direct}`)
    const heard = await page.evaluate<string[]>(reading(String(tunnel.pacUrl)))
    expect(heard).toHaveLength(5)
    for (const text of heard) expect(text).not.toContain('corp.test')
    expect(heard[3]).toBe('undefined')
  }, 600_000)

  it('gives a page that rebinds its name to the proxy\'s port nothing, though it knows the path', async () => {
    const { scene: { tunnel, change }, hits } = await scene()
    const own = createServer((_request, response) => response.setHeader('content-type', 'text/html').end('<!doctype html><iframe></iframe>'))
    const port = await freePort()
    await new Promise<void>((resolve) => own.listen(port, '127.0.0.1', resolve))
    const page = await (await launch('--host-resolver-rules=MAP rebind.test 127.0.0.1')).newPage()
    await page.goto(`http://rebind.test:${port}/`)
    await new Promise<void>((resolve) => {
      own.close(() => resolve())
      own.closeAllConnections()
    })
    change({ proxy: { httpPort: port, socksPort: 0 } })
    await eventually(() => tunnel.httpPort === port)
    const heard = await page.evaluate<string[]>(reading(PATH))
    expect(heard).toHaveLength(5)
    for (const text of heard) expect(text).toMatch(/^(This is a proxy|undefined)/)
    expect(hits).toEqual([])
    expect((await ask(port, PATH)).body).toContain('corp.test')
  }, 600_000)
})

describe.skipIf(!firefoxBrowser.installed)('Firefox (needs Debian\'s firefox-esr)', () => {
  it('reaches what is protected through the gateway', async () => {
    const web = createServer((request, response) => response.setHeader('content-type', 'text/html').end(`${SECRET} of ${request.headers.host}`))
    const direct = await serveTcp((socket) => web.emit('connection', socket))
    const { tunnel, gateway } = await startScene({ handle: relayTo(() => direct), options: { pacPath: PATH } })
    const home = await temporaryDirectory()
    const profile = await firefoxBrowser.prepare(home)
    await appendFile(join(profile, 'user.js'), `user_pref("network.proxy.type", 2);\nuser_pref("network.proxy.autoconfig_url", ${JSON.stringify(tunnel.pacUrl)});\n`)
    const firefox = await firefoxBrowser.launch(home, profile)
    openThings.push(() => firefox.close())
    expect(await firefox.visit('http://wiki.corp.test/')).toBe(`${SECRET} of wiki.corp.test`)
    expect(gateway.authorities).toContain('wiki.corp.test:80')
  }, 600_000)
})
