// An edit of the rules with a real agent and the real EMS: whoever goes on fulfilling them keeps the tag in every row of the log that gateways follow; whoever does not answer loses it when the transition ends.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { enrolAgent } from '../../agent/enrol.ts'
import { startAgent, type RunningAgent } from '../../agent/start.ts'
import type { LogEntry } from '../../durable-objects/log-entry.ts'
import { createControlClient, type ControlClient } from '../../node/control-client.ts'
import { silentLog } from '../../node/logging.ts'
import * as administration from '../../protocol/operations/admin.ts'
import type { RuleSet } from '../../protocol/rules.ts'
import { startEms, type LocalEms } from '../../start/ems.ts'
import { until } from '../../start/steps.ts'

const log = silentLog()

describe('an edit of the rules', () => {
  let directory: string
  let ems: LocalEms
  let administrator: ControlClient
  let agent: RunningAgent
  let ruleSet: RuleSet
  const file = (name: string) => ({ type: 'file', path: join(directory, name) })
  const bodyOf = (names: readonly string[], transitionSeconds = 60) => ({ name: 'safe', tag: 'safe', transitionSeconds, rules: { linux: { conditions: names.map(file) } } })
  const edit = (names: readonly string[], transitionSeconds?: number) => administrator.call(administration.replaceRuleSet, { params: { id: ruleSet.id }, body: bodyOf(names, transitionSeconds) })
  const state = async () => (await administrator.call(administration.readEndpoint, { params: { uid: agent.uid } })).tags.find(({ tagUid }) => tagUid === ruleSet.tagUid)
  const becomes = (wanted: string, validUntil: boolean) => until(`the tag ${wanted}`, async () => {
    const tag = await state()
    return (tag?.state ?? 'absent') === wanted && ((tag?.validUntil ?? null) !== null) === validUntil ? true : null
  }, 60_000)
  /** The tag in each row of the log from one on. */
  const logged = async (from: number) => {
    const { results } = await (await ems.miniflare.getD1Database('DB')).prepare('SELECT revision, entry FROM change_log WHERE uid = ? AND revision > ? ORDER BY revision').bind(agent.uid, from).all<{ revision: number; entry: string }>()
    return results.map(({ revision, entry }) => ({ revision, tag: (JSON.parse(entry) as LogEntry).tags.find(({ tagUid }) => tagUid === ruleSet.tagUid) }))
  }
  const head = async () => (await logged(0)).at(-1)?.revision ?? 0

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'sallyport-edit-'))
    ems = await startEms({ directory: join(directory, 'ems') })
    administrator = createControlClient({ ems: ems.address, token: ems.adminToken, tlsCa: [ems.tlsCaPem], now: Date.now, log })
    for (const name of ['one', 'two', 'three']) await writeFile(join(directory, name), 'here')
    ruleSet = await administrator.call(administration.createRuleSet, { body: bodyOf(['one']) })
    const { text } = await administrator.call(administration.createInvitation, { body: { name: 'this machine' } })
    await enrolAgent({ invitation: text, stateDirectory: join(directory, 'state'), tlsCa: [ems.tlsCaPem], ownerUid: userInfo().uid, now: Date.now, log })
    agent = await startAgent({ stateDirectory: join(directory, 'state'), now: Date.now, log, command: () => Promise.resolve(null), onEvent: () => undefined })
  })
  afterAll(async () => {
    await agent.close()
    await administrator.close()
    await ems.close()
    await rm(directory, { recursive: true, force: true, maxRetries: 10 })
  })

  it('cuts nobody who fulfils it: the tag is there in every row, first until the transition ends and with the answer for good', async () => {
    await becomes('present', false)
    await until('the channel', async () => (await agent.status()).channel === 'open' ? true : null, 60_000)
    const before = await head()
    await edit(['one', 'two'])
    await until('the answer', async () => {
      const { standing } = await administrator.call(administration.readRuleSet, { params: { id: ruleSet.id } })
      return standing.holds === 1 && standing.owing === 0 ? true : null
    }, 60_000)
    await becomes('present', false)
    const rows = await logged(before)
    expect(rows.length).toBeGreaterThan(0)
    for (const { tag } of rows) expect(tag?.state).toBe('present')
    expect(rows.at(-1)?.tag?.validUntil).toBeNull()
  })
  it('takes the tag at once from who does not fulfil it', async () => {
    await edit(['one', 'missing'])
    await becomes('absent', false)
    await edit(['one'])
    await becomes('present', false)
  })
  it('takes it from whose agent is silent, when the transition ends and not before', async () => {
    await agent.close()
    const before = await head()
    const edited = Date.now()
    await edit(['one', 'three'], 2)
    await becomes('unknown', false)
    const ended = Date.now()
    expect(ended - edited).toBeGreaterThanOrEqual(2_000)
    const rows = await logged(before)
    // In between gateways knew until when it stood.
    const [first] = rows
    expect([first?.tag?.state, (first?.tag?.validUntil ?? 0) >= edited + 2_000, (first?.tag?.validUntil ?? Infinity) <= ended]).toEqual(['present', true, true])
    expect(rows.at(-1)?.tag).toMatchObject({ state: 'unknown', validUntil: null })
  })
})
