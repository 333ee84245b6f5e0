// The local proxy is kept running while there is a profile, whatever becomes of its ports.
import { once } from 'node:events'
import { connect, createServer, type Server } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { keepTunnel, type TunnelState } from '../../agent/keep-tunnel.ts'
import { noRevocations } from '../../agent/tunnel/revocations.ts'
import { silentLog } from '../../node/logging.ts'
import { profileSettings, type ProfileSettings } from '../../protocol/profile.ts'
import { freePort } from '../../start/free-port.ts'
import { until } from '../../start/steps.ts'
import { closeAll, onEnd } from './agent-under-test.ts'
import { manualTimers } from './manual-timers.ts'

afterEach(closeAll)
const settingsWith = (httpPort: number, socksPort = 0): ProfileSettings => profileSettings.parse({ proxy: { httpPort, socksPort } })
const happened = (what: string, ask: () => boolean) => until(what, () => Promise.resolve(ask() || null), 45_000, 5)

async function occupied(): Promise<{ port: number; free(): Promise<void> }> {
  const server: Server = createServer()
  const port = await freePort()
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  const free = () => new Promise<void>((resolve) => { server.close(() => resolve()) })
  onEnd(free)
  return { port, free }
}
async function answers(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  onEnd(() => Promise.resolve(socket.destroy()))
  return await Promise.race([once(socket, 'connect').then(() => true), once(socket, 'error').then(() => false)]).catch(() => false)
}

async function kept(first: ProfileSettings | null) {
  let settings = first
  const listeners = new Set<() => void>()
  const states: TunnelState[] = []
  const timers = manualTimers()
  const tunnel = await keepTunnel({
    settings: () => settings, onSettings: (listener) => { listeners.add(listener); return () => { listeners.delete(listener) } }, identity: () => ({ certificatePem: '', privateKeyPem: '' }), authorities: () => [], revocations: noRevocations,
    ownerUid: process.getuid?.() ?? 0, log: silentLog(), now: () => 0, timers, onState: (state) => states.push(state), onDenial: () => undefined, renew: () => Promise.resolve(false), onDefect: (cause) => { throw cause },
  })
  onEnd(tunnel.close)
  const change = (next: ProfileSettings) => {
    settings = next
    for (const listener of listeners) listener()
  }
  const httpPort = () => {
    const state = tunnel.state()
    return state.running ? state.httpPort : 0
  }
  return { tunnel, states, timers, change, httpPort, listeners }
}

describe('the local proxy', () => {
  it('does not run without a profile, runs when one comes, and is gone when it is closed', async () => {
    const { tunnel, change, httpPort, listeners } = await kept(null)
    expect(tunnel.state()).toEqual({ running: false, reason: 'no profile has been assigned' })
    change(settingsWith(0))
    await happened('the proxy', () => tunnel.state().running)
    const port = httpPort()
    expect(await answers(port)).toBe(true)
    await tunnel.close()
    expect(await answers(port)).toBe(false)
    expect(tunnel.state().running).toBe(false)
    expect(listeners.size).toBe(0)
    change(settingsWith(0))
    expect(tunnel.state().running).toBe(false)
  })

  it('that can not have its port says which and why, keeps none of the two, and tries again', async () => {
    const [taken, other] = [await occupied(), await occupied()]
    await other.free()
    const { tunnel, timers, states } = await kept(settingsWith(other.port, taken.port))
    expect(tunnel.state()).toMatchObject({ running: false, reason: expect.stringMatching(new RegExp(`port ${other.port} or ${taken.port} can not be had \\(EADDRINUSE\\)`)) as string })
    expect(await answers(other.port)).toBe(false)
    await timers.advance(15_000)
    expect(tunnel.state().running).toBe(false)
    await taken.free()
    await timers.advance(15_000)
    await happened('the proxy', () => tunnel.state().running)
    expect(states.map(({ running }) => running)).toEqual([false, false, true])
  })

  it('follows a change of ports, at once where a free one is given, and stays on the old one where it is not', async () => {
    const taken = await occupied()
    const { change, httpPort } = await kept(settingsWith(0))
    const first = httpPort()
    change(settingsWith(taken.port))
    change(settingsWith(taken.port, 0))
    await happened('the old port', () => httpPort() === first)
    expect(await answers(first)).toBe(true)
    await taken.free()
    // The same wish again, as any later profile repeats it, is tried again.
    change(settingsWith(taken.port))
    await happened('the new port', () => httpPort() === taken.port)
    await until('the end of the old one', async () => (await answers(first)) ? null : true)
  })

  it('whose profile changes while it is starting runs by the last one', async () => {
    const { tunnel, change, httpPort } = await kept(null)
    const next = await occupied()
    await next.free()
    change(settingsWith(0))
    change(settingsWith(next.port))
    await happened('the last port', () => httpPort() === next.port)
    change(settingsWith(0))
    await tunnel.close()
    expect(await answers(next.port)).toBe(false)
  })
})
