// The endpoint channel against an EMS that is away, half-open, silent, or says what is no message.
import { afterEach, describe, expect, it } from 'vitest'
import type { WebSocket } from 'ws'
import { openChannel, type ChannelOptions, type ChannelState } from '../../../agent/telemetry/channel.ts'
import { readIdentity } from '../../../agent/certificates/identity-store.ts'
import { createControlClient } from '../../../node/control-client.ts'
import { createLog } from '../../../node/logging.ts'
import { CHANNEL_SUBPROTOCOL } from '../../../protocol/channel.ts'
import { channel as channelOperation } from '../../../protocol/operations/endpoint.ts'
import { until } from '../../../start/steps.ts'
import { closeAll, enrolledScene, onEnd } from '../agent-under-test.ts'
import { manualTimers } from '../manual-timers.ts'

afterEach(closeAll)
const happened = <T>(what: string, ask: () => T | null | undefined | false): Promise<T> => until(what, () => Promise.resolve(ask() || null), 10_000, 5)

async function scene(over: Partial<ChannelOptions> = {}) {
  const { ems, directory } = await enrolledScene()
  const identity = await readIdentity(directory)
  if (identity === null) throw new Error('not enrolled')
  const lines: { event: string; reason?: string }[] = []
  const log = createLog({ name: 'agent', level: 'debug', destination: { write: (line: string) => { lines.push(JSON.parse(line) as never) } } })
  const client = createControlClient({ ems: ems.address, identity: () => identity, tlsCa: [ems.tlsCa], now: Date.now, log, timeoutMs: 30_000 })
  onEnd(() => client.close())
  const timers = manualTimers()
  const states: ChannelState[] = []
  const told = { messages: [] as string[], opened: 0, refused: 0 }
  const channel = openChannel({
    open: () => client.openSocket(channelOperation, CHANNEL_SUBPROTOCOL), privateKey: () => identity.privateKey, versions: () => ({ profile: 1, rules: 2, licence: 3, authorities: 4 }),
    onMessage: (message) => told.messages.push(message.type), onOpen: () => { told.opened++ }, onRefused: () => { told.refused++ }, onState: (state) => states.push(state), timers, log, random: () => 0.5, ...over,
  })
  onEnd(() => Promise.resolve(channel.close()))
  /** The pause before the next attempt; other timers limit what is under way. */
  const reconnects = () => happened('the wait', () => channel.state() === 'waiting' && timers.waiting().at(-1))
  return { ems, timers, states, told, channel, lines, reconnects }
}

describe('the endpoint channel', () => {
  it('proves the key, says hello with what it holds, and hands on hints', async () => {
    const { ems, states, told, channel } = await scene()
    const met = await happened('the channel', () => ems.sockets[0])
    await happened('hello', () => met.said.length > 1)
    expect(met.said[1]).toEqual({ type: 'hello', protocol: '7.0.0', have: { profile: 1, rules: 2, licence: 3, authorities: 4 } })
    expect(states).toEqual(['open'])
    expect(told.opened).toBe(1)
    met.tell({ type: 'report-now' })
    await happened('the hint', () => told.messages.length > 0)
    expect(told.messages).toEqual(['report-now'])
    expect(channel.state()).toBe('open')
  })

  it.each<[string, (socket: WebSocket) => void]>([
    ['not JSON', (socket) => socket.send('}{')], ['JSON of no message', (socket) => socket.send('[1,2,{"type":"welcome"}]')], ['null', (socket) => socket.send('null')],
    ['an unknown message', (socket) => socket.send('{"type":"self-destruct"}')], ['binary', (socket) => socket.send(Buffer.from('{"type":"report-now"}'), { binary: true })],
    ['a document that is none', (socket) => socket.send('{"type":"document","kind":"profile","document":"x"}')],
    ['a second challenge', (socket) => socket.send(`{"type":"challenge","challenge":"${'0'.repeat(64)}"}`)],
  ])('is left open by %s, which does nothing', async (_what, say) => {
    const { ems, told, channel } = await scene()
    const met = await happened('the channel', () => ems.sockets[0])
    const said = met.said.length
    say(met.socket)
    met.tell({ type: 'report-now' })
    await happened('what came after', () => told.messages.length > 0)
    expect(told.messages).toEqual(['report-now'])
    expect(met.said.length - said).toBeLessThanOrEqual(1) // hello, if it had not come before
    expect(channel.state()).toBe('open')
  })

  it('ends at a frame larger than any message, and comes back with a pause', async () => {
    const { ems, channel, lines, reconnects } = await scene()
    const met = await happened('the channel', () => ems.sockets[0])
    met.socket.send('x'.repeat(5 * 1024 * 1024))
    await reconnects()
    expect(channel.state()).toBe('waiting')
    expect(lines.some(({ event }) => event === 'channel-failed')).toBe(true)
  })

  it('comes back with jitter, and ever later while nobody answers', async () => {
    const { ems, timers, channel, reconnects } = await scene()
    await happened('the channel', () => channel.state() === 'open')
    await ems.stop()
    const pauses: number[] = []
    for (let times = 0; times < 6; times++) {
      pauses.push(await reconnects())
      await timers.advance(pauses.at(-1) ?? 0)
    }
    expect(pauses).toEqual([4_250, 8_250, 16_250, 30_250, 30_250, 30_250])
    await ems.start()
    await timers.advance(await reconnects())
    await happened('the channel again', () => channel.state() === 'open')
  })

  it('spreads a fleet that lost its EMS at one instant over seconds', async () => {
    const pauses: number[] = []
    for (let agent = 0; agent < 200; agent++) {
      const timers = manualTimers()
      const channel = openChannel({
        open: () => Promise.reject(new Error('cut')), privateKey: () => { throw new Error('not asked') }, versions: () => ({ profile: 0, rules: 0, licence: 0, authorities: 0 }),
        onMessage: () => undefined, onOpen: () => undefined, onRefused: () => undefined, onState: () => undefined, timers, log: createLog({ name: 'x', level: 'silent' }),
      })
      await timers.advance(0)
      pauses.push(timers.waiting()[0] ?? 0)
      channel.close()
    }
    const busiest = Math.max(...Array.from({ length: 9 }, (_, second) => pauses.filter((ms) => Math.floor(ms / 1000) === second).length))
    expect(busiest).toBeLessThan(50) // of 200, a quarter in any second at most
  })

  it('notices a half-open socket by its ping, and a silent EMS by its welcome', async () => {
    const { ems, timers, channel, lines, reconnects } = await scene()
    const met = await happened('the channel', () => ems.sockets[0])
    await happened('open', () => channel.state() === 'open')
    met.socket.removeAllListeners('message') // answers no ping any more
    await timers.advance(60_000)
    await timers.advance(20_000)
    await reconnects()
    expect(lines.at(-1)?.reason ?? lines.at(-2)?.reason).toMatch(/ping was not answered/)
    ems.meet = () => undefined
    await timers.advance(await reconnects())
    await happened('the limit of the welcome', () => timers.waiting().includes(20_000))
    await happened('the socket', () => ems.count('channel') > 1)
    await timers.advance(20_000)
    await reconnects()
    expect(lines.some(({ reason }) => reason?.includes('did not welcome'))).toBe(true)
  })

  it('answers pings for as long as they are answered', async () => {
    const { ems, timers, channel } = await scene()
    const met = await happened('the channel', () => ems.sockets[0])
    // The EMS has its socket before we are welcomed: a minute that passes in between is the limit of the welcome.
    await happened('open', () => channel.state() === 'open')
    let pings = 0
    met.socket.on('message', (data: Buffer) => { if (data.toString() === 'ping') pings++ })
    for (let minute = 1; minute <= 5; minute++) {
      await timers.advance(60_000)
      await happened('a pong', () => pings === minute && !timers.waiting().includes(20_000) && timers.waiting().length === 1)
    }
    expect(channel.state()).toBe('open')
    expect(ems.count('channel')).toBe(1)
  })

  it('asks why when it is refused or told to go, and leaves whoever replaced it alone for a while', async () => {
    const { ems, timers, told, reconnects } = await scene()
    const met = await happened('the channel', () => ems.sockets[0])
    met.tell({ type: 'bye', reason: 'replaced' })
    await happened('the question', () => told.refused === 1)
    met.socket.close(4000)
    expect(await reconnects()).toBe(30_250)
    ems.refuseUpgrades = 403
    await timers.advance(30_250)
    await happened('the refusal', () => told.refused === 2)
    ems.refuseUpgrades = 429
    await timers.advance(await reconnects())
    await reconnects()
    expect(told.refused).toBe(2)
  })

  it('closes in every state without a sound', async () => {
    const { channel, lines, ems } = await scene()
    channel.close() // still connecting
    expect(channel.state()).toBe('closed')
    const open = await scene()
    await happened('the channel', () => open.channel.state() === 'open')
    open.channel.close()
    await happened('the end', () => open.ems.sockets[0]?.socket.readyState === 3)
    const waiting = await scene()
    await happened('the channel', () => waiting.channel.state() === 'open')
    await waiting.ems.stop()
    await waiting.reconnects()
    waiting.channel.close()
    expect(waiting.timers.waiting()).toEqual([])
    expect(lines.filter(({ event }) => event === 'channel-failed')).toEqual([])
    expect(ems.sockets).toEqual([])
  })

  it('tries at once when the network changes, and anew when what it was opened under holds no longer', async () => {
    const { ems, channel, reconnects } = await scene()
    await happened('the channel', () => ems.sockets.length === 1)
    await ems.stop()
    await reconnects()
    await ems.start()
    channel.hurry()
    await happened('the channel again', () => ems.sockets.length === 2 && channel.state() === 'open')
    channel.hurry()
    expect(channel.state()).toBe('open')
    channel.reopen()
    await reconnects()
  })
})
