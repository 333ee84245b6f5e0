import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls'
import { afterEach, describe, expect, it } from 'vitest'
import { createAuthority, type Authority } from '../../../identity/authority.ts'
import { gatewayTlsName } from '../../../protocol/certificates.ts'
import { GATEWAY, UID, ask, cleanUp, connectTo, heldClock, issue, later, listen, openHttp1, openHttp2, readUntil, startEcho, startGate, until, type Gate } from './gate-under-test.ts'

afterEach(cleanUp)

const policies = (port: number, listener = '{}', more = '') => `
listener: ${listener}
services: [{name: ledger, protocol: tcp, match: [127.0.0.1], ports: [${port}], addresses: [127.0.0.1]}, {name: web, protocol: https, match: [web.test], upstream: http://127.0.0.1:${port}}${more}]
policies: [{name: staff, services: [ledger, web], tags: {all: [compliant]}, action: allow}]
`
/** A TLS connection with a name and versions of the test's choice. */
async function greet(gate: Gate, more: ConnectionOptions = {}): Promise<TLSSocket> {
  const socket = connect({ host: '127.0.0.1', port: gate.proxy.port, ca: gate.authority.certificatePem, servername: gatewayTlsName(GATEWAY), cert: gate.agent.cert, key: gate.agent.key, ALPNProtocols: ['http/1.1'], ...more })
  later(() => socket.destroy())
  socket.on('session', (ticket) => tickets.set(socket, ticket))
  await once(socket, 'secureConnect')
  socket.on('error', () => socket.destroy())
  return socket
}
const tickets = new WeakMap<TLSSocket, Buffer>()
const reasonOver = async (socket: TLSSocket): Promise<string> => {
  const read = readUntil(socket, '}')
  socket.write('GET / HTTP/1.1\r\nHost: undeclared.test\r\n\r\n')
  return (JSON.parse((await read).split('\r\n\r\n')[1] ?? '{}') as { reason: string }).reason
}
/** Server certificates of another CA than the EMS's, in files. Their one name is what a gateway's certificate bears. */
async function files(gate: Gate, authority: Authority, serial: string, name: string) {
  const made = await issue(authority, serial, 'gateway')
  const [certificateFile, keyFile] = [join(gate.directory, `${name}.pem`), join(gate.directory, `${name}.key`)]
  writeFileSync(certificateFile, made.cert)
  writeFileSync(keyFile, made.key)
  return { serial: made.serial, text: `{certificateFile: ${certificateFile}, keyFile: ${keyFile}}` }
}
const shown = (socket: TLSSocket): string => socket.getPeerCertificate().serialNumber.padStart(40, '0')

describe('the listener', () => {
  it('speaks TLS 1.3, and 1.2 where the policies say so', async () => {
    const gate = await startGate(policies(1))
    await expect(greet(gate, { maxVersion: 'TLSv1.2' })).rejects.toThrow(/version/i)
    expect((await greet(gate)).getProtocol()).toBe('TLSv1.3')
    gate.putPolicies(policies(1, '{minimumTls: "1.2"}'))
    const old = await greet(gate, { maxVersion: 'TLSv1.2' })
    expect([old.getProtocol(), await reasonOver(old)]).toEqual(['TLSv1.2', 'service-unknown'])
  })

  it('shows the certificate that a name asks for, believes the same devices under each, and reads it again when it changes', async () => {
    const clock = heldClock(Date.now())
    const gate = await startGate(policies(1), clock)
    const publicCa = await createAuthority({ name: 'Public CA', now: Date.now() })
    const first = await files(gate, publicCa, 'SPGW00000000AAAA', 'one')
    const name = gatewayTlsName('SPGW00000000AAAA')
    const before = await greet(gate)
    gate.putPolicies(policies(1, `{certificates: [${first.text}]}`))
    const asPublic = { ca: publicCa.certificatePem, servername: name }
    await until(() => greet(gate, asPublic).then(() => true, () => false))
    const [socket, kept] = [await greet(gate, asPublic), await greet(gate, asPublic)]
    expect([shown(socket), await reasonOver(socket)]).toEqual([first.serial, 'service-unknown'])
    const foreign = await issue(publicCa, UID, 'agent')
    expect(await reasonOver(await greet(gate, { ...asPublic, cert: foreign.cert, key: foreign.key }))).toBe('certificate-invalid')
    // Whoever asks for the gateway's own name, or none, gets the certificate of the EMS.
    expect(shown(await greet(gate))).not.toBe(first.serial)
    const second = await files(gate, publicCa, 'SPGW00000000AAAA', 'one')
    clock.advance(10_000)
    await until(async () => shown(await greet(gate, asPublic)) === second.serial)
    expect([await reasonOver(before), await reasonOver(kept)]).toEqual(['service-unknown', 'service-unknown'])
    // A pair that does not fit changes nothing.
    writeFileSync(join(gate.directory, 'one.key'), (await issue(publicCa, 'SPGW00000000BBBB', 'gateway')).key)
    clock.advance(10_000)
    expect(shown(await greet(gate, asPublic))).toBe(second.serial)
  })

  it('resumes TLS sessions, over other certificates of its own too, until the keys of tickets are rotated', async () => {
    const clock = heldClock(Date.now())
    const gate = await startGate(policies(1), clock)
    const ticketOf = async (session?: Buffer) => {
      const socket = await greet(gate, session === undefined ? {} : { session })
      await reasonOver(socket)
      return { resumed: socket.isSessionReused(), ticket: tickets.get(socket) ?? session }
    }
    const first = await ticketOf()
    const own = await issue(gate.authority, GATEWAY, 'gateway')
    gate.proxy.updateIdentity({ certPem: own.cert, keyPem: own.key })
    gate.proxy.updateAuthorities()
    const second = await ticketOf(first.ticket)
    clock.advance(3_600_000)
    const third = await ticketOf(second.ticket)
    expect([first.resumed, second.resumed, third.resumed]).toEqual([false, true, false])
    const text = await gate.metrics.text()
    expect(text).toContain('sallyport_tls_handshakes_total{kind="full"} 2')
    expect(text).toContain('sallyport_tls_handshakes_total{kind="resumed"} 1')
  })

  it('keeps open sessions through another certificate, other files and other policies', async () => {
    const echo = await startEcho()
    later(echo.close)
    const gate = await startGate(policies(echo.port))
    const { stream } = await connectTo(openHttp2(gate, gate.agent), `127.0.0.1:${echo.port}`)
    const echoes = async (text: string) => {
      const read = readUntil(stream, text)
      stream.write(text)
      await read
    }
    await echoes('one')
    const own = await issue(gate.authority, GATEWAY, 'gateway')
    gate.proxy.updateIdentity({ certPem: own.cert, keyPem: own.key })
    gate.putPolicies(policies(echo.port, '{minimumTls: "1.2"}', ', {name: more, protocol: tcp, match: [more.test], ports: [1]}'))
    await echoes('two')
    expect(shown(await greet(gate))).toBe(own.serial)
  })
})

describe('a gate that is stopped', () => {
  it('takes no more, lets open sessions end, and is done when they have', async () => {
    const echo = await startEcho()
    later(echo.close)
    const gate = await startGate(policies(echo.port))
    const session = openHttp2(gate, gate.agent)
    const { stream } = await connectTo(session, `127.0.0.1:${echo.port}`)
    const goaway = once(session, 'goaway')
    let drained = false
    const draining = gate.proxy.drain(60_000).then(() => {
      drained = true
    })
    await goaway
    await expect(greet(gate)).rejects.toThrow(/ECONNREFUSED/)
    const read = readUntil(stream, 'still')
    stream.write('still')
    await read
    expect(drained).toBe(false)
    stream.end()
    await readUntil(stream, 'bye')
    await draining
  })

  it('cuts what has not ended in time, with the reason', async () => {
    const clock = heldClock(Date.now())
    const echo = await startEcho()
    later(echo.close)
    const gate = await startGate(policies(echo.port), clock)
    const { stream } = await connectTo(openHttp2(gate, gate.agent), `127.0.0.1:${echo.port}`)
    const draining = gate.proxy.drain(10_000)
    const trailers = once(stream, 'trailers')
    clock.advance(10_000)
    await draining
    const [told] = await trailers as [Record<string, string>]
    expect(JSON.parse(decodeURIComponent(told['sallyport-denial'] ?? ''))).toMatchObject({ reason: 'gateway-stopping', code: '022' })
    await until(() => echo.sockets.size === 0)
  })

  it('finishes an answer that has begun, over HTTP/1.1 too', async () => {
    const begun = Promise.withResolvers<void>()
    const finish = Promise.withResolvers<void>()
    const upstream = createServer((_request, response) => {
      response.write('begun ')
      begun.resolve()
      void finish.promise.then(() => response.end('done'))
    })
    later(() => upstream.close())
    const gate = await startGate(policies(await listen(upstream)))
    const socket = await openHttp1(gate, gate.agent)
    const read = readUntil(socket, 'done')
    socket.write('GET / HTTP/1.1\r\nHost: web.test\r\n\r\n')
    const { stream } = await ask(openHttp2(gate, gate.agent), { ':method': 'GET', ':path': '/', ':authority': 'web.test', ':scheme': 'https' })
    const other = readUntil(stream, 'done')
    await begun.promise
    const draining = gate.proxy.drain(60_000)
    finish.resolve()
    await Promise.all([read, other, draining])
  })
})
