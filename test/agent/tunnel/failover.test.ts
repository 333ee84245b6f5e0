// Several gateways for one destination: who is asked, who is passed by and who is not, and how the preferred one comes back. Real gates, killed for real.
import { afterEach, describe, expect, it } from 'vitest'
import { systemTimers, type Timers } from '../../../node/timers.ts'
import { GATEWAY, cleanUp, heldClock, later, startEcho, startGate, type Gate } from '../../gateway/proxy/gate-under-test.ts'
import { startTunnelTo, type TunnelToGates } from './tunnel-and-gates.ts'
import { closeAll, eventually } from './tunnel-under-test.ts'
import { startWire } from './wire.ts'

afterEach(async () => {
  await closeAll()
  await cleanUp()
})

const SECOND = 'SPGWBBBBBBBBBBBB'
const policies = (port: number, more = '') => `
services: [{name: ledger, protocol: tcp, match: [127.0.0.1], ports: [${port}], addresses: [127.0.0.1]${more}}]
policies: [{name: staff, services: [ledger], tags: {all: [compliant]}, action: allow}]
`
type Client = Awaited<ReturnType<TunnelToGates['open']>>
const speaks = async (client: Client, word: string) => {
  client.socket.write(word)
  await eventually(() => client.body().endsWith(word))
}
const sessionsOf = async (gate: Gate): Promise<number> => Number(/sallyport_open_sessions (\d+)/.exec(await gate.metrics.text())?.[1] ?? 0)
const decisionsOf = async (gate: Gate): Promise<number> => [...(await gate.metrics.text()).matchAll(/^sallyport_decisions_total\{.*\} (\d+)$/gm)].reduce((sum, [, count]) => sum + Number(count), 0)

/** Two gates that lead to one service, each behind a wire; the first is preferred. */
async function scene({ timers, now, random = () => 0 }: { timers?: Timers; now?: () => number; random?: () => number } = {}) {
  const echo = await startEcho()
  later(echo.close)
  const authority = await startGate(policies(echo.port))
  const gates = [authority, await startGate(policies(echo.port), { serial: SECOND, like: authority })] as const
  /** Those that refuse connections. */
  const away = new Set<0 | 1>()
  const reach = (index: 0 | 1) => () => (away.has(index) ? 1 : gates[index].proxy.port)
  const wires = [await startWire(reach(0)), await startWire(reach(1))] as const
  for (const wire of wires) later(wire.close)
  const tunnel = await startTunnelTo([{ gate: gates[0], serial: GATEWAY, port: wires[0].port }, { gate: gates[1], serial: SECOND, port: wires[1].port }], '127.0.0.1', [echo.port], { random, ...(timers === undefined ? {} : { timers }), ...(now === undefined ? {} : { now }) })
  const target = `127.0.0.1:${echo.port}`
  return { echo, gates, wires, away, tunnel, target, open: () => tunnel.open(target), ask: () => tunnel.ask(target) }
}

describe('several gateways', () => {
  it('are used in their order: the preferred one as long as it serves', async () => {
    const at = await scene()
    await Promise.all(Array.from({ length: 5 }, at.open))
    expect([await sessionsOf(at.gates[0]), await sessionsOf(at.gates[1])]).toEqual([5, 0])
    expect(at.wires[1].open()).toHaveLength(0)
  })

  it('take over when the preferred one is killed: sessions of it are reset, the next stream goes to the other at once', async () => {
    // No timer ever fires: nothing is waited for.
    const at = await scene({ timers: heldClock(Date.now()).timers })
    const lost = await at.open()
    await at.gates[0].proxy.close()
    expect(await lost.closed).toBe('reset')
    await speaks(await at.open(), 'elsewhere')
    expect(await sessionsOf(at.gates[1])).toBe(1)
    expect(at.tunnel.denials).toEqual([])
  })

  it('take over when the preferred one can not be reached from the start, and when it does not answer at all', async () => {
    const clock = heldClock(Date.now())
    const at = await scene({ timers: clock.timers })
    at.wires[0].silence()
    const waiting = at.open()
    await eventually(() => at.wires[0].open().length === 1)
    clock.advance(1_500)
    await speaks(await waiting, 'patience')
    // It is known now to be slow: nobody waits for it again.
    await speaks(await at.open(), 'no patience')
  })

  it('take over when the preferred one drains: open sessions go on, new ones are asked of the other at once', async () => {
    const at = await scene()
    const old = await at.open()
    const drained = at.gates[0].proxy.drain(60_000)
    await eventually(() => at.tunnel.events.includes('gateway_draining'))
    await speaks(await at.open(), 'new')
    await speaks(old, 'old')
    expect([await sessionsOf(at.gates[0]), await sessionsOf(at.gates[1])]).toEqual([1, 1])
    old.socket.end()
    await drained
  })

  it('take over when the preferred one says that it knows too little to judge', async () => {
    const at = await scene()
    at.gates[0].change({ currentAt: null })
    await speaks(await at.open(), 'judged elsewhere')
    expect(await sessionsOf(at.gates[1])).toBe(1)
    expect(at.tunnel.denials).toEqual([])
    const asked = await decisionsOf(at.gates[0])
    await speaks(await at.open(), 'and not asked again')
    expect(await decisionsOf(at.gates[0])).toBe(asked)
    // Where neither can judge the user hears why.
    at.gates[1].change({ currentAt: null })
    expect(await at.ask()).toMatch(/^HTTP\/1\.1 403 .*code 067, snapshot-missing/s)
    expect(at.tunnel.denials).toHaveLength(1)
  })

  it('do not take over when the preferred one refuses: a refusal is an answer', async () => {
    const at = await scene()
    at.gates[0].putTags([])
    expect(await at.ask()).toMatch(/^HTTP\/1\.1 403 .*code 065, tag-missing/s)
    expect(await decisionsOf(at.gates[1])).toBe(0)
    expect(at.wires[1].open()).toHaveLength(0)
  })

  it('cut by one are not opened by the other', async () => {
    const at = await scene()
    const client = await at.open()
    at.gates[0].putTags([])
    expect(await client.closed).toBe('reset')
    expect(await at.ask()).toMatch(/tag-missing/)
    expect(await decisionsOf(at.gates[1])).toBe(0)
  })

  it('give way to the preferred one when it is back and steady, and what is open elsewhere stays open', async () => {
    const clock = heldClock(Date.now())
    // The test holds what is due within a minute; what bounds single questions is the machine's.
    const at = await scene({ timers: { after: (delayMs, action) => (delayMs < 1_000 ? systemTimers.after(Math.min(delayMs, 20), action) : clock.timers.after(delayMs, action)) } })
    await at.open()
    at.wires[0].open()[0]?.resetAndDestroy()
    at.wires[0].silence()
    await eventually(() => at.tunnel.events.includes('gateway_disconnected'))
    const elsewhere = await at.open()
    expect(await sessionsOf(at.gates[1])).toBe(1)
    // Back, but held down for a while: one that comes and goes must not take every stream with it.
    for (const socket of at.wires[0].open()) socket.resetAndDestroy()
    at.wires[0].restore()
    await eventually(() => at.tunnel.events.filter((event) => event === 'gateway_connected').length === 3)
    await speaks(await at.open(), 'not yet')
    expect(await sessionsOf(at.gates[1])).toBe(2)
    clock.advance(2_000)
    const before = await decisionsOf(at.gates[0])
    await speaks(await at.open(), 'back again')
    expect(await decisionsOf(at.gates[0])).toBe(before + 1)
    await speaks(elsewhere, 'undisturbed')
  })

  it.each([['last', 1], ['first', 0]] as const)('are asked again where none is left to ask, though the attempt before has only just failed: the %s is back', async (_which, back) => {
    const at = await scene()
    at.away.add(0).add(1)
    expect(await at.ask()).toMatch(/^HTTP\/1\.1 502 /)
    at.away.delete(back)
    await speaks(await at.open(), 'back')
    expect(await sessionsOf(at.gates[back])).toBe(1)
  })

  it('that are all away are said to be', async () => {
    const at = await scene()
    for (const gate of at.gates) await gate.proxy.close()
    expect(await at.ask()).toMatch(new RegExp(`^HTTP/1\\.1 502 .*is protected by gateways ${GATEWAY}, ${SECOND}, which can't be reached`, 's'))
  })
})

describe('one gateway with several addresses', () => {
  const named = async (addresses: string[]) => {
    const echo = await startEcho()
    later(echo.close)
    const gate = await startGate(policies(echo.port))
    // Of all timers, only the pause before the next address ever fires: no address is waited for to its end.
    const timers: Timers = { after: (delayMs, action) => (delayMs === 250 ? systemTimers : heldClock(0).timers).after(delayMs, action) }
    const tunnel = await startTunnelTo([{ gate, serial: GATEWAY, host: 'gate.test' }], '127.0.0.1', [echo.port], { timers, resolve: (host) => Promise.resolve(host === 'gate.test' ? addresses : []) })
    return { tunnel, target: `127.0.0.1:${echo.port}` }
  }
  it('is reached by the first that answers, though others refuse or are silent', async () => {
    // Reserved for documentation: nothing answers there, or the network says so at once.
    const { tunnel, target } = await named(['2001:db8::1', '127.0.0.2', '192.0.2.1', '127.0.0.1'])
    await speaks(await tunnel.open(target), 'found')
  })
  it('is away where none answers', async () => {
    const { tunnel, target } = await named(['127.0.0.2', '127.0.0.3'])
    expect(await tunnel.ask(target)).toMatch(/502.*ECONNREFUSED/s)
    const { tunnel: nameless, target: other } = await named([])
    expect(await nameless.ask(other)).toMatch(/502.*has no address/s)
  })
})
