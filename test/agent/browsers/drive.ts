// Real browsers, driven: Chromium by playwright, Debian's Firefox by WebDriver BiDi itself.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { chromium } from 'playwright-core'
import { WebSocket } from 'ws'
import { HOST, run } from './browser-scene.ts'

export interface Driven {
  /** The text of the page, or why there is none. */
  visit(url: string): Promise<string>
  /** The text that the page gets for a form of this many characters, or why there is none. */
  post(length: number): Promise<string>
  close(): Promise<void>
}
export interface Browser {
  readonly name: 'Chromium' | 'Firefox'
  readonly installed: boolean
  /** Makes what a first start makes; resolves with the directory of its database. */
  prepare(home: string): Promise<string>
  launch(home: string, profile: string): Promise<Driven>
}

const chromiumPath = ['/usr/bin/chromium', '/usr/bin/google-chrome'].find((path) => existsSync(path))
const firefoxPath = ['/usr/bin/firefox-esr', '/usr/bin/firefox'].find((path) => existsSync(path))
const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', `--host-resolver-rules=MAP ${HOST} 127.0.0.1`]
const PROFILE = '.mozilla/firefox/test.default'
/** A start of a browser where others want the processor too. */
const SLOW_MS = 150_000

export const chromiumBrowser: Browser = {
  name: 'Chromium', installed: chromiumPath !== undefined,
  prepare: (home) => Promise.resolve(join(home, '.pki/nssdb')),
  async launch(home, profile) {
    const browser = await chromium.launchPersistentContext(join(home, profile), { executablePath: chromiumPath, env: { HOME: home }, args: flags, timeout: SLOW_MS })
    const page = await browser.newPage()
    page.setDefaultTimeout(SLOW_MS)
    return {
      async visit(url) {
        const answer = await page.goto(url).catch((cause: unknown) => cause)
        return answer instanceof Error ? answer.message : await page.textContent('body') ?? ''
      },
      post: (length) => page.evaluate<string>(posting(length)),
      close: () => browser.close(),
    }
  },
}

/** What a user of this id sees in Chromium. */
export async function dumpAs(uid: number, home: string, url: string): Promise<string> {
  const { stdout } = await run('setpriv', [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', chromiumPath ?? '', ...flags, `--user-data-dir=${join(home, 'profile')}`, '--dump-dom', url], { env: { HOME: home, PATH: '/usr/bin:/bin' }, cwd: '/', timeout: SLOW_MS })
  return stdout
}

/** In the page that is open: to its own address. */
const posting = (length: number): string => `fetch(location.href, { method: 'POST', body: 'x'.repeat(${length}) }).then((answer) => answer.text()).catch(String)`

/** The other end of one BiDi connection. */
async function speak(address: string) {
  const socket = new WebSocket(address)
  const waiting = new Map<number, { resolve: (result: unknown) => void; reject: (cause: Error) => void }>()
  let last = 0
  socket.on('message', (data: Buffer) => {
    const { id, type, result, message } = JSON.parse(data.toString()) as { id?: number; type: string; result?: unknown; message?: string }
    const asked = waiting.get(id ?? 0)
    if (type === 'success') asked?.resolve(result)
    else if (type === 'error') asked?.reject(new Error(message))
  })
  await once(socket, 'open')
  const say = async <T>(method: string, params: Record<string, unknown>): Promise<T> => {
    const id = ++last
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    waiting.set(id, { resolve, reject })
    socket.send(JSON.stringify({ id, method, params }))
    return await promise as T
  }
  return { say, close: () => socket.terminate() }
}

export const firefoxBrowser: Browser = {
  name: 'Firefox', installed: firefoxPath !== undefined,
  async prepare(home) {
    const profile = join(home, PROFILE)
    await mkdir(profile, { recursive: true })
    await writeFile(join(home, '.mozilla/firefox/profiles.ini'), '[Profile0]\nName=default\nIsRelative=1\nPath=test.default\nDefault=1\n')
    const quiet = { 'app.update.enabled': false, 'datareporting.policy.dataSubmissionEnabled': false, 'browser.shell.checkDefaultBrowser': false, 'network.captive-portal-service.enabled': false, 'network.connectivity-service.enabled': false, 'browser.safebrowsing.downloads.enabled': false }
    await writeFile(join(profile, 'user.js'), Object.entries(quiet).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${value});\n`).join(''))
    return profile
  },
  async launch(home) {
    const child = spawn(firefoxPath ?? '', ['--headless', '--no-remote', '--profile', join(home, PROFILE), '--remote-debugging-port', '0'], { env: { HOME: home, PATH: '/usr/bin:/bin', MOZ_CRASHREPORTER_DISABLE: '1' }, stdio: ['ignore', 'ignore', 'pipe'] })
    const ended = once(child, 'exit')
    const listening = Promise.withResolvers<string>()
    createInterface({ input: child.stderr }).on('line', (line) => {
      const address = /WebDriver BiDi listening on (ws:\S+)/.exec(line)?.[1]
      if (address !== undefined) listening.resolve(address)
    })
    child.once('exit', (code) => listening.reject(new Error(`Firefox ended with ${code}`)))
    const { say, close } = await speak(`${await listening.promise}/session`)
    await say('session.new', { capabilities: {} })
    const { contexts: [tab] } = await say<{ contexts: { context: string }[] }>('browsingContext.getTree', {})
    const context = tab?.context
    const evaluate = async (expression: string): Promise<string> => (await say<{ result: { value?: string } }>('script.evaluate', { expression, target: { context }, awaitPromise: true })).result.value ?? ''
    return {
      async visit(url) {
        try {
          await say('browsingContext.navigate', { context, url, wait: 'complete' })
        } catch (cause) {
          return (cause as Error).message
        }
        return await evaluate('document.body.textContent')
      },
      post: (length) => evaluate(posting(length)),
      async close() {
        close()
        child.kill('SIGKILL')
        await ended
      },
    }
  },
}
