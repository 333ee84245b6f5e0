// Sleep and other networks: how they are noticed, and what becomes of connections that lead nowhere.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'
import { watchPath } from '../../../agent/tunnel/watch-path.ts'
import { systemTimers, type Timers } from '../../../node/timers.ts'
import { GATEWAY, cleanUp, heldClock, later, startEcho, startGate } from '../../gateway/proxy/gate-under-test.ts'
import { startTunnelTo } from './tunnel-and-gates.ts'
import { closeAll, eventually } from './tunnel-under-test.ts'
import { startWire } from './wire.ts'

afterEach(async () => {
  await closeAll()
  await cleanUp()
})

describe('the watch', () => {
  function watched() {
    const clock = heldClock(0)
    const machine = { wall: 0, steady: 0, addresses: ['lo 127.0.0.1', 'eth0 10.0.0.5'] }
    const told: string[][] = []
    const watch = watchPath({ timers: clock.timers, onChange: (addresses) => told.push([...addresses].sort()), wall: () => machine.wall, steady: () => machine.steady, addresses: () => [...machine.addresses] })
    later(() => watch.close())
    return { machine, told, watch, tick(wallMs = 2_000, steadyMs = wallMs) {
      machine.wall += wallMs
      machine.steady += steadyMs
      clock.advance(2_000)
    } }
  }
  it('says nothing while time passes, however late it is by a little, and when the clock is set back or corrected', () => {
    const { tick, told } = watched()
    for (const wall of [2_000, 2_900, 5_500, 2_000 - 3_600_000, 2_000 + 3_000]) tick(wall, 2_000)
    expect(told).toEqual([])
  })
  it('tells of a sleep, by the clock that went on or by both that jumped', () => {
    const { tick, told } = watched()
    tick(8 * 3_600_000, 2_000)
    tick(60_000, 60_000)
    expect(told).toHaveLength(2)
  })
  it('tells of an address that came, went or moved, and of the order of them never', () => {
    const { tick, told, machine, watch } = watched()
    machine.addresses = ['eth0 10.0.0.5', 'lo 127.0.0.1']
    tick()
    expect(told).toEqual([])
    machine.addresses = ['lo 127.0.0.1']
    tick()
    machine.addresses = ['lo 127.0.0.1', 'wlan0 192.168.1.7', 'wlan0 fe80::1%wlan0']
    tick()
    expect(told).toEqual([['127.0.0.1'], ['127.0.0.1', '192.168.1.7', 'fe80::1']])
    watch.close()
    machine.addresses = []
    tick()
    expect(told).toHaveLength(2)
  })
  it('sees the addresses of a real machine change (in a network of its own)', async () => {
    const program = `
      import { execFileSync } from 'node:child_process'
      import { watchPath } from ${JSON.stringify(fileURLToPath(new URL('../../../agent/tunnel/watch-path.ts', import.meta.url)))}
      const ip = (...args) => execFileSync('ip', args)
      ip('link', 'set', 'lo', 'up'); ip('addr', 'add', '10.0.0.5/32', 'dev', 'lo')
      const seen = []
      const next = () => new Promise((resolve) => { wake = resolve })
      let wake = () => {}
      const watch = watchPath({ timers: { after: (_ms, action) => { const timer = setTimeout(action, 20); return () => clearTimeout(timer) } }, onChange: (addresses) => { seen.push([...addresses].filter((each) => each.startsWith('10.'))); wake() } })
      const moved = next(); ip('addr', 'del', '10.0.0.5/32', 'dev', 'lo'); await moved
      const back = next(); ip('addr', 'add', '10.0.7.9/32', 'dev', 'lo'); await back
      watch.close()
      console.log(JSON.stringify(seen))`
    const { stdout } = await promisify(execFile)('unshare', ['-n', process.execPath, '--input-type=module', '-e', program], { timeout: 60_000 })
    expect(JSON.parse(stdout)).toEqual([[], ['10.0.7.9']])
  })
})

const policies = (port: number, more = '') => `
services: [{name: ledger, protocol: tcp, match: [127.0.0.1], ports: [${port}], addresses: [127.0.0.1]${more}}]
policies: [{name: staff, services: [ledger], tags: {all: [compliant]}, action: allow}]
`
async function scene(more = '', timers: Timers = systemTimers) {
  const echo = await startEcho()
  later(echo.close)
  const gate = await startGate(policies(echo.port, more))
  const wire = await startWire(() => gate.proxy.port)
  later(wire.close)
  const tunnel = await startTunnelTo([{ gate, serial: GATEWAY, port: wire.port }], '127.0.0.1', [echo.port], { random: () => 0, timers })
  return { gate, wire, tunnel, open: () => tunnel.open(`127.0.0.1:${echo.port}`) }
}
const speaks = async (client: Awaited<ReturnType<Awaited<ReturnType<typeof scene>>['open']>>, word: string) => {
  client.socket.write(word)
  await eventually(() => client.body().endsWith(word))
}

describe('after a sleep or on another network', () => {
  it('what still leads to the gate is left alone', async () => {
    const clock = heldClock(Date.now())
    const { tunnel, wire, open } = await scene('', clock.timers)
    const client = await open()
    tunnel.changePath()
    await eventually(() => tunnel.events.includes('path_changed'))
    await speaks(client, 'undisturbed')
    // What was asked came back before these words did.
    clock.advance(2_000)
    await speaks(client, 'still')
    expect(wire.open()).toHaveLength(1)
    expect(tunnel.events).not.toContain('gateway_disconnected')
  })

  it('what leads nowhere is dropped within two seconds, its programs hear of it, and the next stream goes a new way', async () => {
    const clock = heldClock(Date.now())
    const { tunnel, wire, open } = await scene('', clock.timers)
    const client = await open()
    wire.silence()
    tunnel.changePath()
    clock.advance(2_000)
    expect(await client.closed).toBe('reset')
    wire.restore()
    await speaks(await open(), 'a new way')
  })

  it('what began at an address that is gone is dropped at once', async () => {
    // No timer ever fires: nothing is waited for.
    const { tunnel, open } = await scene('', heldClock(Date.now()).timers)
    const client = await open()
    tunnel.changePath(['10.0.0.5'])
    expect(await client.closed).toBe('reset')
    await speaks(await open(), 'a new way')
  })

  it('streams with a connection of their own go with the path that they shared, and those that were ready are made anew', async () => {
    const { tunnel, wire, open } = await scene(', traffic: bulk')
    await open()
    await eventually(() => tunnel.events.filter((event) => event === 'bulk_connection_ready').length === 2)
    const own = await open()
    await speaks(own, 'of its own')
    wire.silence()
    tunnel.changePath()
    expect(await own.closed).toBe('reset')
    wire.restore()
    await speaks(await open(), 'a new way')
  })

  it('a gate that had been away is tried at once, whatever pause it was in', async () => {
    const { gate, tunnel, wire, open } = await scene()
    wire.silence()
    const first = open().catch((error: Error) => error.message)
    await eventually(() => wire.open().length > 0)
    for (const socket of wire.open()) socket.resetAndDestroy()
    expect(await first).toContain('502')
    wire.restore()
    tunnel.changePath()
    await eventually(() => tunnel.events.includes('gateway_connected'))
    await speaks(await open(), 'at once')
    expect(await gate.metrics.text()).toContain('sallyport_open_sessions 1')
  })
})
