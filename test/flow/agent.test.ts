// The agent against the real EMS: real facts of this machine in, a tag out, a real change noticed and reported, and everything let go at the end.
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { enrolAgent } from '../../agent/enrol.ts'
import { startAgent, type RunningAgent } from '../../agent/start.ts'
import type { ReportSent } from '../../agent/telemetry/reporter.ts'
import { createControlClient, type ControlClient } from '../../node/control-client.ts'
import { silentLog } from '../../node/logging.ts'
import * as administration from '../../protocol/operations/admin.ts'
import { startEms, type LocalEms } from '../../start/ems.ts'
import { until } from '../../start/steps.ts'

const log = silentLog()

describe('an agent', () => {
  let ems: LocalEms
  let administrator: ControlClient
  let directory: string
  let agent: RunningAgent
  let marker: string
  const sent: ReportSent[] = []
  const endpoint = async () => await administrator.call(administration.readEndpoint, { params: { uid: agent.uid } })
  const tagIs = (wanted: string[]) => until(`tags ${wanted.join()}`, async () => {
    const tags = (await endpoint()).tags.map(({ state }) => state)
    return tags.join() === wanted.join() ? tags : null
  })

  beforeAll(async () => {
    ems = await startEms()
    administrator = createControlClient({ ems: ems.address, token: ems.adminToken, tlsCa: [ems.tlsCaPem], now: Date.now, log })
    directory = await mkdtemp(join(tmpdir(), 'sallyport-agent-'))
    marker = join(directory, 'marker')
    await writeFile(marker, 'here')
    await administrator.call(administration.createRuleSet, { body: { name: 'marker', tag: 'compliant', rules: { linux: { conditions: [{ type: 'file', path: marker }] } } } })
    const { text } = await administrator.call(administration.createInvitation, { body: { name: 'this machine' } })
    await enrolAgent({ invitation: text, stateDirectory: join(directory, 'state'), tlsCa: [ems.tlsCaPem], ownerUid: userInfo().uid, now: Date.now, log })
    agent = await startAgent({ stateDirectory: join(directory, 'state'), now: Date.now, log, onEvent: (event) => { if (event.event === 'report-sent') sent.push(event) } })
  })
  afterAll(async () => {
    await agent.close()
    await administrator.close()
    await ems.close()
    await rm(directory, { recursive: true, force: true })
  })

  it('reports real facts of this machine and gets its tag', async () => {
    await tagIs(['present'])
    const { facts, account } = await endpoint()
    expect(Object.keys(facts)).toEqual(expect.arrayContaining(['os', 'user', 'network', 'hardware', 'agent', 'verdicts']))
    expect((facts.os?.value as { type: string } | undefined)?.type).toBe('linux')
    expect(account).toBe(userInfo().username)
  })
  it('notices a watched file and reports only the section that changed', async () => {
    const before = sent.length
    await rm(marker)
    await tagIs([])
    const since = sent.slice(before).map(({ sections }) => sections.join())
    expect(since.filter((sections) => sections.includes('verdicts'))).toEqual(['verdicts'])
    await writeFile(marker, 'back')
    await tagIs(['present'])
  })
  it('opens its channel and reports when it is asked to', async () => {
    await until('the channel', async () => (await agent.status()).channel === 'open' ? true : null)
    expect(await administrator.call(administration.checkNow, { params: { uid: agent.uid }, body: {} })).toEqual({ told: true })
  })
  it('follows an edit of the rules without a restart', async () => {
    await administrator.call(administration.createRuleSet, { body: { name: 'absent', tag: 'absent', rules: { linux: { conditions: [{ type: 'file', path: '/nonexistent/file', negate: true }] } } } })
    await tagIs(['present', 'present'])
  })
  it('lets go of key, certificate, documents and proxy when it is deregistered', async () => {
    const tunnel = agent.tunnel()
    const proxy = `http://127.0.0.1:${tunnel.running ? tunnel.httpPort : 0}/`
    expect((await fetch(proxy)).status).toBe(400)
    await administrator.call(administration.deregisterEndpoint, { params: { uid: agent.uid }, body: { reason: 'left' } })
    expect(await agent.ended).toBe('deregistered')
    expect(await readdir(join(directory, 'state'))).toEqual(['deregistered.json', 'lock'])
    await expect(fetch(proxy)).rejects.toThrow()
  })
})
