// The HTTP side as programs and web pages meet it.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { promisify } from 'node:util'
import { afterEach, describe, expect, it } from 'vitest'
import { refuseWith, relayTo } from './gateway-double.ts'
import { closeAll, connectThrough, eventually, rawClient, serveTcp, startScene, type Scene } from './tunnel-under-test.ts'

const run = promisify(execFile)
const curl = (scene: Scene, ...args: string[]) => run('curl', ['-sS', '--max-time', '60', '--noproxy', '', '-x', `http://127.0.0.1:${scene.tunnel.httpPort}`, ...args])
const refusal = {
  decision: 'D0123456789AB-0123456789ABCDEF', code: '065', reason: 'tag-missing', uid: 'a'.repeat(32), message: 'This service needs the tag “managed”.',
  tags: [{ uid: 'x', name: 'managed', state: 'absent' }],
}
const web = createServer((request, response) => {
  request.on('data', () => {})
  request.on('end', () => response.end(`${request.method} ${request.url} ${request.headers.host} ${String(request.headers['x-hop'] ?? '-')} ${String(request.headers['proxy-connection'] ?? '-')}`))
})
const serveWeb = () => serveTcp((socket) => web.emit('connection', socket))

afterEach(closeAll)

describe('HTTP proxy', () => {
  it('carries curl to a protected name through the gateway, as CONNECT and as absolute form', async () => {
    const port = await serveWeb()
    const scene = await startScene({ handle: relayTo(() => port) })
    expect((await curl(scene, '-p', 'http://wiki.corp.test/a?b')).stdout).toBe('GET /a?b wiki.corp.test - -')
    expect((await curl(scene, '-H', 'Connection: x-hop', '-H', 'X-Hop: secret', '-d', 'body', 'http://wiki.corp.test:81/c')).stdout).toBe('POST /c wiki.corp.test:81 - -')
    expect(scene.gateway.authorities).toEqual(['wiki.corp.test:80', 'wiki.corp.test:81'])
    expect(scene.gateway.sessions.size).toBe(1)
    expect(scene.gateway.callers).toEqual(['first', 'first'])
  })

  it('leaves what is not protected direct, and never asks the gateway', async () => {
    const port = await serveWeb()
    const scene = await startScene()
    expect((await curl(scene, `http://127.0.0.1:${port}/x`)).stdout).toBe(`GET /x 127.0.0.1:${port} - -`)
    expect((await curl(scene, '-p', `http://127.0.0.1:${port}/y`)).stdout).toBe(`GET /y 127.0.0.1:${port} - -`)
    expect(scene.gateway.authorities).toEqual([])
  })

  it('decides by the request target, whatever Host says', async () => {
    const port = await serveWeb()
    const scene = await startScene({ handle: relayTo(() => port) })
    const client = await rawClient(scene.tunnel.httpPort)
    client.socket.write('GET http://wiki.corp.test/ HTTP/1.1\r\nHost: elsewhere.test\r\nConnection: close\r\n\r\n')
    await client.closed
    expect(client.received().toString()).toContain('GET / wiki.corp.test - -')
  })

  it('keeps a chunked GET one request', async () => {
    const port = await serveWeb()
    const scene = await startScene({ handle: relayTo(() => port) })
    const client = await rawClient(scene.tunnel.httpPort)
    const hidden = 'DELETE /all HTTP/1.1\r\nHost: wiki.corp.test\r\n\r\n'
    client.socket.write(`GET http://wiki.corp.test/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n${hidden.length.toString(16)}\r\n${hidden}\r\n0\r\n\r\n`)
    await client.closed
    expect(client.received().toString()).toContain('GET / ')
    expect(client.received().toString()).not.toContain('DELETE')
  })

  it('gives a page that rebinds its name nothing: origin form is refused for every host and path', async () => {
    const scene = await startScene()
    for (const [line, host] of [['GET / HTTP/1.1', 'evil.test'], ['GET /http://wiki.corp.test/ HTTP/1.1', 'wiki.corp.test'], ['POST / HTTP/1.1', '127.0.0.1'], ['GET //wiki.corp.test/ HTTP/1.1', 'a'], ['OPTIONS * HTTP/1.1', 'a'], ['GET https://wiki.corp.test/ HTTP/1.1', 'a'], ['GET ftp://wiki.corp.test/ HTTP/1.1', 'a']]) {
      const client = await rawClient(scene.tunnel.httpPort)
      client.socket.write(`${line}\r\nHost: ${host}\r\n\r\n`)
      await client.closed
      expect(client.received().toString(), line).toMatch(/^HTTP\/1\.1 400 /)
      expect(client.received().toString().toLowerCase()).not.toContain('access-control')
    }
    expect(scene.gateway.authorities).toEqual([])
  })

  it('tells the program and the agent why the gateway refused', async () => {
    const scene = await startScene({ handle: refuseWith(refusal) })
    await expect(curl(scene, 'https://wiki.corp.test/')).rejects.toThrow(/403/)
    const { stdout } = await curl(scene, '-i', 'http://wiki.corp.test/')
    expect(stdout).toMatch(/^HTTP\/1\.1 403 Forbidden/)
    expect(stdout).toContain('This service needs the tag “managed”.\ncode 065, tag-missing, decision D0123456789AB-0123456789ABCDEF\nWhy, and what to do: agent explain D0123456789AB-0123456789ABCDEF')
    expect(scene.denials.map(({ destination, code, reason, tags, decision }) => ({ destination, code, reason, tags, decision }))).toEqual([
      { destination: 'wiki.corp.test:443', code: '065', reason: 'tag-missing', tags: ['managed'], decision: refusal.decision },
      { destination: 'wiki.corp.test:80', code: '065', reason: 'tag-missing', tags: ['managed'], decision: refusal.decision },
    ])
  })

  it('takes a refusal that it cannot read for a refusal', async () => {
    const scene = await startScene({ handle: refuseWith('<html>', 500) })
    expect((await curl(scene, '-i', 'http://wiki.corp.test/')).stdout).toContain('403 Forbidden')
    scene.gateway.handle = refuseWith({ ...refusal, message: 'two\r\nSet-Cookie: x' })
    expect((await curl(scene, '-i', 'http://wiki.corp.test/')).stdout).not.toContain('Set-Cookie')
    scene.gateway.handle = refuseWith('x'.repeat(100_000))
    expect((await curl(scene, '-i', 'http://wiki.corp.test/')).stdout).toContain('403 Forbidden')
    expect(scene.denials.map(({ reason }) => reason)).toEqual(['unexplained', 'unexplained', 'unexplained'])
  })

  it('gives another user of this machine not one byte', async () => {
    const port = await serveWeb()
    const scene = await startScene({ handle: relayTo(() => port) })
    const program = `const s = require('net').connect(${scene.tunnel.httpPort}, '127.0.0.1'); let n = 0
      s.on('error', () => {}); s.on('data', (d) => { n += d.length }); s.on('close', () => console.log('bytes ' + n))
      s.write('CONNECT wiki.corp.test:80 HTTP/1.1\\r\\nHost: wiki.corp.test\\r\\n\\r\\nGET / HTTP/1.1\\r\\nHost: wiki.corp.test\\r\\n\\r\\n')`
    const asUser = async (uid: number) => {
      const child = spawn('/usr/bin/env', ['node', '-e', program], { uid, gid: uid, cwd: '/', stdio: ['ignore', 'pipe', 'inherit'] })
      const [output] = await once(child.stdout, 'data') as [Buffer]
      return output.toString().trim()
    }
    expect(await asUser(65_534)).toBe('bytes 0')
    expect(scene.gateway.authorities).toEqual([])
    expect(scene.events).toContain('peer_refused')
  })

  it('serves the enrolled user only, even where the agent itself asks', async () => {
    const scene = await startScene({ ownerUid: 65_534 })
    const client = await rawClient(scene.tunnel.httpPort)
    client.socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
    await client.closed
    expect(client.received().length).toBe(0)
  })

  it('closes on headers that are too large or not HTTP', async () => {
    const scene = await startScene()
    const large = await rawClient(scene.tunnel.httpPort)
    large.socket.write(`GET http://a.test/ HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(60_000)}\r\n\r\n`)
    await large.closed
    expect(large.received().toString()).not.toContain('200')
    const noise = await rawClient(scene.tunnel.httpPort)
    noise.socket.write('\x16\x03\x01 hello\r\n\r\n')
    await noise.closed
    expect(noise.received().toString()).toMatch(/^HTTP\/1\.1 400/)
  })

  it('does not wait for headers for ever', async () => {
    const due: (() => void)[] = []
    const scene = await startScene({ options: { timers: { after: (delayMs, action) => {
      if (delayMs === 15_000) due.push(action)
      return () => {}
    } } } })
    const slow = await rawClient(scene.tunnel.httpPort)
    slow.socket.write('GET http://a.test/ HT')
    await eventually(() => due.length > 0)
    for (const action of due) action()
    await slow.closed
    expect(slow.received().length).toBe(0)
  })

  it('forwards pipelined bytes that came with CONNECT', async () => {
    const port = await serveTcp((socket) => socket.pipe(socket))
    const scene = await startScene({ handle: relayTo(() => port) })
    const client = await rawClient(scene.tunnel.httpPort)
    client.socket.write('CONNECT a.corp.test:7 HTTP/1.1\r\nHost: a.corp.test:7\r\n\r\nearly')
    await client.until((bytes) => bytes.toString().endsWith('early'))
    const other = await connectThrough(scene, 'a.corp.test:7')
    other.socket.write('late')
    await eventually(() => other.body() === 'late')
  })
})
