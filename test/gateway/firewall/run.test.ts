// The room inside a whole gateway: lists served with its own certificate or with files, renewed while it runs, refused to start when a part can't.
import { execFileSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { connect } from 'node:tls'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { FirewallSettings } from '../../../gateway/firewall/command-line.ts'
import { createToken } from '../../../gateway/firewall/list-tokens.ts'
import { systemTimers, type Timers } from '../../../node/timers.ts'
import { startGateway, type Gateway } from '../../../gateway/start.ts'
import { gatewayTlsName } from '../../../protocol/certificates.ts'
import { JOIN_CODE_PREFIX, writeInvitation } from '../../../protocol/invitation.ts'
import { localTls } from '../../../start/local-tls.ts'
import { HEALTHY, mark, SERIAL, startEmsDouble, type EmsDouble } from '../fabric/ems-double.ts'
import { readableLog, until } from '../fabric/follower-under-test.ts'
import { gatewayDirectory } from '../fabric/gateway-under-test.ts'

const whyNot: string | null = (() => {
  try {
    execFileSync('ip', ['neigh', 'show'], { stdio: 'ignore' })
    return null
  } catch {
    return 'needs iproute2' // the neighbour table is read with it
  }
})()

let ems: EmsDouble
let place: { stateDirectory: string; policiesFile: string }
let files: string
let gateway: Gateway | null = null
let logged: () => { event: string }[]

/** Files are looked at each minute; here a minute is short. */
const quick: Timers = { after: (delayMs, action) => systemTimers.after(delayMs === 60_000 ? 20 : delayMs, action) }
const listen = { host: '127.0.0.1', port: 0 }
const own: FirewallSettings = { filter: false, lists: { listen, files: null }, sightMs: 120_000, staleMs: 180_000 }
const paths = () => ({ certificate: join(files, 'cert.pem'), key: join(files, 'key.pem') })

async function putFiles(): Promise<string> {
  const tls = await localTls(await mkdtemp(join(files, 'tls-')), Date.now())
  await writeFile(paths().certificate, tls.certificatePem)
  await writeFile(paths().key, tls.privateKeyPem)
  return tls.caPem
}

async function start(firewall: FirewallSettings): Promise<Gateway> {
  const { log, events } = readableLog()
  logged = events
  gateway = await startGateway({
    ...place, listen, metricsPort: 0, tlsCa: [ems.tlsCa], now: Date.now, timers: quick, log, firewall, joinCode: writeInvitation(JOIN_CODE_PREFIX, { ems: ems.address, pin: ems.authority.pin, code: 'c'.repeat(43) }),
  })
  return gateway
}

/** Reads the heading of the list of healthy devices, over TLS that must verify. */
function poll(port: number, token: string, ca: string, servername: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, ca, servername }, () => socket.write(`GET /lists/tags/healthy HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nConnection: close\r\n\r\n`))
    let text = ''
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString()
    })
    socket.on('end', () => resolve(text))
    socket.on('error', reject)
  })
}

beforeEach(async () => {
  ems = await startEmsDouble()
  ems.hostTags = [{ tag_uid: HEALTHY, name: 'healthy', type: 1, description: '', detection_level: '' }]
  ems.onHello = (socket) => socket.tell({ type: 'current', revision: mark(1), at: Date.now() })
  place = await gatewayDirectory(1, 'healthy')
  files = await mkdtemp(join(tmpdir(), 'list-files-'))
})
afterEach(async () => {
  await gateway?.close()
  gateway = null
  await ems.stop()
  await rm(dirname(place.policiesFile), { recursive: true })
  await rm(files, { recursive: true })
})

describe.skipIf(whyNot !== null)(`a gateway that serves lists${whyNot === null ? '' : ` (${whyNot})`}`, () => {
  it('shows its own certificate', async () => {
    const { listsPort } = await start(own)
    const token = await createToken(place.stateDirectory, 'edge', Date.now()) ?? ''
    await until('a current list', async () => (await poll(listsPort ?? 0, token, ems.authority.certificatePem, gatewayTlsName(SERIAL))).includes(`# seen by gateway: ${SERIAL}\n# state: current`))
  })

  it('shows the certificate of files, and the new one when they are renewed; a broken one changes nothing', async () => {
    const first = await putFiles()
    const { listsPort } = await start({ ...own, lists: { listen, files: paths() } })
    const token = await createToken(place.stateDirectory, 'edge', Date.now()) ?? ''
    const answers = (ca: string) => poll(listsPort ?? 0, token, ca, 'localhost').then((text) => text.startsWith('HTTP/1.1 200'), () => false)
    expect(await answers(first)).toBe(true)
    await writeFile(paths().certificate, 'not a certificate')
    await until('the complaint', () => logged().some(({ event }) => event === 'list-certificate-unusable'))
    expect(await answers(first)).toBe(true)
    const second = await putFiles()
    await until('the new certificate', () => answers(second))
    expect(await answers(first)).toBe(false)
  })

  it('does not start when the files are missing or the port is taken, and leaves nothing behind', async () => {
    await expect(start({ ...own, lists: { listen, files: paths() } })).rejects.toThrow('ENOENT')
    const { listsPort } = await start(own)
    const taken = { host: '127.0.0.1', port: listsPort ?? 0 }
    await expect(startGateway({ ...place, listen, metricsPort: 0, tlsCa: [ems.tlsCa], now: Date.now, log: readableLog().log, firewall: { ...own, lists: { listen: taken, files: null } } })).rejects.toThrow('EADDRINUSE')
  })
})
