// The endpoint channel by its socket: who may open it, what is pushed, and when a laptop counts as online.
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { CHANNEL_PING, toAgent, type ToAgent } from '../../../protocol/channel.ts'
import type { Env } from '../../../workers/env.ts'
import { admin, enrolled, signed, type Endpoint } from '../ems.ts'
import { answerTo, CHANNEL, joined, greeted, has, messageOf, open, type Listening } from '../gateway.ts'

const real = env as unknown as Env
const { DB } = real
const shard = ({ uid }: Endpoint) => real.ENDPOINT_CHANNEL.getByName(uid.slice(0, 1))
const is = (type: ToAgent['type']) => (message: ToAgent) => message.type === type
const online = async ({ uid }: Endpoint) => (await DB.prepare('SELECT online FROM endpoints WHERE uid = ?').bind(uid).first<{ online: number }>())?.online
const becomes = (endpoint: Endpoint, value: number) => vi.waitFor(async () => { expect(await online(endpoint)).toBe(value) }, { timeout: 30_000 })
const versions = (at: number) => ({ profile: at, rules: at, licence: at, authorities: at })
const logRows = async () => (await DB.prepare('SELECT count(*) AS n FROM change_log').first<{ n: number }>())?.n

async function welcomed(endpoint: Endpoint): Promise<Listening<ToAgent>> {
  const listening = await open<ToAgent>(endpoint, CHANNEL)
  const challenge = await listening.next(is('challenge'))
  listening.socket.send(JSON.stringify({ type: 'answer', signature: await answerTo(endpoint, challenge.type === 'challenge' ? challenge.challenge : '', 'agent') }))
  await listening.next(is('welcome'))
  return listening
}
/** The sweep, as if it ran so much later. */
async function sweepAfter(endpoint: Endpoint, ms: number): Promise<void> {
  vi.useFakeTimers({ now: Date.now() + ms, toFake: ['Date'] })
  try {
    await runDurableObjectAlarm(shard(endpoint))
  } finally {
    vi.useRealTimers()
  }
}

let endpoint: Endpoint
beforeEach(async () => { endpoint = await enrolled() })

describe('the endpoint channel', () => {
  it('opens to the key of the certificate only, and not to a recorded opening', async () => {
    const first = await open<ToAgent>(endpoint, CHANNEL)
    const challenge = await first.next(is('challenge'))
    const signature = await answerTo(endpoint, challenge.type === 'challenge' ? challenge.challenge : '', 'agent')
    const replayed = await open<ToAgent>(endpoint, CHANNEL)
    await replayed.next(is('challenge'))
    replayed.socket.send(JSON.stringify({ type: 'answer', signature }))
    expect(await replayed.next(is('bye'))).toMatchObject({ reason: 'bad-challenge' })
    const hasty = await open<ToAgent>(endpoint, CHANNEL)
    hasty.socket.send(JSON.stringify({ type: 'hello', protocol: '7.0.0', have: versions(0) }))
    expect(await hasty.next(is('bye'))).toMatchObject({ reason: 'bad-challenge' })
    expect(await online(endpoint)).toBe(0)
  })
  it('pushes the documents that are newer than the agent\'s, and nothing when none is', async () => {
    const listening = await welcomed(endpoint)
    listening.socket.send(JSON.stringify({ type: 'hello', protocol: '7.0.0', have: versions(0) }))
    const kinds = new Set<string>()
    while (kinds.size < 4) {
      const message = await listening.next(is('document'))
      expect(toAgent.safeParse(message).success).toBe(true)
      if (message.type === 'document') kinds.add(message.kind)
    }
    const before = listening.frames.length
    listening.socket.send(JSON.stringify({ type: 'hello', protocol: '7.0.0', have: versions(Date.now()) }))
    expect(await shard(endpoint).push(endpoint.uid, { type: 'report-now' })).toBe(true)
    await listening.next(is('report-now'))
    expect(listening.frames).toHaveLength(before + 1)
  })
  it('carries a hint from the administrator, also after its object was evicted', async () => {
    const listening = await welcomed(endpoint)
    await becomes(endpoint, 1)
    await evictDurableObject(shard(endpoint))
    expect((await admin('POST', `/endpoints/${endpoint.uid}/check-now`, {})).json).toEqual({ told: true })
    await listening.next(is('report-now'))
  })
  it('tells after an edit which documents are the newest and to whom in how long, and asks nobody to look at everything', async () => {
    const listening = await welcomed(endpoint)
    await becomes(endpoint, 1)
    const edited = await admin('POST', '/profiles', { name: 'edited', settings: {} })
    expect(edited.status).toBe(200)
    const told = await listening.next(is('newer'))
    expect(told.type === 'newer' && told.versions.profile > 0 && told.spreadMs >= 1 && told.spreadMs < 1_000).toBe(true)
    expect(listening.frames.some((frame) => frame.type === 'report-now')).toBe(false)
  })
  it('hands over the deregistration and closes', async () => {
    const listening = await welcomed(endpoint)
    await becomes(endpoint, 1)
    expect((await admin('POST', `/endpoints/${endpoint.uid}/deregister`, { reason: 'left' })).status).toBe(200)
    expect(await listening.next(is('document'))).toMatchObject({ kind: 'deregistration' })
    expect(await listening.next(is('bye'))).toMatchObject({ reason: 'deregistered' })
    expect(await listening.closed).toBe(4000)
  })
})

describe('presence', () => {
  it('is written when a laptop comes, told to gateways, and costs an unchanged laptop no row however often it reconnects', async () => {
    const gateway = await joined()
    const { listening: told } = await greeted(gateway)
    const first = await welcomed(endpoint)
    await becomes(endpoint, 1)
    expect(messageOf(await told.next((frame) => has('changed')(frame) && JSON.stringify(frame).includes(endpoint.uid)), 'changed')).toMatchObject({ table: 'sysinfo', data: { [endpoint.uid]: { online: true } } })
    const rows = await logRows()
    const version = () => DB.prepare('SELECT version FROM endpoints WHERE uid = ?').bind(endpoint.uid).first()
    const before = await version()
    first.socket.close(1000)
    await first.closed
    const second = await welcomed(endpoint)
    second.socket.send(CHANNEL_PING)
    await sweepAfter(endpoint, 60_000)
    expect([await logRows(), await version(), await online(endpoint)]).toEqual([rows, before, 1])
  })
  it('ends when the sweep finds a laptop silent for three pings, not when its socket closes', async () => {
    const listening = await welcomed(endpoint)
    await becomes(endpoint, 1)
    listening.socket.close(1000)
    await listening.closed
    await sweepAfter(endpoint, 60_000)
    expect(await online(endpoint)).toBe(1)
    await sweepAfter(endpoint, 300_000)
    expect(await online(endpoint)).toBe(0)
    expect(await runInDurableObject(shard(endpoint), (_, { storage }) => storage.sql.exec('SELECT uid FROM online WHERE uid = ?', endpoint.uid).toArray())).toEqual([])
  })
  it('ends for a socket that stays open and says nothing, and begins anew when the laptop comes back', async () => {
    await welcomed(endpoint)
    await becomes(endpoint, 1)
    await sweepAfter(endpoint, 300_000)
    expect(await online(endpoint)).toBe(0)
    await welcomed(endpoint)
    await becomes(endpoint, 1)
  })
  it('is not needed for what an agent may ask: an offline endpoint is answered as before', async () => {
    expect((await signed(endpoint, 'GET', '/api/v1/endpoint/tags')).status).toBe(200)
  })
})
