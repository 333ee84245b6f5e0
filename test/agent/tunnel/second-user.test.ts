// A second user of the same machine, as a real process with real tools, against the agent's proxy of the first.
import { execFile, spawnSync } from 'node:child_process'
import { createServer } from 'node:http'
import { promisify } from 'node:util'
import { afterEach, describe, expect, it } from 'vitest'
import { relayTo } from './gateway-double.ts'
import { closeAll, eventually, serveTcp, startScene } from './tunnel-under-test.ts'

const run = promisify(execFile)
const has = (tool: string, ...args: string[]) => spawnSync(tool, args).status === 0
const reason = process.getuid?.() !== 0 ? 'needs root to act as another user' : !has('setpriv', '--version') ? 'needs setpriv (util-linux)' : !has('curl', '--version') ? 'needs curl' : null
const SECRET = 'the protected page'
const OTHER = 65_534
const FIRST = 1_234
afterEach(closeAll)

const as = (uid: number, command: string[]) => run('setpriv', [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', ...command], { cwd: '/', timeout: 150_000 })
const curl = (...args: string[]) => ['curl', '-sS', '-i', '--max-time', '60', '--noproxy', '', ...args]

describe.skipIf(reason !== null)(`a second user of the machine${reason === null ? '' : ` (${reason})`}`, () => {
  async function scene() {
    const hits: string[] = []
    const web = createServer((request, response) => {
      hits.push(request.url ?? '')
      response.end(SECRET)
    })
    const direct = await serveTcp((socket) => web.emit('connection', socket))
    const started = await startScene({ handle: relayTo(() => direct), ownerUid: FIRST })
    const { httpPort, socksPort } = started.tunnel
    const ways: [string, string[]][] = [
      ['absolute form', curl('-x', `http://127.0.0.1:${httpPort}`, 'http://wiki.corp.test/')], ['CONNECT', curl('-p', '-x', `http://127.0.0.1:${httpPort}`, 'http://wiki.corp.test/')],
      ['SOCKS5', curl('--socks5-hostname', `127.0.0.1:${socksPort}`, 'http://wiki.corp.test/')], ['an unprotected destination', curl('-x', `http://127.0.0.1:${httpPort}`, `http://127.0.0.1:${direct}/`)],
      ['the name localhost', curl('-x', `http://localhost:${httpPort}`, 'http://wiki.corp.test/')],
    ]
    return { ...started, scene: started, hits, ways }
  }

  it('gets not one byte by any way, nor does root; the enrolled user gets it by all of them', async () => {
    const { ways, hits, gateway, events } = await scene()
    for (const uid of [OTHER, 0]) {
      for (const [way, command] of ways) {
        const failed = await as(uid, command).then(({ stdout }) => ({ stdout, code: 0 }), (cause: { stdout: string; code: number }) => cause)
        expect([uid, way, failed.stdout]).toEqual([uid, way, ''])
        expect(failed.code, way).not.toBe(0)
      }
    }
    expect([hits, gateway.authorities]).toEqual([[], []])
    expect(events.filter((event) => event === 'peer_refused').length).toBeGreaterThanOrEqual(ways.length * 2)
    for (const [way, command] of ways) expect((await as(FIRST, command)).stdout, way).toContain(SECRET)
  }, 600_000)

  it('holds nobody else up: hundreds of refused connections later the enrolled user is served', async () => {
    const { scene: started, ways } = await scene()
    // curl opens these one after the other, as fast as it can.
    await as(OTHER, ['sh', '-c', `for n in 1 2 3 4 5; do curl -s --max-time 60 "http://127.0.0.1:${started.tunnel.httpPort}/[1-50]" & done; wait`]).catch((cause: { code?: number }) => { if (cause.code === undefined) throw cause })
    await eventually(() => started.events.filter((event) => event === 'peer_refused').length >= 250)
    expect((await as(FIRST, ways[0]?.[1] ?? [])).stdout).toContain(SECRET)
  }, 600_000)
})
