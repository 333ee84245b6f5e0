// A rule that wants a fact fresh, with a real agent, the real EMS and the time it takes: an idle laptop keeps its tag past its old end, and loses it when its agent is gone.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { enrolAgent } from '../../agent/enrol.ts'
import { startAgent, type RunningAgent } from '../../agent/start.ts'
import { createControlClient, type ControlClient } from '../../node/control-client.ts'
import { silentLog } from '../../node/logging.ts'
import * as administration from '../../protocol/operations/admin.ts'
import type { TagState } from '../../protocol/rules.ts'
import { startEms, type LocalEms } from '../../start/ems.ts'
import { until } from '../../start/steps.ts'

const log = silentLog()

describe('a rule that wants a fact known within a minute', { timeout: 600_000 }, () => {
  let directory: string
  let ems: LocalEms
  let administrator: ControlClient
  let agent: RunningAgent
  let tagUid: string
  const tag = async () => (await administrator.call(administration.readEndpoint, { params: { uid: agent.uid } })).tags.find((each) => each.tagUid === tagUid)
  const becomes = (what: string, fits: (now: TagState | undefined) => boolean, ms: number) => until(what, async () => {
    const now = await tag()
    return fits(now) ? now ?? null : null
  }, ms)
  const database = () => ems.miniflare.getD1Database('DB')
  const start = () => startAgent({ stateDirectory: join(directory, 'state'), now: Date.now, log, command: () => Promise.resolve(null), onEvent: () => undefined })

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'sallyport-fresh-'))
    ems = await startEms({ directory: join(directory, 'ems') })
    administrator = createControlClient({ ems: ems.address, token: ems.adminToken, tlsCa: [ems.tlsCaPem], now: Date.now, log })
    const { text } = await administrator.call(administration.createInvitation, { body: { name: 'this machine' } })
    await enrolAgent({ invitation: text, stateDirectory: join(directory, 'state'), tlsCa: [ems.tlsCaPem], ownerUid: userInfo().uid, now: Date.now, log })
    agent = await start()
    const { tagUid: made } = await administrator.call(administration.createRuleSet, { body: { name: 'fresh', tag: 'fresh', rules: { linux: { conditions: [{ type: 'os-version', comparator: '>=', version: '0', notOlderThanSeconds: 60 }] } } } })
    tagUid = made
  })
  afterAll(async () => {
    await agent.close()
    await administrator.close()
    await ems.close()
    await rm(directory, { recursive: true, force: true, maxRetries: 10 })
  })

  it('has the idle agent look again, though its own cadence is an hour: the tag does not run out', async () => {
    const first = await becomes('the tag', (now) => now?.state === 'present' && now.validUntil !== null, 60_000)
    const second = await becomes('its end to move on', (now) => (now?.validUntil ?? 0) > (first.validUntil ?? 0), 90_000)
    expect([second.state, (first.validUntil ?? 0) > Date.now()]).toEqual(['present', true])
    expect((second.validUntil ?? 0) - (first.validUntil ?? 0)).toBeGreaterThan(15_000)
  })
  it('is unknown when the agent has gone and it falls due, and holds again as soon as the agent is back', async () => {
    await agent.close()
    // A minute passes: by the records, not by the clock of this test.
    const minute = 'UPDATE endpoint_sections SET at = at - 60000'
    const due = 'UPDATE endpoints SET next_due = next_due - 60000, verdicts = replace(verdicts, \'"validUntil":\' || next_due, \'"validUntil":\' || (next_due - 60000)) WHERE next_due IS NOT NULL'
    const db = await database()
    await db.batch([db.prepare(minute), db.prepare(due)])
    await (await ems.miniflare.getWorker()).scheduled()
    await becomes('unknown', (now) => now?.state === 'unknown', 60_000)
    agent = await start()
    await becomes('the tag', (now) => now?.state === 'present', 60_000)
  })
})
