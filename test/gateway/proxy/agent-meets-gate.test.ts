import { once } from 'node:events'
import { connect } from 'node:tls'
import { afterEach, describe, expect, it } from 'vitest'
import type { Denial } from '../../../agent/tunnel/denial.ts'
import { openSession } from '../../../agent/tunnel/gateway-session.ts'
import { openStream } from '../../../agent/tunnel/open-stream.ts'
import { systemTimers } from '../../../node/timers.ts'
import { gatewayTlsName } from '../../../protocol/certificates.ts'
import { createAuthority } from '../../../identity/authority.ts'
import { GATEWAY, UID, cleanUp, later, readUntil, startEcho, startGate, until, type Gate } from './gate-under-test.ts'

afterEach(cleanUp)

const policies = (port: number) => `
services: [{name: ledger, protocol: tcp, match: [127.0.0.1], ports: [${port}], addresses: [127.0.0.1]}]
policies: [{name: staff, services: [ledger], tags: {all: [compliant]}, action: allow}]
`

describe('an agent at the gate', () => {
  it('proves both sides, opens a stream, and reads why it was cut and why the next is refused', async () => {
    const echo = await startEcho()
    later(echo.close)
    const gate = await startGate(policies(echo.port))
    const session = await openSession({
      address: { serial: GATEWAY, host: '127.0.0.1', port: gate.proxy.port }, identity: { certificatePem: gate.agent.cert, privateKeyPem: gate.agent.key },
      authorities: [gate.authority.certificatePem], timers: systemTimers,
    })
    later(() => session.destroy())
    const cut = Promise.withResolvers<Denial>()
    const open = () => openStream({ session, authority: `127.0.0.1:${echo.port}`, signal: new AbortController().signal, timers: systemTimers, now: Date.now, onCut: cut.resolve })
    const outcome = await open()
    if (outcome.kind !== 'open') throw new Error(JSON.stringify(outcome))
    const answered = readUntil(outcome.far, 'hello')
    outcome.far.write('hello')
    await answered
    gate.putTags([])
    expect(await cut.promise).toMatchObject({ reason: 'tag-missing', code: '065', tags: ['compliant'] })
    expect(await open()).toMatchObject({ kind: 'refused', denial: { reason: 'tag-missing' } })
    await until(() => outcome.far.closed)
    expect(outcome.far.rstCode).not.toBe(0)
  })
})

describe('a TLS session', () => {
  const greet = async (gate: Gate, session?: Buffer) => {
    const socket = connect({ host: '127.0.0.1', port: gate.proxy.port, ca: gate.authority.certificatePem, servername: gatewayTlsName(GATEWAY), cert: gate.agent.cert, key: gate.agent.key, ALPNProtocols: ['http/1.1'], session })
    socket.on('error', () => socket.destroy())
    later(() => socket.destroy())
    let ticket = session
    socket.on('session', (made: Buffer) => {
      ticket = made
    })
    await once(socket, 'secureConnect')
    const resumed = socket.isSessionReused()
    const text = readUntil(socket, '}')
    socket.write('GET / HTTP/1.1\r\nHost: undeclared.test\r\n\r\n')
    return { resumed, text: await text, ticket }
  }
  it('that is resumed still says who it is; after another set of CAs it is made anew and refused', async () => {
    const authorities: string[] = []
    const gate = await startGate(policies(1), { authorities: () => authorities.length > 0 ? authorities : undefined })
    const first = await greet(gate)
    const second = await greet(gate, first.ticket)
    expect([first.resumed, second.resumed]).toEqual([false, true])
    expect(second.text).toContain(`"uid":"${UID}"`)
    expect(second.text).toContain('service-unknown')
    authorities.push((await createAuthority({ name: 'Other CA', now: Date.now() })).certificatePem)
    gate.proxy.updateAuthorities()
    const third = await greet(gate, second.ticket)
    expect(third.resumed).toBe(false)
    expect(third.text).toContain('certificate-invalid')
  })
})
