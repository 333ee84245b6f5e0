// A real EMS, a real gateway with an HTTPS service behind it, and homes of users with browsers, all in one directory.
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { enrolAgent } from '../../../agent/enrol.ts'
import { startGateway, type Gateway } from '../../../gateway/start.ts'
import { createControlClient, type ControlClient } from '../../../node/control-client.ts'
import { silentLog } from '../../../node/logging.ts'
import * as administration from '../../../protocol/operations/admin.ts'
import { profileSettings } from '../../../protocol/profile.ts'
import { startEms, type LocalEms } from '../../../start/ems.ts'

export const run = promisify(execFile)
export const log = silentLog()
/** What Debian's libnss3-tools bring. */
export const hasNssTools = ['/usr/bin/certutil', '/usr/bin/pk12util'].every((path) => existsSync(path))
export const isRoot = process.getuid?.() === 0
/** The certificate that local services have is for `*.sallyport.localhost`, a name that is this machine to every browser. */
export const HOST = 'intranet.sallyport.localhost'
export const SECRET = 'the protected page'

export interface Scene {
  readonly directory: string
  readonly ems: LocalEms
  readonly gateway: Gateway
  readonly administrator: ControlClient
  /** The file that stands for "protection is on". */
  readonly marker: string
  readonly url: string
  setServices(services: readonly string[]): Promise<void>
  /** Enrols this machine; resolves with the UID. */
  enrol(stateDirectory: string, ownerUid?: number): Promise<string>
  newHome(ownerUid?: number): Promise<string>
  close(): Promise<void>
}

/** @param services names for which browsers select the certificate */
export async function startScene(services: readonly string[]): Promise<Scene> {
  const directory = await mkdtemp(join(tmpdir(), 'browsers-'))
  await chmod(directory, 0o711)
  const closing: (() => Promise<unknown>)[] = [() => rm(directory, { recursive: true, force: true, maxRetries: 10 })]
  const ems = await startEms({ directory: join(directory, 'ems') })
  closing.push(() => ems.close())
  const administrator = createControlClient({ ems: ems.address, token: ems.adminToken, tlsCa: [ems.tlsCaPem], now: Date.now, log })
  closing.push(() => administrator.close())
  const web = createServer((request, response) => response.setHeader('content-type', 'text/html').end(`<!doctype html><p id=device>${SECRET} ${String(request.headers['sallyport-device-id'])}`))
  await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve))
  closing.push(() => new Promise<void>((resolve) => {
    web.close(() => resolve())
    web.closeAllConnections()
  }))

  const policies = join(directory, 'policies.yaml')
  await writeFile(join(directory, 'service.pem'), ems.serviceTls.certificatePem)
  await writeFile(join(directory, 'service.key'), ems.serviceTls.privateKeyPem, { mode: 0o600 })
  await writeFile(join(directory, 'administrators-root.pem'), ems.tlsCaPem)
  await writeFile(policies, `
listener: {certificates: [{certificateFile: service.pem, keyFile: service.key}]}
services: [{name: intranet, protocol: https, match: [${HOST}], upstream: 'http://127.0.0.1:${(web.address() as AddressInfo).port}'}]
policies: [{name: staff, services: [intranet], tags: {all: [protected]}, action: allow}]
`)
  const current = Promise.withResolvers<void>()
  const gateway = await startGateway({
    stateDirectory: join(directory, 'gateway'), policiesFile: policies, listen: { host: '127.0.0.1', port: 0 }, metricsPort: 0, tlsCa: [ems.tlsCaPem], now: Date.now, log,
    joinCode: (await administrator.call(administration.createJoinCode, { body: { name: 'gate' } })).text, onEvent: ({ event }) => { if (event === 'current') current.resolve() },
  })
  closing.push(() => gateway.close())
  await current.promise

  const marker = join(directory, 'protection-is-on')
  await writeFile(marker, 'on')
  await administrator.call(administration.createRuleSet, { body: { name: 'protected', tag: 'protected', message: 'Switch protection on.', rules: { linux: { conditions: [{ type: 'file', path: marker }] } } } })
  const settingsOf = (named: readonly string[]) => profileSettings.parse({ proxy: { httpPort: 0, socksPort: 0 }, browserServices: named })
  const { id } = await administrator.call(administration.createProfile, { body: { name: 'default', settings: settingsOf(services) } })
  await administrator.call(administration.createPolicy, { body: { name: 'everybody', position: 0, profileId: id } })
  let homes = 0
  return {
    directory, ems, gateway, administrator, marker, url: `https://${HOST}:${gateway.port}/`,
    async setServices(named) {
      await administrator.call(administration.replaceProfile, { params: { id }, body: { name: 'default', settings: settingsOf(named) } })
    },
    async enrol(stateDirectory, ownerUid = process.getuid?.() ?? 0) {
      const { text } = await administrator.call(administration.createInvitation, { body: { name: 'laptop' } })
      return (await enrolAgent({ invitation: text, stateDirectory, tlsCa: [ems.tlsCaPem], ownerUid, now: Date.now, log })).uid
    },
    async newHome(ownerUid) {
      const home = join(directory, `home-${homes++}`)
      await mkdir(home, { mode: 0o700 })
      if (ownerUid !== undefined) await chown(home, ownerUid, ownerUid)
      return home
    },
    async close() {
      for (const each of closing.reverse()) await each()
    },
  }
}

/** An administrator's own root in a user's database: what is not ours must be left alone. */
export async function addRoot(scene: Scene, database: string): Promise<void> {
  await mkdir(database, { recursive: true })
  await run('certutil', ['-N', '-d', `sql:${database}`, '--empty-password'])
  await run('certutil', ['-A', '-d', `sql:${database}`, '-n', 'Administrator root', '-t', 'C,,', '-i', join(scene.directory, 'administrators-root.pem')])
}

/** Names and trust of what a database holds, like `Administrator root C,,`. */
export async function listed(database: string): Promise<string[]> {
  const { stdout } = await run('certutil', ['-L', '-d', `sql:${database}`])
  return stdout.split('\n').map((line) => line.trim().replaceAll(/\s+/g, ' ')).filter((line) => /[a-zA-Z]*,[a-zA-Z]*,[a-zA-Z]*$/.test(line) && !line.startsWith('SSL,')).sort()
}
