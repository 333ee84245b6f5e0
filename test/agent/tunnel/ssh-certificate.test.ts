// Asking a gateway to certify a key: what it is told, and what becomes of answers that are none.
import type { ServerHttp2Stream } from 'node:http2'
import { json } from 'node:stream/consumers'
import { afterEach, describe, expect, it } from 'vitest'
import { until } from '../../../start/steps.ts'
import { manualTimers } from '../manual-timers.ts'
import { refuseWith, startGatewayDouble, type Handle } from './gateway-double.ts'
import { certificates, closeAll, startScene } from './tunnel-under-test.ts'

afterEach(closeAll)

const wanted = { host: 'Host.Corp.Test', port: 22, publicKey: `ssh-ed25519 ${'A'.repeat(68)}` }
const reply = { certificate: 'ssh-ed25519-cert-v01@openssh.com AAAA', principals: ['ada'], validUntil: 1_800_000_000_000, hostKeys: [] }
const issue: Handle = (stream) => {
  stream.respond({ ':status': 200, 'content-type': 'application/json' })
  stream.end(JSON.stringify(reply))
}
const denial = { decision: null, code: '066', reason: 'user-unverified', message: 'Nobody has signed in.', tags: [] }

describe('a certificate for an SSH session', () => {
  it('is asked for by the key and the place, in one spelling, and nothing else', async () => {
    const told: unknown[] = []
    const { tunnel, gateway } = await startScene({ handle: (stream, authority) => {
      void json(stream).then((body) => {
        told.push(body)
        issue(stream, authority)
      })
    } })
    expect(await tunnel.sshCertificate(wanted)).toEqual({ outcome: 'issued', reply })
    expect(told).toEqual([{ ...wanted, host: 'host.corp.test' }])
    expect(gateway.callers).toEqual(['first'])
    expect(tunnel.protects({ host: 'host.corp.test', port: 22 })).toBe(true)
  })

  it('is asked of nobody where no gateway leads', async () => {
    const { tunnel, gateway } = await startScene({ handle: issue })
    for (const host of ['example.com', '10.1.2.3', 'a b', '-oProxyCommand=x', '%h']) expect(await tunnel.sshCertificate({ ...wanted, host })).toEqual({ outcome: 'unprotected' })
    expect(gateway.authorities).toEqual([])
  })

  it('is refused in the gateway\'s words, which the status shows; where it gives none at all, that is no refusal', async () => {
    const { tunnel, gateway, denials } = await startScene({ handle: refuseWith(denial) })
    expect(await tunnel.sshCertificate(wanted)).toMatchObject({ outcome: 'refused', denial: { destination: 'host.corp.test:22', reason: 'user-unverified', message: 'Nobody has signed in.' } })
    expect(denials.map(({ reason }) => reason)).toEqual(['user-unverified'])
    gateway.handle = refuseWith({ ...denial, code: '041', reason: 'portal-error' }, 404)
    expect(await tunnel.sshCertificate(wanted)).toEqual({ outcome: 'none' })
    gateway.handle = refuseWith('not found', 404)
    expect(await tunnel.sshCertificate(wanted)).toEqual({ outcome: 'none' })
    expect(denials).toHaveLength(1)
  })

  it.each<[string, Handle]>([
    ['no JSON', (stream) => { stream.respond({ ':status': 200 }); stream.end('{') }], ['another shape', (stream) => { stream.respond({ ':status': 200 }); stream.end(JSON.stringify({ ...reply, principals: [] })) }],
    ['a host key that would be a line of its own', (stream) => { stream.respond({ ':status': 200 }); stream.end(JSON.stringify({ ...reply, hostKeys: ['ssh-ed25519 AAAA\n* ssh-ed25519 BBBB'] })) }],
    ['more than it may', (stream) => { stream.respond({ ':status': 200 }); stream.end(' '.repeat(300_000)) }], ['half of it', (stream) => { stream.respond({ ':status': 200 }); stream.write('{'); stream.close(2) }], ['nothing', (stream: ServerHttp2Stream) => { stream.close(2) }],
  ])('is none where the gateway answers %s', async (_what, handle) => {
    const { tunnel, gateway } = await startScene({ handle })
    expect(await tunnel.sshCertificate(wanted)).toMatchObject({ outcome: 'unreachable', message: expect.stringMatching(/host\.corp\.test:22 is protected by gateway SPGW0123456789AB/) as string })
    gateway.handle = issue
    expect(await tunnel.sshCertificate(wanted)).toMatchObject({ outcome: 'issued' })
  })

  it('is asked for once where the gateway stays silent: nobody waits for it twice', async () => {
    const timers = manualTimers()
    const { tunnel, gateway } = await startScene({ handle: () => {}, options: { timers } })
    const asked = tunnel.sshCertificate(wanted)
    await until('the question', () => Promise.resolve(gateway.authorities.length === 1 || null))
    await timers.advance(20_000)
    expect(await asked).toMatchObject({ outcome: 'unreachable', message: expect.stringContaining('did not answer within 20000 ms') as string })
    expect(gateway.authorities).toHaveLength(1)
  })

  it('comes from the next gateway where one can not judge, and from none where one has judged', async () => {
    const scene = await startScene({ handle: refuseWith({ ...denial, code: '067', reason: 'snapshot-stale' }, 503) })
    const other = 'SPGW0123456789AC'
    const second = await startGatewayDouble(certificates.authority.gateway(other), certificates.authority.pem, issue)
    scene.change({ gateways: [...scene.settings.gateways, { serial: other, host: '127.0.0.1', port: second.port }], destinations: scene.settings.destinations.map((each) => ({ ...each, fallbacks: [other] })) })
    expect(await scene.tunnel.sshCertificate(wanted)).toMatchObject({ outcome: 'issued' })
    scene.gateway.handle = refuseWith(denial)
    second.handle = refuseWith(denial)
    const before = second.authorities.length + scene.gateway.authorities.length
    expect(await scene.tunnel.sshCertificate(wanted)).toMatchObject({ outcome: 'refused' })
    expect(second.authorities.length + scene.gateway.authorities.length).toBe(before + 1)
    await second.close()
  })
})
