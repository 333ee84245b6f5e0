// Real packets through a real packet filter: a laptop, a gateway that routes, a server, each in a network namespace, and the gateway as users run it.
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { gatewayTlsName } from '../../../protocol/certificates.ts'
import { SERIAL } from '../fabric/ems-double.ts'
import { slowness } from '../../pace.ts'
import { until } from '../fabric/follower-under-test.ts'
import { kernelSet, LAPTOP, makeNamespaces, SERVER, SPARE_MAC, whyNoNamespaces, type Namespaces } from './namespaces.ts'
import { end, endAll, gatewayProgram, knockFromLaptop, pollFromLaptop, SIGHT_SECONDS, startEcho, startEms, startTalk, type EmsProcess, type GatewayProcess } from './processes.ts'

let spaces: Namespaces
let ems: EmsProcess
let program: Awaited<ReturnType<typeof gatewayProgram>>
let gateway: GatewayProcess

const truth = { ip: LAPTOP.ip4, ip_list: [LAPTOP.ip4, LAPTOP.ip6], mac: LAPTOP.mac, mac_list: [LAPTOP.mac] }
const pings = (address: string) => spaces.inside(spaces.laptop, 'ping', '-c1', '-W0.3', address).then(() => true, () => false)
const passes = (address: string) => until(`a way to ${address}`, () => pings(address))
const set = (family: string) => kernelSet(spaces, `${family}_healthy`)

beforeAll(async () => {
  if (whyNoNamespaces !== null) return
  spaces = await makeNamespaces()
  await startEcho(spaces)
  ems = await startEms(spaces)
  ems.say({ claims: truth })
  program = await gatewayProgram(spaces, ems)
  gateway = await program.run()
  const { stdout } = await promisify(execFile)(process.execPath, ['gateway/main.ts', 'firewall', 'template', '--tag', 'healthy'])
  const file = join(program.state, 'access.nft')
  await writeFile(file, stdout.replace('10.0.0.0/24', '10.9.2.0/24').replace('fd00::/64', 'fd09:2::/64'))
  await spaces.inside(spaces.gateway, 'nft', '-f', file)
  await spaces.inside(spaces.gateway, 'nft', '-f', file)
})
afterAll(async () => {
  if (whyNoNamespaces !== null) return
  await endAll()
  await program.remove()
  await spaces.remove()
})

describe.skipIf(whyNoNamespaces !== null)(`packets through a gateway${whyNoNamespaces === null ? '' : ` (${whyNoNamespaces})`}`, () => {
  it('pass from a laptop that bears the tag and is seen, over IPv4, IPv6 and TCP', async () => {
    await passes(SERVER.ip4)
    await passes(SERVER.ip6)
    expect(await set('ip4')).toEqual([LAPTOP.ip4])
    expect(await set('ip6')).toEqual([LAPTOP.ip6])
    expect(await set('mac')).toEqual([LAPTOP.mac])
    expect((await spaces.inside(spaces.gateway, 'nft', 'list', 'chain', 'inet', 'sallyport', 'access')).match(/ip saddr @ip4_healthy/g)).toHaveLength(1)
  })

  it('pass from what a firewall beside the gateway polls as well', async () => {
    const { stdout } = await promisify(execFile)(process.execPath, ['gateway/main.ts', 'lists', 'token', 'create', 'edge', '--state', program.state])
    const polled = await pollFromLaptop(spaces, ems, program.state, gatewayTlsName(SERIAL), '/lists/tags/healthy?comments=no', stdout.trim())
    expect(polled).toBe(`${LAPTOP.ip4}\n${LAPTOP.ip6}\n`)
  })

  it('are dropped within a second after the tag has gone, in the middle of a TCP connection, and pass again with it', async () => {
    const talk = await startTalk(spaces, SERVER.ip4)
    ems.say({ tagged: false })
    const saidAt = Date.now()
    await until('an empty set', async () => (await set('ip4'))?.length === 0)
    await until('silence', () => Date.now() - talk.heardAt() > 500)
    const tookMs = talk.heardAt() - saidAt
    expect(tookMs).toBeLessThan(1_000 * await slowness())
    expect(await set('ip4')).toEqual([])
    expect(await pings(SERVER.ip4)).toBe(false)
    ems.say({ tagged: true })
    await passes(SERVER.ip4)
    const before = talk.heardAt()
    await until('the connection to go on', () => talk.heardAt() > before)
    await end(talk.child, 'SIGKILL')
  })

  it('are dropped when the address is claimed but the gateway has not seen it', async () => {
    ems.say({ claims: { ...truth, ip: '10.9.1.50', ip_list: ['10.9.1.50'] } })
    await until('empty sets', async () => (await set('ip4'))?.length === 0 && (await set('mac'))?.length === 0)
    expect(await pings(SERVER.ip4)).toBe(false)
    ems.say({ claims: truth })
    await passes(SERVER.ip4)
  })

  it('are dropped when another MAC answers at the address', async () => {
    const wear = (mac: string) => spaces.inside(spaces.laptop, 'ip', 'link', 'set', 'eth0', 'address', mac)
    await wear(SPARE_MAC)
    await until('the packet filter to notice', async () => !await pings(SERVER.ip4) && (await set('ip4'))?.length === 0)
    // The pair of the IPv6 address is asked for, and nobody answers.
    await until('the MAC to go', async () => (await set('mac'))?.length === 0)
    await wear(LAPTOP.mac)
    await passes(SERVER.ip4)
  })

  it('pass from where a device proved itself to the proxy, though its MAC is not known', async () => {
    ems.say({ claims: { ...truth, mac: '', mac_list: [] } })
    await until('empty sets', async () => (await set('ip4'))?.length === 0)
    expect(await knockFromLaptop(spaces, ems, program.state, gatewayTlsName(SERIAL))).toMatch(/^HTTP\/1\.1 \d/)
    await passes(SERVER.ip4)
    expect(await set('mac')).toEqual([])
    ems.say({ claims: truth })
    await passes(SERVER.ip4)
  })

  it('find the sets right after kill -9 and restart, whatever happened meanwhile', async () => {
    await end(gateway.child, 'SIGKILL')
    expect(await set('ip4')).toEqual([LAPTOP.ip4])
    // Only the EMS of the test is left there: what watched for the gateway has ended with it.
    await until('its watchers to end', async () => (await promisify(execFile)('ip', ['netns', 'pids', spaces.gateway])).stdout.trim().split('\n').length === 1)
    ems.say({ tagged: false })
    await spaces.inside(spaces.gateway, 'nft', 'add', 'element', 'inet', 'sallyport', 'ip4_healthy', '{ 10.9.1.66 }')
    gateway = await program.run()
    await until('sets without the laptop and the stranger', async () => (await set('ip4'))?.length === 0)
    expect(await pings(SERVER.ip4)).toBe(false)
    ems.say({ tagged: true })
    await passes(SERVER.ip4)
  })

  it('stay out of sets whose gateway died: the kernel lets elements end', async () => {
    const listed = await spaces.inside(spaces.gateway, 'nft', '-j', 'list', 'set', 'inet', 'sallyport', 'ip4_healthy')
    const seconds = Number(/"expires": (\d+)/.exec(listed)?.[1])
    expect(seconds).toBeLessThanOrEqual(SIGHT_SECONDS)
  })

  it('find no address of a laptop that has left without a word', async () => {
    await spaces.inside(spaces.laptop, 'ip', 'addr', 'flush', 'dev', 'eth0')
    await until('empty sets', async () => (await set('ip4'))?.length === 0 && (await set('ip6'))?.length === 0 && (await set('mac'))?.length === 0)
  })
})
