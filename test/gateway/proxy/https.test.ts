import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { afterEach, describe, expect, it } from 'vitest'
import { serveMetrics } from '../../../gateway/metrics/serve.ts'
import { openAudit } from '../../../gateway/audit/audit.ts'
import { openPolicyFile } from '../../../gateway/proxy/policy-store.ts'
import { silentLog } from '../../../node/logging.ts'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { BAD_TAG, OK_TAG, UID, ask, cleanUp, later, listen, openHttp1, openHttp2, readUntil, startGate, until, type Gate } from './gate-under-test.ts'

afterEach(cleanUp)

const policies = (upstream: string) => `
services:
  - {name: intranet, protocol: https, match: [intranet.test, '*.apps.test'], upstream: ${upstream}}
policies:
  - {name: staff, services: [intranet], tags: {any: [compliant], none: [infected]}, action: allow}
`
async function serve(handle: (request: IncomingMessage, response: ServerResponse) => void): Promise<number> {
  const server = createServer(handle)
  later(() => {
    server.closeAllConnections()
    server.close()
  })
  return listen(server)
}
const get = (gate: Gate, headers: Record<string, string> = {}, credential = gate.browser) => ask(openHttp2(gate, credential), { ':method': 'GET', ':path': '/page?x=1', ':authority': 'intranet.test', ':scheme': 'https', ...headers })

describe('a declared HTTPS service', () => {
  it('is served over HTTP/2, and told who asks by the gateway alone', async () => {
    let seen: IncomingMessage['headers'] = {}
    const port = await serve((request, response) => {
      seen = request.headers
      response.setHeader('keep-alive', 'timeout=9')
      response.end(`${request.method} ${request.url}`)
    })
    const gate = await startGate(policies(`http://127.0.0.1:${port}`))
    const answer = await get(gate, { 'sallyport-device-id': 'forged', 'sallyport_device_id': 'forged', 'x-forwarded-for': '1.2.3.4', 'remote-user': 'root', 'x-mine': 'kept' })
    expect(answer.status).toBe(200)
    expect(await answer.body()).toBe('GET /page?x=1')
    expect(answer.headers['keep-alive']).toBeUndefined()
    expect(seen).toMatchObject({ 'sallyport-device-id': UID, 'x-forwarded-for': '127.0.0.1', 'x-mine': 'kept', 'host': 'intranet.test' })
    expect(JSON.stringify(seen)).not.toMatch(/forged|1\.2\.3\.4|root/)
  })

  it('is served over HTTP/1.1 with a body and kept alive; each request is decided by itself', async () => {
    const port = await serve((request, response) => void request.pipe(response))
    const gate = await startGate(policies(`http://127.0.0.1:${port}`))
    const socket = await openHttp1(gate, gate.agent)
    for (let round = 0; round < 2; round++) {
      const read = readUntil(socket, 'body')
      socket.write('POST / HTTP/1.1\r\nHost: one.apps.test\r\nContent-Length: 4\r\n\r\nbody')
      expect(await read).toMatch(/^HTTP\/1.1 200 /)
    }
    gate.putTags([OK_TAG, BAD_TAG])
    const read = readUntil(socket, 'denied-by-tag')
    socket.write('GET / HTTP/1.1\r\nHost: one.apps.test\r\n\r\n')
    expect(await read).toMatch(/^HTTP\/1.1 403 /)
  })

  it('is cut in the middle of an answer when the device loses its tag', async () => {
    const port = await serve((_request, response) => void response.write('begun'))
    const gate = await startGate(policies(`http://127.0.0.1:${port}`))
    const { stream } = await get(gate)
    await readUntil(stream, 'begun')
    gate.putTags([])
    await until(() => stream.closed)
    expect(stream.rstCode).not.toBe(0)
  })

  it('refuses people with a page that says why, and escapes what they typed', async () => {
    const gate = await startGate(policies('http://127.0.0.1:1'))
    const page = await get(gate, { ':authority': 'undeclared.test', 'accept': 'text/html,*/*' })
    const body = await page.body()
    expect(page.headers['content-type']).toContain('text/html')
    expect(body).toContain('021 (service-unknown)')
    expect(body).toContain(UID)
    expect(body).toContain(gate.browser.serial)
    const down = await get(gate)
    expect({ status: down.status, body: JSON.parse(await down.body()) as unknown }).toMatchObject({ status: 502, body: { reason: 'upstream-unreachable' } })
  })

  it('refuses requests that name two hosts, a foreign target, or no host that could be one', async () => {
    const gate = await startGate(policies('http://127.0.0.1:1'))
    for (const head of ['GET http://other.test/ HTTP/1.1\r\nHost: intranet.test', 'GET / HTTP/1.1\r\nHost: intranet.test\r\nHost: other.test', 'GET / HTTP/1.1\r\nHost: <script>']) {
      const socket = await openHttp1(gate, gate.browser)
      const read = readUntil(socket, '\r\n\r\n')
      socket.write(`${head}\r\n\r\n`)
      expect(await read).toMatch(/^HTTP\/1.1 400 /)
    }
    expect((await get(gate, { host: 'other.test' })).status).toBe(400)
  })

  it('breaks the answer when the upstream breaks in its middle', async () => {
    const port = await serve((_request, response) => {
      response.write('half')
      setImmediate(() => response.socket?.resetAndDestroy())
    })
    const gate = await startGate(policies(`http://127.0.0.1:${port}`))
    const { stream } = await get(gate)
    stream.resume()
    await until(() => stream.closed)
    expect(stream.rstCode).not.toBe(0)
  })

  it('goes on after headers that are too large', async () => {
    const gate = await startGate(policies('http://127.0.0.1:1'))
    const socket = await openHttp1(gate, gate.browser)
    socket.write(`GET / HTTP/1.1\r\nHost: intranet.test\r\nx: ${'y'.repeat(40_000)}\r\n\r\n`)
    expect(await readUntil(socket, '\r\n\r\n')).toMatch(/^HTTP\/1.1 431 /)
    await once(socket, 'close')
    expect((await get(gate)).status).toBe(502)
  })
})

describe('what the gate keeps and tells', () => {
  it('rotates decisions and finds those that are still there after a restart', async () => {
    const gate = await startGate(policies('http://127.0.0.1:1'))
    const refusal = JSON.parse(await (await get(gate)).body()) as { decision: string }
    const known = await gate.audit.find(refusal.decision)
    if (known === null) throw new Error('not taken down')
    const directory = join(gate.directory, 'small')
    const options = { directory, log: silentLog(), now: Date.now, fileBytes: 2_000, keep: 2 }
    const first = await openAudit(options)
    const ids = Array.from({ length: 12 }, (_, index) => `${known.id.slice(0, -2)}${String(index).padStart(2, '0')}`)
    for (const id of ids) first.record({ ...known, id })
    await first.close()
    const again = await openAudit(options)
    expect((await again.find(ids.at(-1) ?? ''))?.id).toBe(ids.at(-1))
    expect(await again.find(`${known.id.slice(0, -2)}99`)).toBeNull()
    await again.close()
    expect(readdirSync(directory).filter((name) => name.startsWith('decisions')).length).toBeLessThanOrEqual(3)
  })

  it('serves its metrics on loopback', async () => {
    const gate = await startGate(policies('http://127.0.0.1:1'))
    await (await get(gate)).body()
    const served = await serveMetrics({ metrics: gate.metrics, port: 0, log: silentLog() })
    later(served.close)
    const text = await (await fetch(`http://127.0.0.1:${served.port}/metrics`)).text()
    expect(text).toContain('sallyport_decisions_total{reason="upstream-unreachable",event="decide"} 1')
    expect(text).toMatch(/sallyport_snapshot_age_seconds \d/)
    expect((await fetch(`http://127.0.0.1:${served.port}/`)).status).toBe(404)
  })

  it('takes over a changed policy file, and keeps the old policies when it has a mistake', async () => {
    const gate = await startGate(policies('http://127.0.0.1:1'))
    const path = join(gate.directory, 'policies.yaml')
    writeFileSync(path, policies('http://127.0.0.1:1'))
    const refusedReload = Promise.withResolvers<unknown>()
    const log = Object.assign(silentLog(), { error: (fields: unknown) => refusedReload.resolve(fields) })
    const store = await openPolicyFile({ path, log })
    later(() => store.close())
    writeFileSync(path, 'services: [')
    expect(await refusedReload.promise).toMatchObject({ event: 'policies_refused' })
    expect(store.current().services).toHaveLength(1)
    const changed = new Promise<void>((resolve) => store.onChange(resolve))
    writeFileSync(path, 'services: []\npolicies: []\n')
    await changed
    expect(store.current().services).toHaveLength(0)
  })
})
