// The profile follows where the endpoint is: another one on the fabric than off it, told to its agent when it comes and when it leaves; whoever has one profile for both is told nothing.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { runDurableObjectAlarm } from 'cloudflare:test'
import { gatewayMac } from '../../../protocol/operations/fabric.ts'
import type { ToAgent } from '../../../protocol/channel.ts'
import { admin, enrolled, linux, report, reportBody, signed, type Endpoint } from '../ems.ts'
import { answerTo, by, CHANNEL, joined, open, type Gateway } from '../gateway.ts'
import { real } from '../standing.ts'
import { clear } from '../telemetry/fleet.ts'

const { DB } = real
/** Newer than anything: not asked for. */
const LATER = 4_000_000_000_000
const [MAC, IP] = ['02:00:00:00:00:01', '10.0.0.7']
const network = { interfaces: [{ name: 'eth0', mac: MAC, addresses: [{ ip: IP, prefix: 24 }] }], defaultGateways: [], dnsServers: [] }
const sees = (gateway: Gateway, ips: readonly string[]) => by(gateway, 'POST', gatewayMac.path, { gateway_mac_list: ips.length === 0 ? [] : [{ mac: MAC, ip_list: [...ips], interface: 'lan', sn: gateway.serial }], is_snapshot: true })
const profile = async (name: string) => String((await admin('POST', '/profiles', { name, settings: {} })).json.id)
/** The profile that the agent is told is its own, if that is newer than what it holds. */
async function told(endpoint: Endpoint, have = 0): Promise<{ name: string | null; version: number }> {
  const { json } = await signed(endpoint, 'POST', '/api/v1/endpoint/documents', { have: { profile: have, rules: LATER, licence: LATER, authorities: LATER } })
  const [jws] = json.documents as string[]
  if (jws === undefined) return { name: null, version: have }
  const payload = JSON.parse(atob((jws.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/'))) as { version: number; body: { profile: { name: string } } }
  return { name: payload.body.profile.name, version: payload.version }
}
const wanted = async (endpoint: Endpoint) => ((await signed(endpoint, 'POST', '/api/v1/endpoint/report', { ...await reportBody(1, {}) })).json.documents as { profile: number }).profile

describe('an endpoint policy with a profile for off the fabric', () => {
  let gateway: Gateway
  let endpoint: Endpoint
  const policy = async (more: object) => (await admin('POST', '/endpoint-policies', { name: 'p', position: 0, ...more })).json
  beforeEach(async () => {
    await clear()
    await DB.batch(['endpoint_policies', 'profiles', 'endpoint_macs', 'sightings'].map((table) => DB.prepare(`DELETE FROM ${table}`)))
    vi.useFakeTimers({ now: Date.now(), toFake: ['Date'] })
    gateway = await joined()
    await admin('PUT', `/gateways/${gateway.serial}/fabric`, { place: {} })
    endpoint = await enrolled()
    await report(endpoint, 1, { os: linux(), network })
  })
  afterEach(() => { vi.useRealTimers() })

  it('gives that one until a marked gateway sees the endpoint, and again when its hold is over; the agent is told each time', async () => {
    const [here, away] = [await profile('here'), await profile('away')]
    expect(await policy({ profileId: here, offFabricProfileId: away })).toMatchObject({ profileId: here, offFabricProfileId: away })
    vi.setSystemTime(Date.now() + 1_000)
    const first = await told(endpoint)
    expect([first.name, (await told(endpoint, first.version)).name]).toEqual(['away', null])
    const channel = await open<ToAgent>(endpoint, CHANNEL)
    const challenge = await channel.next(({ type }) => type === 'challenge')
    channel.socket.send(JSON.stringify({ type: 'answer', signature: await answerTo(endpoint, challenge.type === 'challenge' ? challenge.challenge : '', 'agent') }))
    await channel.next(({ type }) => type === 'welcome')
    const newer = async (than: number) => (await channel.next((message) => message.type === 'newer' && message.versions.profile > than)).type
    vi.setSystemTime(Date.now() + 60_000)
    await sees(gateway, [IP])
    expect([await newer(first.version), await wanted(endpoint) > first.version]).toEqual(['newer', true])
    const second = await told(endpoint, first.version)
    expect([second.name, (await told(endpoint, second.version)).name]).toEqual(['here', null])
    vi.setSystemTime(Date.now() + 60_000)
    await sees(gateway, [])
    expect((await told(endpoint, second.version)).name).toBeNull()
    vi.setSystemTime(Date.now() + 60_000)
    for (let step = 0; step < 5; step++) await runDurableObjectAlarm(real.RE_EVALUATION.getByName('one'))
    expect([await newer(second.version), (await told(endpoint, second.version)).name]).toEqual(['newer', 'away'])
    channel.socket.close()
  })
  it('and one without changes nobody\'s profile by that', async () => {
    await policy({ profileId: await profile('only') })
    vi.setSystemTime(Date.now() + 1_000)
    const first = await told(endpoint)
    vi.setSystemTime(Date.now() + 60_000)
    await sees(gateway, [IP])
    expect([first.name, (await told(endpoint, first.version)).name, await wanted(endpoint) <= first.version]).toEqual(['only', null, true])
  })
  it('is refused where there is no such profile, and that profile stays as long as it is named', async () => {
    const [here, away] = [await profile('here'), await profile('away')]
    const { json } = await admin('POST', '/endpoint-policies', { name: 'p', position: 0, profileId: here, offFabricProfileId: crypto.randomUUID() })
    expect(json).toMatchObject({ code: 'invalid', errors: [{ pointer: '/offFabricProfileId' }] })
    const { id } = await policy({ profileId: here, offFabricProfileId: away })
    expect((await admin('DELETE', `/profiles/${away}`)).code).toBe('conflict')
    const replaced = (await admin('PUT', `/endpoint-policies/${String(id)}`, { name: 'p', position: 0, profileId: here })).json
    expect([replaced.offFabricProfileId, (await admin('DELETE', `/profiles/${away}`)).status]).toEqual([undefined, 200])
  })
})
