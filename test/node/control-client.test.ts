// The control client against a real HTTPS server: what it signs verifies, faults come out as faults, and its clock is learned only where TLS verified.
import { once } from 'node:events'
import { afterEach, describe, expect, it } from 'vitest'
import { createAuthority, issueCertificate } from '../../identity/authority.ts'
import { trustAuthority } from '../../identity/certificate.ts'
import { exportPublicKey, generateKey } from '../../identity/keys.ts'
import { verifyRequest } from '../../identity/request-signature.ts'
import { createControlClient, type ControlClient, type ControlClientOptions, type Identity } from '../../node/control-client.ts'
import { silentLog } from '../../node/logging.ts'
import { channel, ownTags, renew } from '../../protocol/operations/endpoint.ts'
import { health } from '../../protocol/operations/public.ts'
import { listTags } from '../../protocol/operations/admin.ts'
import { httpsServer, type Answer, type Seen, type TestServer, type TlsWanted } from './https-server.ts'

const uid = '0123456789abcdef0123456789abcdef'
const DAY = 86_400_000
const healthy = { ok: true, emsTime: 1 }
const fault = (code: string, status: number, extras: object = {}): Answer =>
  ({ status, body: { type: `urn:sallyport:fault:${code}`, title: 'No', status, code, detail: 'Because.', ...extras } })

describe('the control client', () => {
  const closing: (() => Promise<void>)[] = []
  afterEach(async () => {
    for (const close of closing.splice(0)) await close()
  })
  const serve = async (answer: (request: Seen) => Answer | Promise<Answer>, tls?: TlsWanted): Promise<TestServer> => {
    const server = await httpsServer(answer, tls)
    closing.push(server.close)
    return server
  }
  const clientOf = (server: TestServer, options: Partial<ControlClientOptions> = {}): ControlClient => {
    const client = createControlClient({ ems: server.origin, tlsCa: [server.tlsCaPem], now: Date.now, log: silentLog(), timeoutMs: 30_000, ...options })
    closing.unshift(client.close)
    return client
  }
  const identify = async () => {
    const authority = await createAuthority({ name: 'EMS', now: Date.now() - DAY })
    const keys = await generateKey()
    const { der } = await issueCertificate({ authority, publicKeySpki: await exportPublicKey(keys.publicKey), purpose: 'agent', commonName: uid, now: Date.now() })
    const identity: Identity = { privateKey: keys.privateKey, certificateDer: der }
    const trusted = await trustAuthority(authority.certificatePem)
    const verify = (seen: Seen, now = Date.now()) => verifyRequest({ ...seen, now, authorities: [trusted], purposes: ['agent'] })
    return { identity, verify }
  }

  it('signs what it sends: the server finds the UID, over method, address, query and body', async () => {
    const { identity, verify } = await identify()
    const server = await serve(() => fault('busy', 503))
    const client = clientOf(server, { identity: () => identity })
    await expect(client.call(renew, { body: { csr: '-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n' } })).rejects.toMatchObject({ code: 'busy' })
    await expect(client.call(ownTags)).rejects.toMatchObject({ code: 'busy' })
    const verdicts = await Promise.all(server.seen.map((seen) => verify(seen)))
    expect(verdicts.map((verdict) => verdict.ok && verdict.caller.commonName)).toEqual([uid, uid])
    expect(server.seen[0]?.body.length).toBeGreaterThan(0)
  })

  it('sends no signature where there is no identity, and the token where there is one', async () => {
    const server = await serve(() => ({ body: healthy }))
    expect(await clientOf(server, { token: 'secret' }).call(health)).toEqual(healthy)
    expect(server.seen[0]?.headers.get('signature')).toBeNull()
    expect(server.seen[0]?.headers.get('authorization')).toBe('Bearer secret')
  })

  it('fills the query and leaves out what was not given', async () => {
    const server = await serve(() => fault('not_found', 404))
    await expect(clientOf(server).call(listTags, { query: { after: undefined } })).rejects.toMatchObject({ code: 'not_found' })
    expect(server.seen[0]?.url).toBe(`${server.origin}${listTags.path}`)
  })

  it('throws the fault of the EMS with what the EMS added to it', async () => {
    const server = await serve(() => fault('stale_sequence', 409, { sequence: 7 }))
    await expect(clientOf(server).call(ownTags)).rejects.toMatchObject({ code: 'stale_sequence', message: 'Because.', extras: { sequence: 7 } })
  })

  it.each([
    ['something that is no JSON', { body: '<html>' }, 'internal'],
    ['another shape', { body: { ok: false } }, 'internal'],
    ['a redirection', { status: 302, body: '' }, 'internal'],
    ['a gateway error of a proxy in between', { status: 502, body: '<html>' }, 'busy'],
    ['too many requests', { status: 429, body: '' }, 'busy'],
  ])('does not take %s for an answer', async (_, answer, code) => {
    await expect(clientOf(await serve(() => answer)).call(health)).rejects.toMatchObject({ code })
  })

  it('says busy when nobody listens', async () => {
    const server = await serve(() => ({ body: healthy }))
    const client = clientOf(server)
    await server.close()
    await expect(client.call(health)).rejects.toMatchObject({ code: 'busy' })
  })

  it('learns the clock of the EMS once and signs by it from then on', async () => {
    const { identity, verify } = await identify()
    const server = await serve(async (seen) => {
      const verdict = await verify(seen)
      return verdict.ok ? { body: healthy } : fault(verdict.code, 401, { emsTime: Date.now() })
    })
    const client = clientOf(server, { identity: () => identity, now: () => Date.now() - 3 * DAY })
    expect(await client.call(health)).toEqual(healthy)
    expect(Math.abs(client.offset() - 3 * DAY)).toBeLessThan(60_000)
    expect(await client.call(health)).toEqual(healthy)
    expect(server.seen).toHaveLength(3)
  })

  it('tries only once more when the clock does not help', async () => {
    const server = await serve(() => fault('clock_skew', 401, { emsTime: Date.now() + DAY }))
    await expect(clientOf(server).call(health)).rejects.toMatchObject({ code: 'clock_skew' })
    expect(server.seen).toHaveLength(2)
  })

  describe('with a TLS certificate that is', () => {
    const wrongName: TlsWanted = { dnsNames: ['elsewhere.test'] }
    const ended: TlsWanted = { issuedAt: Date.now() - 60 * DAY }
    it.each([['of another name', wrongName], ['out of date', ended]])('%s: refuses unless told, warns where told, and goes on', async (_, tls) => {
      const server = await serve(() => ({ body: healthy }), tls)
      await expect(clientOf(server).call(health)).rejects.toMatchObject({ code: 'busy' })
      expect(server.seen).toHaveLength(0)
      const warned: unknown[] = []
      const log = silentLog()
      log.warn = (line: unknown) => { warned.push(line) }
      expect(await clientOf(server, { invalidCertificateAction: 'warn', log }).call(health)).toEqual(healthy)
      expect(warned).toMatchObject([{ event: 'ems-certificate-forgiven' }])
      expect(await clientOf(server, { invalidCertificateAction: 'allow', log }).call(health)).toEqual(healthy)
      expect(warned).toHaveLength(1)
    })

    it.each([
      ['of a foreign CA', {}, 'Stranger'],
      ['of a foreign CA and of another name', wrongName, 'Stranger'],
      ['of a foreign CA and out of date', ended, 'Stranger'],
      ['of a foreign CA that bears the name of ours, and out of date', ended, 'Ours'],
    ])('%s: refuses whatever it is told', async (_, tls, name) => {
      const before = Date.now() - 100 * DAY
      const server = await serve(() => ({ body: healthy }), { ...tls, authority: await createAuthority({ name, now: before }) })
      const tlsCa = [(await createAuthority({ name: 'Ours', now: before })).certificatePem]
      for (const invalidCertificateAction of ['deny', 'warn', 'allow'] as const) {
        await expect(clientOf(server, { invalidCertificateAction, tlsCa }).call(health)).rejects.toMatchObject({ code: 'busy' })
        await expect(clientOf(server, { invalidCertificateAction, tlsCa: [] }).call(health)).rejects.toMatchObject({ code: 'busy' })
      }
      expect(server.seen).toHaveLength(0)
    })

    it('forgiven: its clock is not believed', async () => {
      const server = await serve(() => fault('clock_skew', 401, { emsTime: Date.now() + DAY }), wrongName)
      const client = clientOf(server, { invalidCertificateAction: 'allow' })
      await expect(client.call(health)).rejects.toMatchObject({ code: 'clock_skew' })
      await expect(client.call(health)).rejects.toMatchObject({ code: 'clock_skew' })
      expect(client.offset()).toBe(0)
      expect(server.seen).toHaveLength(2)
    })
  })

  it('opens a websocket with a signed upgrade and its subprotocol', async () => {
    const { identity, verify } = await identify()
    const server = await serve(() => ({ body: healthy }))
    const socket = await clientOf(server, { identity: () => identity }).openSocket(channel, 'sallyport-test')
    const [{ upgrade }] = await Promise.all([server.opened, once(socket, 'open')])
    expect((await verify(upgrade)).ok).toBe(true)
    expect(upgrade.headers.get('sec-websocket-protocol')).toBe('sallyport-test')
    socket.terminate()
  })

  it('opens no websocket to a foreign server, even where names and dates are forgiven', async () => {
    const server = await serve(() => ({ body: healthy }), { issuedAt: Date.now() - 60 * DAY })
    const socket = await clientOf(server, { tlsCa: [], invalidCertificateAction: 'allow' }).openSocket(channel, 'sallyport-test')
    let opened = false
    socket.once('open', () => { opened = true })
    await once(socket, 'error')
    expect(opened).toBe(false)
  })
})
