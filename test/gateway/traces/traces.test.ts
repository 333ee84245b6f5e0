// Traces as a collector of the test's own takes them: one of each session, by OTLP over HTTP, and nothing held up where there is no collector.
import { createServer, type IncomingHttpHeaders } from 'node:http'
import { afterEach, describe, expect, it } from 'vitest'
import { readCommand } from '../../../gateway/config.ts'
import { createMetrics } from '../../../gateway/metrics/metrics.ts'
import type { Question } from '../../../gateway/proxy/judge.ts'
import { MOST_WAITING } from '../../../gateway/traces/session-traces.ts'
import { openTraces, type TracesOptions } from '../../../gateway/traces/traces.ts'
import { silentLog } from '../../../node/logging.ts'
import type { Decision } from '../../../protocol/decisions.ts'
import { GATEWAY, UID, ask, cleanUp, connectTo, later, listen, openHttp2, readUntil, record, startEcho, startGate, until, userOf } from '../proxy/gate-under-test.ts'
import { startCollector, valueOf } from './collector.ts'

afterEach(cleanUp)

const open = async (url: string, more: Partial<TracesOptions> = {}) => {
  const traces = await openTraces({ url, share: 1, serial: GATEWAY, metrics: createMetrics(), log: silentLog(), now: Date.now, ...more })
  if (traces === null) throw new Error('no traces')
  return traces
}
const text = (port: number, upstream: number) => `
noCertificate: {mode: anonymous}
services:
  - {name: ledger, protocol: tcp, match: [127.0.0.1], ports: [${port}], addresses: [127.0.0.1]}
  - {name: gone, protocol: tcp, match: [gone.test], ports: [1], upstream: "127.0.0.1:1", addresses: [127.0.0.1]}
  - {name: wiki, protocol: https, match: [wiki.test], upstream: http://127.0.0.1:${upstream}, addresses: [127.0.0.1]}
policies: [{name: staff, services: [ledger, gone, wiki], tags: {all: [compliant]}, action: allow}]
`
/** A gate, a service by TCP and one by HTTP, which tells the headers that it got. */
async function gateWith(traces: Parameters<typeof startGate>[1]) {
  const echo = await startEcho()
  later(echo.close)
  const seen: IncomingHttpHeaders[] = []
  const upstream = createServer(({ headers }, response) => {
    seen.push(headers)
    response.end('hello')
  })
  later(() => {
    upstream.closeAllConnections()
    upstream.close()
  })
  return { gate: await startGate(text(echo.port, await listen(upstream)), traces), echo, seen }
}
const get = (more: Record<string, string> = {}) => ({ ':method': 'GET', ':path': '/', ':authority': 'wiki.test', ':scheme': 'https', ...more })
const PARENT = { traceId: '0af7651916cd43dd8448eb211c80319c', header: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00' }

describe('a session', () => {
  it('by tunnel leaves one trace: what was decided, and how long each stage took', async () => {
    const collector = await startCollector()
    const traces = await open(collector.url)
    const { gate, echo } = await gateWith({ traces })
    gate.change({ endpoints: new Map([[UID, record(UID, [gate.agent], { user: userOf('alice@corp.test') })]]) })
    const { stream, status } = await connectTo(openHttp2(gate, gate.agent), `127.0.0.1:${echo.port}`)
    expect(status).toBe(200)
    const read = readUntil(stream, 'hello')
    stream.write('hello')
    await read
    stream.end()
    await until(async () => (await gate.metrics.text()).includes('sallyport_open_sessions 0'))
    await traces.close()
    const [root, ...others] = collector.roots()
    if (root === undefined) throw new Error('no trace came')
    expect([root.name, others, collector.requests[0]]).toEqual(['tcp ledger', [], { url: '/v1/traces', type: 'application/json', service: GATEWAY }])
    expect(['sallyport.endpoint.uid', 'sallyport.decision.allowed', 'sallyport.decision.reason', 'sallyport.decision.code', 'sallyport.policy', 'sallyport.certificate.serial', 'enduser.id', 'sallyport.user.issuer', 'client.address', 'server.address', 'server.port', 'network.transport', 'sallyport.bytes.up'].map((key) => valueOf(root, key)))
      .toEqual([UID, true, 'allowed', '000', 'staff', gate.agent.serial, 'alice@corp.test', 'https://idp.test', '127.0.0.1', '127.0.0.1', echo.port, 'tcp', 5])
    expect(await gate.audit.find(String(valueOf(root, 'sallyport.decision.id'))) as Decision).toMatchObject({ allowed: true, service: 'ledger' })
    const stages = collector.spans.filter(({ parentSpanId }) => parentSpanId === root.spanId)
    expect(stages.map(({ name, traceId }) => [name, traceId])).toEqual(['decide', 'resolve', 'dial', 'carry'].map((name) => [name, root.traceId]))
    stages.forEach(({ endTimeUnixNano }, index) => expect(endTimeUnixNano).toBe(stages[index + 1]?.startTimeUnixNano ?? root.endTimeUnixNano))
  })
  it('that is refused or cut says by what; a stranger who is refused leaves none', async () => {
    const collector = await startCollector()
    const traces = await open(collector.url)
    const { gate, echo } = await gateWith({ traces })
    const session = openHttp2(gate, gate.agent)
    const { stream } = await connectTo(session, `127.0.0.1:${echo.port}`)
    stream.resume()
    gate.putTags([])
    await until(() => stream.closed)
    expect((await connectTo(session, `127.0.0.1:${echo.port}`)).status).toBe(403)
    expect((await connectTo(openHttp2(gate, null), `127.0.0.1:${echo.port}`)).status).toBe(403)
    gate.putTags(['11111111-1111-4111-8111-111111111111'])
    expect((await connectTo(session, 'gone.test:1')).status).toBe(502)
    await traces.close()
    const told = collector.roots().map((root) => [root.name, valueOf(root, 'sallyport.decision.reason'), valueOf(root, 'sallyport.end.reason'), collector.spans.filter(({ parentSpanId }) => parentSpanId === root.spanId).map(({ name }) => name).join()])
    expect(told.sort()).toEqual([['tcp gone', 'upstream-unreachable', undefined, 'decide,resolve,dial'], ['tcp ledger', 'allowed', 'tag-missing', 'decide,resolve,dial,carry'], ['tcp ledger', 'tag-missing', undefined, 'decide']])
  })
  it('by HTTPS belongs to the trace that the device names, and the upstream to it', async () => {
    const collector = await startCollector()
    const traces = await open(collector.url)
    const { gate, seen } = await gateWith({ traces })
    const session = openHttp2(gate, gate.browser)
    for (const traceparent of [PARENT.header, 'nonsense', undefined]) await (await ask(session, get(traceparent === undefined ? {} : { traceparent }))).body()
    await until(async () => (await gate.metrics.text()).includes('sallyport_open_sessions 0'))
    await traces.close()
    const roots = collector.roots()
    expect(roots.map(({ name, parentSpanId }) => [name, parentSpanId ?? ''])).toEqual([['https wiki', 'b7ad6b7169203331'], ['https wiki', ''], ['https wiki', '']])
    expect(roots[0]?.traceId).toBe(PARENT.traceId)
    expect(seen.map(({ traceparent }) => traceparent)).toEqual(roots.map(({ traceId, spanId }) => `00-${traceId}-${spanId}-01`))
    expect(collector.spans.filter(({ parentSpanId }) => parentSpanId === roots[0]?.spanId).map(({ name }) => name)).toEqual(['decide', 'resolve', 'dial', 'carry'])
  })
  it('leaves none where nobody asked for traces, and headers pass as they came', async () => {
    expect(await openTraces(null)).toBeNull()
    const { gate, seen } = await gateWith({})
    const session = openHttp2(gate, gate.browser)
    for (const headers of [get({ traceparent: PARENT.header }), get()]) await (await ask(session, headers)).body()
    expect(seen.map(({ traceparent }) => traceparent)).toEqual([PARENT.header, undefined])
  })
})

describe('a collector', () => {
  const question: Question = { protocol: 'tcp', host: 'h.test', port: 22, path: '/', userAgent: '', certificate: { status: 'none' }, source: '127.0.0.1:5000' }
  const decision = { id: 'D1', allowed: true, reason: 'allowed', code: '000', uid: UID, certificateSerial: null, service: 'ledger', policy: 'p', tags: [], revision: '1.x' } as unknown as Decision
  function sessionOf(traces: Awaited<ReturnType<typeof open>>): void {
    const trace = traces.begin(question)
    trace.admitted(decision)
    for (const stage of ['resolve', 'dial', 'carry'] as const) trace.next(stage)
    trace.ended({ up: 1, down: 2 }, null)
  }
  it('that does not answer costs bounded memory, and whole traces are left out', async () => {
    const [collector, metrics] = [await startCollector(() => 0), createMetrics()]
    const traces = await open(collector.url, { metrics })
    const before = process.cpuUsage()
    for (let n = 0; n < 20_000; n++) sessionOf(traces)
    expect(process.cpuUsage(before).user / 1_000).toBeLessThan(5_000)
    const dropped = 5 * (20_000 - Math.floor(MOST_WAITING / 5))
    expect(await metrics.text()).toContain(`sallyport_trace_spans_total{outcome="dropped"} ${dropped}`)
    collector.server.closeAllConnections()
    collector.server.close()
  })
  it('that fails is said once, and once that it works again', async () => {
    let status = 400
    const [collector, metrics, said] = [await startCollector(() => status), createMetrics(), [] as string[]]
    const note = (fields: unknown) => void said.push((fields as { event: string }).event)
    const traces = await open(collector.url, { metrics, log: Object.assign(silentLog(), { warn: note, info: note }) })
    let made = 0
    // Spans that fill no batch may go alone after a while, or wait for the next.
    const batches = async (count: number) => {
      for (let n = 0; n < count * 103; n++) sessionOf(traces)
      made += count * 103 * 5
      await until(async () => [...(await metrics.text()).matchAll(/trace_spans_total\{outcome="\w+"\} (\d+)/g)].reduce((sum, [, spans]) => sum + Number(spans), 0) >= made - made % 512)
    }
    await batches(3)
    expect(said).toEqual(['traces-not-taken'])
    status = 200
    await batches(2)
    expect(said).toEqual(['traces-not-taken', 'traces-taken'])
    await traces.close()
    expect(await metrics.text()).toMatch(/trace_spans_total\{outcome="exported"\} \d+/)
  })
  it('gets the share that was asked for', async () => {
    const collector = await startCollector()
    const traces = await open(collector.url, { share: 0.1 })
    for (let n = 0; n < 2_000; n++) sessionOf(traces)
    await traces.close()
    expect(collector.roots().length).toBeGreaterThan(100)
    expect(collector.roots().length).toBeLessThan(320)
  })
  it('is named on the command line, and wrong names are refused', () => {
    const read = (...more: string[]) => {
      const command = readCommand(['run', '--state', 's', '--policies', 'p', ...more])
      return command.verb === 'run' ? command.traces : undefined
    }
    expect([read(), read('--traces', 'http://127.0.0.1:4318'), read('--traces', 'https://c.test/otlp/v1/traces', '--traces-share', '0.25')]).toEqual([null, { url: 'http://127.0.0.1:4318/v1/traces', share: 1 }, { url: 'https://c.test/otlp/v1/traces', share: 0.25 }])
    for (const wrong of [['--traces', 'collector'], ['--traces', 'ftp://c.test'], ['--traces', 'http://u:p@c.test'], ['--traces-share', '1'], ['--traces', 'http://c.test', '--traces-share', '0'], ['--traces', 'http://c.test', '--traces-share', 'x']]) expect(() => read(...wrong), wrong.join(' ')).toThrow('--traces')
  })
})
