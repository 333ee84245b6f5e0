// A whole gateway, the real Worker, and between them a proxy that takes upgrades away: what changes still reaches the gate, within the interval; so does being put out.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { startEcho } from '../../../bench/echo.ts'
import { openSession, type Session } from '../../../bench/session.ts'
import { conditionKey } from '../../../domain/tagging/condition-key.ts'
import { readStatus } from '../../../gateway/inspect.ts'
import { startGateway, type Gateway, type GatewayEvent } from '../../../gateway/start.ts'
import { createControlClient, type ControlClient } from '../../../node/control-client.ts'
import { silentLog } from '../../../node/logging.ts'
import * as administration from '../../../protocol/operations/admin.ts'
import { downloadAuthorities, status, updateGateway } from '../../../protocol/operations/fabric.ts'
import { startEms, type LocalEms } from '../../../start/ems.ts'
import { localTls } from '../../../start/local-tls.ts'
import { until as untilAtLast } from '../../../start/steps.ts'
import { startFront, type Front } from '../../faults/front.ts'
import { startLaptop, type Laptop } from '../../faults/laptop.ts'
import { slowness } from '../../pace.ts'
import { until } from './follower-under-test.ts'

const EVERY_MS = 1_000
/** What the rest of the way takes: the answer, the pages, another session. */
const SLACK_MS = 1_500
const STALE_AFTER_MS = 2_000
const condition = { type: 'running-process', negate: false, name: 'guard' }
const log = silentLog()

describe('a gateway behind a proxy that takes upgrades away, and the real EMS', () => {
  let root: string
  let front: Front
  let ems: LocalEms
  let echo: Awaited<ReturnType<typeof startEcho>>
  let administrator: ControlClient
  let laptop: Laptop
  let authorityPem: string
  let tlsCaPem: string
  let gateway: Gateway | null = null
  const asked: string[] = []
  const polls = () => asked.filter((path) => path === status.path).length

  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'polling-'))
    const tls = await localTls(join(root, 'ems'), Date.now())
    tlsCaPem = tls.caPem
    front = await startFront(tls, Math.random, (path) => asked.push(path))
    ems = await startEms({ directory: join(root, 'ems'), variant: { settings: { PUBLIC_ORIGIN: `https://localhost:${front.port}` } } })
    front.lead(Number(new URL(ems.address).port))
    echo = await startEcho()
    administrator = createControlClient({ ems: ems.address, token: ems.adminToken, tlsCa: [tlsCaPem], now: Date.now, log })
    await administrator.call(administration.createRuleSet, { body: { name: 'guarded', tag: 'guarded', rules: { linux: { conditions: [condition] } } } })
    const { text: invitation } = await administrator.call(administration.createInvitation, { body: { name: 'laptop' } })
    laptop = await startLaptop({ ems: ems.address, tlsCaPem, invitation, conditionKey: conditionKey(condition), onDefect: (cause) => { throw cause } })
    await laptop.settled()
    authorityPem = await administrator.call(downloadAuthorities, {})
  })
  afterEach(async () => {
    await gateway?.close()
    gateway = null
    front.set('fair')
  })
  afterAll(async () => {
    await laptop.close()
    await administrator.close()
    await front.close()
    await ems.close()
    await echo.close()
    await rm(root, { recursive: true })
  })

  /** Joined, current by its websocket; then the proxy takes it away. */
  async function withoutWebsocket(name: string, weather: 'no-websocket' | 'upgrades-hang'): Promise<{ gate: Gateway; events: GatewayEvent[]; stateDirectory: string }> {
    const [stateDirectory, policiesFile] = [join(root, name), join(root, `${name}.yaml`)]
    await writeFile(policiesFile, `
services:
  - { name: echo, protocol: tcp, match: [echo.bench], ports: [7000], upstream: "127.0.0.1:${echo.port}", stale: { after: ${STALE_AFTER_MS / 1_000} } }
policies:
  - { name: guarded devices, services: [echo], tags: { all: [guarded] }, action: allow }
`)
    const events: GatewayEvent[] = []
    const { text: joinCode } = await administrator.call(administration.createJoinCode, { body: { name } })
    const gate = gateway = await startGateway({
      stateDirectory, policiesFile, joinCode, listen: { host: '127.0.0.1', port: 0 }, metricsPort: 0, tlsCa: [tlsCaPem], poll: { afterMs: 500, everyMs: EVERY_MS }, now: Date.now, log, onEvent: (event) => events.push(event),
    })
    await until('current by the websocket', () => events.some(({ event }) => event === 'current'))
    front.set(weather)
    await until('answers to be had by asking', () => mode(events) === 'polling')
    return { gate, events, stateDirectory }
  }
  const mode = (events: readonly GatewayEvent[]) => events.findLast((event) => event.event === 'mode')?.mode
  const open = (gate: Gateway) => openSession({ port: gate.port, serial: gate.serial, authorityPem }, laptop.device)
  async function passes(gate: Gateway): Promise<Session | null> {
    const opening = await open(gate)
    return opening.open ? opening.session : null
  }
  async function refusal(gate: Gateway): Promise<string | null> {
    const opening = await open(gate)
    if (!opening.open) return opening.answer
    opening.session.end()
    return null
  }
  /** Flips what the laptop is, and waits until the gate does what is true. @returns ms from the EMS having taken it, as an idle machine counts them */
  async function flipped(gate: Gateway): Promise<number> {
    laptop.flip()
    await laptop.settled()
    const began = performance.now()
    if (laptop.healthy()) (await until('a session', () => passes(gate))).end()
    else await until('a refusal', async () => (await refusal(gate))?.includes('065'))
    const tookMs = performance.now() - began
    return tookMs / await slowness()
  }

  it.each(['no-websocket', 'upgrades-hang'] as const)('hears of each change within its interval, cuts what is no longer allowed, and goes back (%s)', async (weather) => {
    const { gate, events, stateDirectory } = await withoutWebsocket(`back-${weather}`, weather)
    const session = await until('a session', () => passes(gate))
    for (let n = 0; n < 4; n++) expect(await flipped(gate)).toBeLessThan(EVERY_MS + SLACK_MS)
    await session.closed
    expect(await (await fetch(`http://127.0.0.1:${gate.metricsPort}/metrics`)).text()).toMatch(/sallyport_ems_heard_by\{mode="polling"\} 1/)
    await until('the state on disk to say so', async () => (await readStatus(stateDirectory, Date.now())).heardBy === 'polling')
    front.set('fair')
    // It is tried again and again, but the longer it was not to be had, the more seldom.
    await untilAtLast('the websocket', () => Promise.resolve(mode(events) === 'socket' ? true : null), 60_000)
    // While the first two are told, the last question arrives that was on its way.
    for (let n = 0; n < 2; n++) await flipped(gate)
    const before = polls()
    for (let n = 0; n < 2; n++) await flipped(gate)
    expect([polls(), await (await fetch(`http://127.0.0.1:${gate.metricsPort}/metrics`)).text()]).toEqual([before, expect.stringContaining('sallyport_ems_heard_by{mode="socket"} 1')])
  }, 180_000)

  it('is refused when it was put out, knows nothing from then on, and ends what is open', async () => {
    const { gate, events } = await withoutWebsocket('put-out', 'no-websocket')
    const session = await until('a session', () => passes(gate))
    await administrator.call(administration.deauthoriseGateway, { params: { serial: gate.serial }, body: { reason: 'stolen' } })
    await until('the loss', () => events.some(({ event }) => event === 'authority-lost'))
    await session.closed
    expect(await refusal(gate)).toContain('067')
  })

  it('that sees only endpoints it cares for learns of one that knocks, and of its changes from then on', async () => {
    const { gate, events } = await withoutWebsocket('own-only', 'no-websocket')
    await administrator.call(updateGateway, { params: { sn: gate.serial }, body: { share_mode: 0 } })
    const database = await ems.miniflare.getD1Database('DB')
    const subscribed = () => database.prepare('SELECT count(*) AS n FROM gateway_subscriptions WHERE serial = ?').bind(gate.serial).first<{ n: number }>()
    await until('the laptop to be asked for and subscribed to', async () => {
      const [opening, row] = [await open(gate), await subscribed()]
      if (opening.open) opening.session.end()
      return opening.open && row?.n === 1
    })
    for (let n = 0; n < 2; n++) expect(await flipped(gate)).toBeLessThan(EVERY_MS + SLACK_MS)
    expect(mode(events)).toBe('polling')
  })

  it('stays fresh while nothing changes, by proofs alone, and is stale from the last of them on', async () => {
    const { gate } = await withoutWebsocket('stale', 'no-websocket')
    const [first, began] = [polls(), Date.now()]
    const session = await until('a session', () => passes(gate))
    await until('longer than the contract', () => Date.now() - began > STALE_AFTER_MS + 1_000 && polls() > first + 2)
    ;(await until('a session', () => passes(gate))).end()
    front.set('away')
    await until('stale', async () => (await refusal(gate))?.includes('067'))
    await session.closed
    front.set('no-websocket')
    ;(await until('a session', () => passes(gate))).end()
  })
})
