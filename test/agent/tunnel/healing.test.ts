// A certificate that a gate refuses: issued anew without anybody's hand, once, and not where that can't help.
import { afterEach, describe, expect, it } from 'vitest'
import type { TunnelIdentity } from '../../../agent/tunnel/gateway-session.ts'
import { systemTimers } from '../../../node/timers.ts'
import { GATEWAY, UID, cleanUp, heldClock, later, record, startEcho, startGate, type Credential } from '../../gateway/proxy/gate-under-test.ts'
import { anotherCertificate, startTunnelTo } from './tunnel-and-gates.ts'
import { closeAll, eventually } from './tunnel-under-test.ts'

afterEach(async () => {
  await closeAll()
  await cleanUp()
})

const policies = (port: number) => `
services: [{name: ledger, protocol: tcp, match: [127.0.0.1], ports: [${port}], addresses: [127.0.0.1]}]
policies: [{name: staff, services: [ledger], tags: {all: [compliant]}, action: allow}]
`
const identityOf = ({ cert, key }: Credential): TunnelIdentity => ({ certificatePem: cert, privateKeyPem: key })

/** An agent whose EMS issues certificates; `tells`: the gate hears of them. */
async function scene({ tells = true, refuses = false } = {}) {
  const echo = await startEcho()
  later(echo.close)
  const gate = await startGate(policies(echo.port))
  const clock = heldClock(Date.now())
  let credential = gate.agent
  let renewals = 0
  const tunnel = await startTunnelTo([{ gate, serial: GATEWAY }], '127.0.0.1', [echo.port], {
    identity: () => identityOf(credential), random: () => 0,
    // The pauses between renewals are the test's.
    timers: { after: (delayMs, action) => (delayMs >= 30_000 ? clock : { timers: systemTimers }).timers.after(delayMs, action) },
    async renew() {
      renewals += 1
      if (refuses) return false
      credential = await anotherCertificate(gate)
      if (tells) gate.change({ endpoints: new Map([[UID, record(UID, [credential])]]) })
      return true
    },
  })
  const target = `127.0.0.1:${echo.port}`
  return {
    gate, tunnel, clock, renewals: () => renewals,
    /** The gate knows this device by another certificate only. */
    async mismatch() {
      gate.change({ endpoints: new Map([[UID, record(UID, [await anotherCertificate(gate)])]]) })
    },
    open: () => tunnel.open(target), ask: () => tunnel.ask(target),
  }
}
const speaks = async (client: Awaited<ReturnType<Awaited<ReturnType<typeof scene>>['open']>>) => {
  client.socket.write('mended')
  await eventually(() => client.body() === 'mended')
}

describe('a certificate that is not among those of the device', () => {
  it('is issued anew, and the very stream that was refused is opened', async () => {
    const at = await scene()
    await speaks(await at.open())
    await at.mismatch()
    await speaks(await at.open())
    expect(at.renewals()).toBe(1)
    // The user heard of the cut of the first session, and of no refusal.
    expect(at.tunnel.denials.every(({ reason }) => reason === 'certificate-revoked')).toBe(true)
    expect(at.tunnel.denials).toHaveLength(1)
    await speaks(await at.open())
    expect(at.renewals()).toBe(1)
  })

  it('is issued once for all streams that are refused at once', async () => {
    const at = await scene()
    await at.mismatch()
    for (const client of await Promise.all(Array.from({ length: 20 }, at.open))) await speaks(client)
    expect(at.renewals()).toBe(1)
    expect(at.tunnel.denials).toEqual([])
  })

  it('where a new one does not help is not asked for again before a pause, which grows', async () => {
    const at = await scene({ tells: false })
    await at.mismatch()
    for (let n = 0; n < 10; n += 1) expect(await at.ask()).toMatch(/code 063, certificate-revoked/)
    expect(at.renewals()).toBe(1)
    at.clock.advance(60_000)
    for (let n = 0; n < 10; n += 1) expect(await at.ask()).toMatch(/certificate-revoked/)
    expect(at.renewals()).toBe(2)
    at.clock.advance(59_000)
    await at.ask()
    expect(at.renewals()).toBe(2)
    at.clock.advance(10 * 3_600_000)
    await at.ask()
    expect(at.renewals()).toBe(3)
  })

  it('that the EMS does not renew is refused, with the reason, and asked for no oftener', async () => {
    const at = await scene({ refuses: true })
    await at.mismatch()
    for (let n = 0; n < 10; n += 1) expect(await at.ask()).toMatch(/code 063, certificate-revoked/)
    expect(at.renewals()).toBe(1)
    expect(at.tunnel.denials).toHaveLength(10)
  })
})

describe('a device', () => {
  it('that the gate does not know is told of again by a renewal', async () => {
    const at = await scene()
    at.gate.change({ endpoints: new Map([[UID, null]]) })
    await speaks(await at.open())
    expect(at.renewals()).toBe(1)
  })

  it.each([
    ['was deregistered', { registered: false }, 'endpoint-deregistered'], ['is in quarantine', { quarantined: true }, 'endpoint-quarantined'], ['lacks a tag', { tags: new Map() }, 'tag-missing'],
  ])('that %s gets no new certificate for it', async (_what, more, reason) => {
    const at = await scene()
    at.gate.change({ endpoints: new Map([[UID, record(UID, [at.gate.agent], more)]]) })
    expect(await at.ask()).toContain(reason)
    expect(at.renewals()).toBe(0)
  })
})
