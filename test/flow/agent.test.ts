// The agent against the real EMS: real facts of this machine in, tags out, real changes noticed and reported, and everything let go at the end.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { enrolAgent } from '../../agent/enrol.ts'
import { agentStatus, askAgent, explanation } from '../../agent/local-status.ts'
import { saveUserSaid } from '../../agent/posture/user-said.ts'
import { startAgent, type AgentEvent, type AgentOptions, type RunningAgent } from '../../agent/start.ts'
import { createControlClient, type ControlClient } from '../../node/control-client.ts'
import { silentLog } from '../../node/logging.ts'
import * as administration from '../../protocol/operations/admin.ts'
import { profileSettings, type ProfileSettings } from '../../protocol/profile.ts'
import { startEms, type LocalEms } from '../../start/ems.ts'
import { until } from '../../start/steps.ts'

const log = silentLog()
const DAY = 86_400_000
const program = fileURLToPath(new URL('../../agent/main.ts', import.meta.url))

describe('an agent and its EMS', { timeout: 300_000 }, () => {
  let directory: string
  let ems: LocalEms
  let administrator: ControlClient
  let agent: RunningAgent
  let profileId: string
  const events: AgentEvent[] = []
  const children: ChildProcess[] = []
  const state = () => join(directory, 'state')
  const marker = () => join(directory, 'marker')
  const told = <E extends AgentEvent['event']>(name: E) => events.filter((event): event is Extract<AgentEvent, { event: E }> => event.event === name)
  const endpoint = async () => await administrator.call(administration.readEndpoint, { params: { uid: agent.uid } })
  const tagIs = (tag: string, wanted: string) => until(`${tag} ${wanted}`, async () => (await agent.status()).tags?.find((each) => each.tag === tag)?.state === wanted ? true : null)
  const happened = <T>(what: string, ask: () => T | null | undefined | false): Promise<T> => until(what, () => Promise.resolve(ask() || null), 150_000)
  const start = async (over: Partial<AgentOptions> = {}) => {
    events.length = 0
    agent = await startAgent({ stateDirectory: state(), now: Date.now, log, onEvent: (event) => events.push(event), ...over })
  }
  const setProfile = async (settings: Partial<ProfileSettings>) => {
    await administrator.call(administration.replaceProfile, { params: { id: profileId }, body: { name: 'default', settings: profileSettings.parse({ proxy: { httpPort: 0, socksPort: 0 }, ...settings }) } })
  }
  const enrol = async () => {
    const { text } = await administrator.call(administration.createInvitation, { body: { name: 'this machine' } })
    return await enrolAgent({ invitation: text, stateDirectory: state(), tlsCa: [ems.tlsCaPem], ownerUid: userInfo().uid, now: Date.now, log })
  }
  /** Addresses come and go, and tools that yield to all others answer when they can: what they tell is not what this test changes. */
  const ofTheirOwn = new Set<string>(['network', 'software', 'vulnerabilities', 'updates', 'security', 'antivirus', 'directory'])
  /** ms: what the looks of every minute find comes later. How fast the watch is, where no machine is busy, is held in posture/files and posture/processes. */
  const BY_THE_WATCH = 15_000
  /** ms from a change on the machine to the report that tells of it. */
  const detected = async (change: () => Promise<unknown>): Promise<number> => {
    const before = told('report-sent').length
    const changedAt = Date.now()
    await change()
    return (await happened('the report', () => told('report-sent').slice(before).find(({ sections }) => sections.includes('verdicts')))).sentAt - changedAt
  }

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'sallyport-agent-'))
    ems = await startEms({ directory: join(directory, 'ems') })
    administrator = createControlClient({ ems: ems.address, token: ems.adminToken, tlsCa: [ems.tlsCaPem], now: Date.now, log })
    await writeFile(marker(), 'here')
    const rules: [string, { type: string; [name: string]: unknown }][] = [['marked', { type: 'file', path: marker() }], ['guarded', { type: 'running-process', name: 'sallyport-test-guard' }], ['known', { type: 'os-version', comparator: '>=', version: '1' }]]
    for (const [tag, condition] of rules) await administrator.call(administration.createRuleSet, { body: { name: tag, tag, rules: { linux: { conditions: [condition] } } } })
    profileId = (await administrator.call(administration.createProfile, { body: { name: 'default', settings: profileSettings.parse({ proxy: { httpPort: 0, socksPort: 0 } }) } })).id
    await administrator.call(administration.createPolicy, { body: { name: 'everybody', position: 0, profileId } })
    await enrol()
    await start()
  })
  afterAll(async () => {
    await agent.close()
    for (const child of children) child.kill('SIGKILL')
    await administrator.close()
    await ems.close()
    await rm(directory, { recursive: true, force: true, maxRetries: 10 })
  })

  it('reports real facts of this machine and gets its tags', async () => {
    await Promise.all([tagIs('marked', 'present'), tagIs('guarded', 'absent')])
    const { facts, account } = await endpoint()
    expect(Object.keys(facts)).toEqual(expect.arrayContaining(['os', 'user', 'network', 'hardware', 'security', 'agent', 'verdicts']))
    expect((facts.os?.value as { type: string } | undefined)?.type).toBe('linux')
    expect(account).toBe(userInfo().username)
  })

  it('notices a watched file and a watched process by itself, and reports only what changed', async () => {
    expect(await detected(() => rm(marker()))).toBeLessThan(BY_THE_WATCH)
    await tagIs('marked', 'absent')
    expect(await detected(() => writeFile(marker(), 'back'))).toBeLessThan(BY_THE_WATCH)
    await tagIs('marked', 'present')
    await copyFile('/bin/sleep', join(directory, 'sallyport-test-guard'))
    let guard: ChildProcess | undefined
    expect(await detected(async () => {
      guard = spawn(join(directory, 'sallyport-test-guard'), ['600'])
      children.push(guard)
      await once(guard, 'spawn')
    })).toBeLessThan(BY_THE_WATCH)
    await tagIs('guarded', 'present')
    expect(await detected(() => Promise.resolve(guard?.kill('SIGKILL')))).toBeLessThan(BY_THE_WATCH)
    await tagIs('guarded', 'absent')
    const sent = told('report-sent').slice(-4).map(({ sections }) => sections.filter((section) => !ofTheirOwn.has(section)).join())
    expect(sent.filter((sections) => sections !== '' && sections !== 'verdicts')).toEqual([])
  })

  it('opens its channel, reports when it is asked to, and follows an edit of rules and profile without a restart', async () => {
    await until('the channel', async () => (await agent.status()).channel === 'open' ? true : null, 60_000)
    expect(await administrator.call(administration.checkNow, { params: { uid: agent.uid }, body: {} })).toEqual({ told: true })
    await administrator.call(administration.createRuleSet, { body: { name: 'absent', tag: 'absent', rules: { linux: { conditions: [{ type: 'file', path: '/nonexistent/file', negate: true }] } } } })
    await tagIs('absent', 'present')
    await setProfile({ userMaySet: ['email', 'avatar'] })
    await happened('the profile', () => told('document-applied').filter(({ kind }) => kind === 'profile').length > 0)
    expect(agent.tunnel()).toMatchObject({ running: true })
  })

  it('reports what the user says of themselves, picture first, and only what the profile lets them say', async () => {
    const picture = join(directory, 'me.png')
    await writeFile(picture, Buffer.from('89504e470d0a1a0a00', 'hex'))
    await saveUserSaid(state(), [{ member: 'email', value: 'ada@example.com' }, { member: 'phone', value: '+44 1' }, { member: 'avatarFile', value: picture }])
    const user = await until('the user', async () => {
      const value = (await endpoint()).facts.user?.value as { email?: string; phone?: string; avatarFingerprint?: string } | undefined
      return value?.avatarFingerprint === undefined ? null : value
    })
    expect([user.email, user.phone]).toEqual(['ada@example.com', undefined])
    const { results } = await (await ems.miniflare.getD1Database('DB')).prepare('SELECT fingerprint FROM avatars').all<{ fingerprint: string }>()
    expect(results).toEqual([{ fingerprint: user.avatarFingerprint }])
  })

  it('explains a tag and tells its status to whoever asks on this machine', async () => {
    await rm(marker())
    await tagIs('marked', 'absent')
    const told_ = explanation.parse(await askAgent(state(), { ask: 'explain', subject: 'MARKED' }))
    expect(told_.tags[0]?.ruleSets[0]?.conditions[0]).toMatchObject({ seen: 'does not exist', mend: `Create "${marker()}".` })
    expect(agentStatus.parse(await askAgent(state(), { ask: 'status' }))).toMatchObject({ uid: agent.uid, profile: { name: 'default', policy: 'everybody' }, licence: { state: 'seated' }, troubles: [] })
    await writeFile(marker(), 'back')
    await tagIs('marked', 'present')
  })

  it('goes on after its EMS was away, with nothing lost that changed meanwhile', async () => {
    await administrator.close()
    await ems.close()
    await rm(marker())
    await happened('a report that nobody takes', () => told('report-sent').at(-1)?.sections.includes('verdicts'))
    ems = await startEms({ directory: join(directory, 'ems') })
    administrator = createControlClient({ ems: ems.address, token: ems.adminToken, tlsCa: [ems.tlsCaPem], now: Date.now, log })
    await tagIs('marked', 'absent')
    await writeFile(marker(), 'back')
    await tagIs('marked', 'present')
  })

  it('follows a roll-over of the CA: documents and certificates of the new one, while the old one holds', async () => {
    await administrator.call(administration.rollAuthority, { body: {} })
    await happened('the list of CAs', () => told('document-applied').find(({ kind }) => kind === 'authorities'))
    await setProfile({ userMaySet: [] })
    const before = told('document-applied').length
    await until('the profile of the new CA', async () => {
      await agent.checkNow()
      return told('document-applied').slice(before - 1).some(({ kind }) => kind === 'profile') ? true : null
    }, 60_000, 500)
    // What the user may say no longer is gone: the next start has nothing to tell of it.
    await until('the user without a word', async () => ((await endpoint()).facts.user?.value as { email?: string } | undefined)?.email === undefined || null, 60_000)
    await until('no trouble', async () => (await agent.status()).troubles.length === 0 || null)
  })

  it('sends only hashes of what has not changed after a restart, and works with a clock that is wrong by days', async () => {
    await agent.close()
    await start({ now: () => Date.now() + 4 * DAY })
    await until('a report', async () => (await agent.status()).lastReportAt === null ? null : true)
    expect(told('report-sent').filter(({ sections }) => sections.some((section) => section !== 'agent' && !ofTheirOwn.has(section)))).toEqual([])
    expect(Math.abs((await agent.status()).clockOffsetMs + 4 * DAY)).toBeLessThan(60_000)
    expect(await detected(() => rm(marker()))).toBeLessThan(BY_THE_WATCH)
    await tagIs('marked', 'absent')
  })

  it('lets go of key, certificate, documents and proxy when it is deregistered', async () => {
    await agent.close()
    await start()
    await until('the channel', async () => (await agent.status()).channel === 'open' ? true : null, 60_000)
    const tunnel = agent.tunnel()
    const proxy = `http://127.0.0.1:${tunnel.running ? tunnel.httpPort : 0}/`
    expect((await fetch(proxy)).status).toBe(400)
    await administrator.call(administration.deregisterEndpoint, { params: { uid: agent.uid }, body: { reason: 'left' } })
    expect(await agent.ended).toBe('deregistered')
    expect(await readdir(state())).toEqual(['deregistered.json', 'lock', 'user.json'])
    await expect(fetch(proxy)).rejects.toThrow()
  })

  it('as a process ends with 0 when it is deregistered, while it runs and when it had been away', async () => {
    const run = () => {
      const child = spawn(process.execPath, [program, 'run', '--state', state()], { stdio: 'ignore' })
      children.push(child)
      return child
    }
    const { uid } = await enrol()
    const running = run()
    const online = until('the channel', async () => (await administrator.call(administration.checkNow, { params: { uid }, body: {} })).told ? true : null, 60_000, 100)
    await online
    await administrator.call(administration.deregisterEndpoint, { params: { uid }, body: { reason: '' } })
    expect(await once(running, 'exit')).toEqual([0, null])
    const again = await enrol()
    await administrator.call(administration.deregisterEndpoint, { params: { uid: again.uid }, body: { reason: '' } })
    expect(await once(run(), 'exit')).toEqual([0, null])
    expect(await readdir(state())).toEqual(['deregistered.json', 'lock', 'user.json'])
  }, 300_000)
})
