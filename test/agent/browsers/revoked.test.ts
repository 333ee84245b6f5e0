// A browser's certificate that an administrator revokes, in a real NSS database, with the real EMS: another one for another key takes its place, whether the agent runs or was away.
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readCertificate } from '../../../identity/certificate.ts'
import { startAgent, type AgentEvent, type RunningAgent } from '../../../agent/start.ts'
import * as administration from '../../../protocol/operations/admin.ts'
import { until } from '../../../start/steps.ts'
import { addRoot, hasNssTools, listed, log, run, startScene, type Scene } from './browser-scene.ts'

describe.skipIf(!hasNssTools)('a browser\'s certificate that was revoked (needs Debian\'s libnss3-tools)', () => {
  let scene: Scene
  let agent: RunningAgent
  let uid: string
  let database: string
  const events: AgentEvent[] = []
  const state = () => join(scene.directory, 'state')
  const held = async () => {
    const { stores } = JSON.parse(await readFile(join(state(), 'browsers.json'), 'utf8')) as { stores: { current: { keyId: string; certificatePem: string }; next: unknown }[] }
    const [store] = stores
    return { keyId: store?.current.keyId ?? '', serial: readCertificate(store?.current.certificatePem ?? '')?.serial ?? '', settled: store?.next === null }
  }
  const start = async () => {
    const home = join(scene.directory, 'home-0')
    agent = await startAgent({ stateDirectory: state(), root: join(scene.directory, 'root'), home, now: Date.now, log, onEvent: (event) => events.push(event), command: () => Promise.resolve(null) })
  }
  const revoke = (serial: string) => scene.administrator.call(administration.revokeCertificate, { params: { uid, serial }, body: {} })
  const good = async () => (await scene.administrator.call(administration.readEndpoint, { params: { uid } })).certificates.filter(({ purpose }) => purpose === 'browser').map(({ serial }) => serial)
  const replaced = (old: { serial: string }) => until('another certificate', async () => {
    const now = await held()
    return now.serial !== old.serial && now.settled ? now : null
  }, 60_000)
  async function onlyHolds({ keyId }: { keyId: string }, old: { keyId: string }): Promise<void> {
    expect(await listed(database)).toEqual(['Administrator root C,,', `Sallyport ${uid} u,u,u`])
    const keys = (await run('certutil', ['-K', '-d', `sql:${database}`, '-f', '/dev/null'])).stdout
    expect([keys.includes(keyId), keys.includes(old.keyId)]).toEqual([true, false])
  }

  beforeAll(async () => {
    scene = await startScene(['wiki.corp.test'])
    database = join(await scene.newHome(), '.pki/nssdb')
    await mkdir(join(scene.directory, 'root'))
    await addRoot(scene, database)
    uid = await scene.enrol(state())
    await start()
    await until('the certificate', async () => events.some(({ event }) => event === 'browser-certificate') && (await agent.status()).channel === 'open' ? true : null, 60_000)
  }, 600_000)
  afterAll(async () => {
    await agent?.close()
    await scene?.close()
  })

  it('is replaced at once, by one for another key, and the revoked key is given nothing any more', async () => {
    const old = await held()
    await revoke(old.serial)
    const now = await replaced(old)
    expect(now.keyId).not.toBe(old.keyId)
    await onlyHolds(now, old)
    expect(await good()).toEqual([now.serial])
    expect((await agent.status()).troubles).toEqual([])
  }, 600_000)

  it('is replaced by the next start when the agent was away', async () => {
    const old = await held()
    await agent.close()
    await revoke(old.serial)
    await start()
    const now = await replaced(old)
    await onlyHolds(now, old)
    expect(await good()).toEqual([now.serial])
  }, 600_000)

  it('is not mistaken for one that has just come: reports on the way replace nothing', async () => {
    const before = await held()
    for (let turn = 0; turn < 5; turn++) await agent.checkNow()
    await until('the reports', async () => ((await agent.status()).lastReportAt === null ? null : true))
    expect(await held()).toEqual(before)
  })
})
