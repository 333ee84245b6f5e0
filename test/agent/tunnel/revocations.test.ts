// Certificates of gateways that the EMS has revoked: no new connection, open ones cut, other gateways untouched, and what the status is told.
import { X509Certificate } from 'node:crypto'
import { afterEach, describe, expect, it } from 'vitest'
import { createRevocations } from '../../../agent/tunnel/revocations.ts'
import { relayTo, startGatewayDouble, type GatewayDouble } from './gateway-double.ts'
import { certificates, closeAll, connectThrough, eventually, rawClient, serial, serveTcp, startScene, type Scene } from './tunnel-under-test.ts'

const doubles: GatewayDouble[] = []
afterEach(async () => {
  await closeAll()
  await Promise.all(doubles.splice(0).map((double) => double.close()))
})
const other = 'SPGWBBBBBBBBBBBB'
const serialOf = (pem: string) => new X509Certificate(pem).serialNumber.padStart(40, '0')

function listed() {
  let list: readonly string[] = []
  const listeners = new Set<() => void>()
  const met: string[] = []
  const revocations = createRevocations({
    list: () => list, onMet: (gateways) => met.push(gateways.join()),
    onList: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
  })
  const publish = (...serials: string[]) => {
    list = serials
    for (const listener of listeners) listener()
  }
  return { revocations, publish, met }
}

async function refused(scene: Scene, target: string): Promise<string> {
  const client = await rawClient(scene.tunnel.httpPort)
  client.socket.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`)
  await client.closed
  return client.received().toString()
}

describe('a revoked certificate of a gateway', () => {
  it('cuts what is open through it at once and opens nothing new, while another gateway goes on', async () => {
    const port = await serveTcp((socket) => socket.pipe(socket))
    const { revocations, publish, met } = listed()
    let clock = 0
    const scene = await startScene({ handle: relayTo(() => port), options: { revocations, now: () => clock } })
    const second = await startGatewayDouble(certificates.authority.gateway(other), certificates.authority.pem, relayTo(() => port))
    doubles.push(second)
    scene.change({
      gateways: [...scene.settings.gateways, { serial: other, host: '127.0.0.1', port: second.port }],
      destinations: [...scene.settings.destinations, { match: '*.other.test', ports: [22], gateway: other }],
    })
    const [through, beside] = [await connectThrough(scene, 'a.corp.test:22'), await connectThrough(scene, 'a.other.test:22')]
    publish('0'.repeat(40))
    through.socket.write('before')
    await eventually(() => through.body() === 'before')

    const void_ = serialOf(certificates.gateway.certificatePem)
    publish(void_)
    await through.closed
    await eventually(() => scene.gateway.sessions.size === 0)
    beside.socket.write('after')
    await eventually(() => beside.body() === 'after')
    clock += 10_000
    expect(await refused(scene, 'a.corp.test:22')).toMatch(/^HTTP\/1\.1 502[^]*the EMS has revoked its certificate/)
    expect(scene.gateway.authorities).toEqual(['a.corp.test:22'])
    expect(met.at(-1)).toBe(serial)

    // Authorised anew, it has another certificate; the list still names the one before.
    await scene.gateway.close()
    doubles.push(await startGatewayDouble(certificates.authority.gateway(serial), certificates.authority.pem, relayTo(() => port), scene.gateway.port))
    clock += 10_000
    const again = await connectThrough(scene, 'a.corp.test:22')
    again.socket.write('again')
    await eventually(() => again.body() === 'again')
    expect(met.at(-1)).toBe('')
    expect(beside.socket.destroyed).toBe(false)
  })

  it('is told of in the status until it ends on the list', () => {
    const { revocations, publish, met } = listed()
    // OpenSSL tells a serial that begins with a zero byte without it.
    publish(`00${'AB'.repeat(19)}`)
    expect([revocations.refuses(serial, 'ab'.repeat(19)), revocations.refuses(other, 'AC'.repeat(20))]).toEqual([true, false])
    expect(met).toEqual(['', serial])
    publish()
    expect([revocations.refuses(serial, 'AB'.repeat(19)), met.at(-1)]).toEqual([false, ''])
  })
})
