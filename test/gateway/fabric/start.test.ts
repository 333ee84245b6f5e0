// A whole gateway: it decides from disk while the EMS is away, takes the EMS's word when it is back, and follows its policy file.
import { readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startGateway, type Gateway, type GatewayEvent } from '../../../gateway/start.ts'
import { readStatus } from '../../../gateway/inspect.ts'
import { JOIN_CODE_PREFIX, writeInvitation } from '../../../protocol/invitation.ts'
import { HEALTHY, mark, SERIAL, startEmsDouble, systemRow, tagsRow, uidOf, type EmsDouble } from './ems-double.ts'
import { readableLog, until } from './follower-under-test.ts'
import { gatewayDirectory, knock, newKnocker, policiesText, startService, type Knocker } from './gateway-under-test.ts'

let ems: EmsDouble
let service: Awaited<ReturnType<typeof startService>>
let laptop: Knocker
let place: { stateDirectory: string; policiesFile: string }
let gateway: Gateway | null = null
let quarantined = false

beforeEach(async () => {
  ems = await startEmsDouble()
  service = await startService()
  laptop = await newKnocker(ems.authority, uidOf(1))
  place = await gatewayDirectory(service.port, 'healthy')
  quarantined = false
  const row = () => systemRow(1, { quarantined, client_certs: [{ sn: laptop.serial, purpose: 'agent', user: '', not_after: 4_000_000_000 }] })
  ems.sysinfo = () => ({ updated_after: mark(5), is_snapshot: true, rows: { [uidOf(1)]: row() } })
  ems.uidTags = () => ({ updated_after: mark(5), is_snapshot: true, rows: { [uidOf(1)]: tagsRow([HEALTHY]) } })
  ems.hostTags = [{ tag_uid: HEALTHY, name: 'healthy', type: 1, description: '', detection_level: '' }]
  ems.onHello = (socket) => {
    if (quarantined) socket.tell({ type: 'changed', table: 'sysinfo', after: mark(5), updated_after: mark(6), at: Date.now(), data: { [uidOf(1)]: row() } })
    socket.tell({ type: 'current', revision: mark(quarantined ? 6 : 5), at: Date.now() })
  }
})
afterEach(async () => {
  await gateway?.close()
  gateway = null
  await ems.stop()
  await service.close()
  await rm(dirname(place.policiesFile), { recursive: true })
})

async function start(options: { now?: () => number } = {}): Promise<{ gateway: Gateway; events: GatewayEvent[]; logged: () => { event: string }[] }> {
  const { log, events: logged } = readableLog()
  const events: GatewayEvent[] = []
  gateway = await startGateway({
    ...place, listen: { host: '127.0.0.1', port: 0 }, metricsPort: 0, tlsCa: [ems.tlsCa], now: options.now ?? Date.now, log, onEvent: (event) => events.push(event),
    joinCode: writeInvitation(JOIN_CODE_PREFIX, { ems: ems.address, pin: ems.authority.pin, code: 'c'.repeat(43) }),
  })
  return { gateway, events, logged }
}
const knocked = async (started: Gateway) => (await knock(started, laptop, ems.authority.certificatePem)).status
/** Joins, hears everything, and ends, leaving its state on disk. */
async function onceCurrent(): Promise<void> {
  const { gateway: started, events } = await start()
  await until('current', () => events.some(({ event }) => event === 'current'))
  expect(await knocked(started)).toBe(200)
  await started.close()
  gateway = null
}

describe('a gateway', () => {
  it('joins by its code, hears everything, and lets through whom the EMS told of', async () => {
    const { gateway: started, events } = await start()
    expect(started.serial).toBe(SERIAL)
    await until('current', () => events.some(({ event }) => event === 'current'))
    expect(await knock(started, laptop, ems.authority.certificatePem)).toMatchObject({ status: 200, text: expect.stringContaining('hello') as string })
    expect(await knocked(started)).toBe(200)
    const stranger = await newKnocker(ems.authority, uidOf(2))
    expect((await knock(started, stranger, ems.authority.certificatePem)).text).toContain('066')
    expect(await (await fetch(`http://127.0.0.1:${started.metricsPort}/metrics`)).text()).toMatch(/sallyport_snapshot_age_seconds \d/)
  })

  it('starts from disk while the EMS is away, and takes its word when it is back', async () => {
    await onceCurrent()
    await ems.stop()
    const { gateway: started, events } = await start()
    await until('the failure', () => events.some(({ event }) => event === 'disconnected'))
    expect(await knocked(started)).toBe(200)
    quarantined = true
    await ems.start()
    await until('current', () => events.some(({ event }) => event === 'current'))
    expect(await knocked(started)).not.toBe(200)
    expect(await readStatus(place.stateDirectory, Date.now())).toMatchObject({ joined: true, serial: SERIAL, endpoints: 1 })
  })

  it('is as stale as its snapshot when it starts from disk', async () => {
    await onceCurrent()
    await ems.stop()
    const { gateway: started } = await start({ now: () => Date.now() + 181_000 })
    expect((await knock(started, laptop, ems.authority.certificatePem)).text).toContain('067')
  })

  it('lets nobody through from a damaged snapshot, and says so', async () => {
    await onceCurrent()
    await ems.stop()
    const file = join(place.stateDirectory, 'snapshot.ndjson')
    await writeFile(file, (await readFile(file, 'utf8')).replace('laptop-1', 'laptop-9'))
    const { gateway: started, logged } = await start()
    expect(logged().map(({ event }) => event)).toContain('snapshot-refused')
    expect((await knock(started, laptop, ems.authority.certificatePem)).text).toContain('067')
  })

  it('follows its policy file, and keeps the policies before when the new ones are wrong', async () => {
    const { gateway: started, events, logged } = await start()
    await until('current', () => events.some(({ event }) => event === 'current'))
    await writeFile(place.policiesFile, 'services: [')
    await until('the refusal', () => logged().some(({ event }) => event === 'policies_refused'))
    expect(await knocked(started)).toBe(200)
    await writeFile(place.policiesFile, policiesText(service.port, 'of-somebody-else'))
    await until('the new ones', () => logged().some(({ event }) => event === 'policies_loaded'))
    expect(await knocked(started)).not.toBe(200)
  })

  it('refuses to start without a code, and with policies that have a mistake', async () => {
    const common = { ...place, listen: { host: '127.0.0.1', port: 0 }, metricsPort: 0, now: Date.now, log: readableLog().log }
    await expect(startGateway(common)).rejects.toThrow('has not joined yet')
    await expect(startGateway({ ...common, joinCode: 'sj1.nonsense' })).rejects.toThrow('join code is damaged')
    await writeFile(place.policiesFile, 'services: 5')
    await expect(startGateway(common)).rejects.toThrow(/policies\.yaml:1:\d+/)
  })
})
