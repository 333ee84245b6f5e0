// A gateway's sights and the real EMS: an address bears a tag in the EMS's lists only while a gateway sees the device there.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import canonicalize from 'canonicalize'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { joinFabric } from '../../../gateway/fabric/join.ts'
import { startFirewall, type Firewall } from '../../../gateway/firewall/start.ts'
import { createMetrics } from '../../../gateway/metrics/metrics.ts'
import { systemTimers } from '../../../node/timers.ts'
import { copyBytes, fromPem, utf8 } from '../../../identity/encoding.ts'
import { generateKey, sha256Hex } from '../../../identity/keys.ts'
import { createCsr } from '../../../identity/request.ts'
import { createControlClient, type ControlClient, type Identity } from '../../../node/control-client.ts'
import { silentLog } from '../../../node/logging.ts'
import { INVITATION_PREFIX, JOIN_CODE_PREFIX, readInvitation } from '../../../protocol/invitation.ts'
import * as administration from '../../../protocol/operations/admin.ts'
import { report } from '../../../protocol/operations/endpoint.ts'
import * as fabric from '../../../protocol/operations/fabric.ts'
import { enrol } from '../../../protocol/operations/public.ts'
import { startEms, type LocalEms } from '../../../start/ems.ts'
import { until } from '../fabric/follower-under-test.ts'
import { holdWorld } from './held-world.ts'
import { LAPTOP, makeNamespaces, SPARE_MAC, whyNoNamespaces, type Namespaces } from './namespaces.ts'

const log = silentLog()

describe.skipIf(whyNoNamespaces !== null)(`what a gateway sees${whyNoNamespaces === null ? '' : ` (${whyNoNamespaces})`}`, () => {
  let ems: LocalEms
  let spaces: Namespaces
  let gateway: ControlClient
  let firewall: Firewall
  let directory: string
  let uid: string
  let serial: string
  const clients: ControlClient[] = []
  const client = (identity: Identity | null, token?: string): ControlClient => {
    const made = createControlClient({ ems: ems.address, tlsCa: [ems.tlsCaPem], identity: () => identity, token, now: Date.now, log })
    clients.push(made)
    return made
  }

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'sights-'))
    spaces = await makeNamespaces()
    ems = await startEms()
    const administrator = client(null, ems.adminToken)
    await administrator.call(administration.createRuleSet, { body: { name: 'modern', tag: 'modern', rules: { linux: { conditions: [{ type: 'os-version', comparator: '>=', version: '12' }] } } } })
    const invitation = readInvitation(INVITATION_PREFIX, (await administrator.call(administration.createInvitation, { body: { name: 'laptop' } })).text)
    const keys = await generateKey(true)
    const enrolled = await client(null).call(enrol, { body: { invitation: invitation?.code ?? '', csr: await createCsr(keys, 'laptop'), hostName: 'laptop', os: 'linux', agentVersion: '0.1.0', protocol: '7.0.0' } })
    uid = enrolled.uid
    const sections = {
      os: { type: 'linux' as const, name: 'Debian', version: '12.8', kernel: '6.1', architecture: 'x64' },
      network: { interfaces: [{ name: 'eth0', mac: LAPTOP.mac, addresses: [{ ip: LAPTOP.ip4, prefix: 24 }] }], defaultGateways: [], dnsServers: [] },
    }
    const hashes = { os: await sha256Hex(utf8(canonicalize(sections.os) ?? '')), network: await sha256Hex(utf8(canonicalize(sections.network) ?? '')) }
    await client({ privateKey: keys.privateKey, certificateDer: copyBytes(fromPem('CERTIFICATE', enrolled.certificate) ?? new Uint8Array()) }).call(report, { body: { sequence: 1, sections, hashes } })

    const code = readInvitation(JOIN_CODE_PREFIX, (await administrator.call(administration.createJoinCode, { body: { name: 'gate' } })).text)
    const membership = await joinFabric({
      directory, ems: ems.address, pin: code?.pin ?? '', code: code?.code ?? '', displayName: 'gate', tlsCa: [ems.tlsCaPem], timers: systemTimers, now: Date.now, log, onPending: () => {},
    })
    const { privateKey, certificate, stored } = membership.member()
    serial = stored.serial
    await administrator.call(administration.setGatewayFabric, { params: { serial }, body: { place: { networks: [], neighbours: true } } })
    gateway = client({ privateKey, certificateDer: certificate.der })
    firewall = await startFirewall({
      world: holdWorld(Date.now()), client: gateway, serial: stored.serial, commands: spaces.commands, filter: false, sightMs: 120_000, staleMs: 180_000, networks: () => [],
      metrics: createMetrics(), timers: systemTimers, now: Date.now, log,
    })
  })
  afterAll(async () => {
    if (whyNoNamespaces !== null) return
    await firewall.close()
    await Promise.all(clients.map((each) => each.close()))
    await ems.close()
    await spaces.remove()
    await rm(directory, { recursive: true })
  })

  const listed = async (): Promise<string[]> => {
    const { data } = await gateway.call(fabric.tags.get, { query: {} })
    return data.data.commands.filter(({ tag_properties: { name }, type }) => name === 'modern' && type === 'ipblock').flatMap(({ values }) => values)
  }
  const lists = (addresses: string[]) => until(`a list of ${JSON.stringify(addresses)}`, async () => JSON.stringify(await listed()) === JSON.stringify(addresses))
  const endpoint = () => client(null, ems.adminToken).call(administration.readEndpoint, { params: { uid } })
  const fromLaptop = () => until('an answer to a ping', () => spaces.inside(spaces.laptop, 'ping', '-c1', '-W0.3', '10.9.1.1').then(() => true, () => false))

  it('is told to the EMS, and only then does an address bear a tag there', async () => {
    expect(await listed()).toEqual([])
    await fromLaptop()
    await lists([LAPTOP.ip4])
  })

  it('puts the device on the fabric, for this gateway was marked: proved by its sight', async () => {
    await until('the device on the fabric', async () => (await endpoint()).onFabric)
    expect((await endpoint()).facts.fabric).toMatchObject({ provenance: 'proved', value: { on: true, checkedBy: serial, expiresAt: null } })
    expect((await gateway.call(fabric.sysinfo.get, { query: {} })).data.data[uid]?.onnet).toBe(true)
  })

  it('takes the address out again when another MAC answers there', async () => {
    await spaces.inside(spaces.laptop, 'ip', 'link', 'set', 'eth0', 'address', SPARE_MAC)
    await fromLaptop()
    await lists([])
  })

  it('counts as well when the device proved itself from its address', async () => {
    const close = firewall.proved({ status: 'proved', commonName: uid, serial: '0'.repeat(40), purpose: 'agent', notAfter: Date.now() + 60_000 }, LAPTOP.ip4)
    await lists([LAPTOP.ip4])
    close()
  })
})
