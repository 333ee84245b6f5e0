// What an administrator decides about a gateway that waits is known on both sides within a second, with the reason.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { joinFabric } from '../../../gateway/fabric/join.ts'
import { systemTimers } from '../../../node/timers.ts'
import { createControlClient, type ControlClient } from '../../../node/control-client.ts'
import { silentLog } from '../../../node/logging.ts'
import { JOIN_CODE_PREFIX, readInvitation } from '../../../protocol/invitation.ts'
import * as administration from '../../../protocol/operations/admin.ts'
import { startEms, type LocalEms } from '../../../start/ems.ts'
import { slowness } from '../../pace.ts'
import { until } from './follower-under-test.ts'

const log = silentLog()

describe('a gateway that waits', () => {
  let ems: LocalEms
  let administrator: ControlClient
  let pin: string
  let directory: string
  beforeAll(async () => {
    ems = await startEms()
    administrator = createControlClient({ ems: ems.address, token: ems.adminToken, tlsCa: [ems.tlsCaPem], now: Date.now, log })
    pin = readInvitation(JOIN_CODE_PREFIX, (await administrator.call(administration.createJoinCode, { body: { name: 'pin' } })).text)?.pin ?? ''
    directory = await mkdtemp(join(tmpdir(), 'decision-'))
  })
  afterAll(async () => {
    await administrator.close()
    await ems.close()
    await rm(directory, { recursive: true })
  })

  /** Joins without a code; resolves with the serial when it has been told that it waits and has asked again. */
  async function waiting(name: string) {
    const told: { fingerprint: string; reason: string }[] = []
    const joining = joinFabric({ directory: join(directory, name), ems: ems.address, pin, code: null, displayName: name, tlsCa: [ems.tlsCaPem], timers: systemTimers, now: Date.now, log, onPending: (pending) => told.push(pending) })
    joining.catch(() => undefined)
    const pending = await until('what is waited for', () => told[0])
    const listed = async () => (await administrator.call(administration.listGateways, { query: {} })).items.find(({ fingerprint }) => fingerprint === pending.fingerprint)
    const gateway = await until('the gateway in the list', listed)
    return { joining, pending, gateway }
  }

  it('is let in within a second of being authorised', async () => {
    const { joining, pending, gateway } = await waiting('good')
    expect([gateway.state, gateway.reason]).toEqual(['pending', pending.reason])
    expect(gateway.pendingUntil).toBeGreaterThan(Date.now())
    await administrator.call(administration.authoriseGateway, { params: { serial: gateway.serial }, body: { fingerprint: gateway.fingerprint } })
    const decided = performance.now()
    expect((await joining).member().stored.serial).toBe(gateway.serial)
    const tookMs = performance.now() - decided
    expect(tookMs).toBeLessThan(1_000 * await slowness())
  })
  it('hears of a refusal and its reason within a second', async () => {
    const { joining, gateway } = await waiting('bad')
    const refused = await administrator.call(administration.deauthoriseGateway, { params: { serial: gateway.serial }, body: { reason: 'not ours' } })
    const decided = performance.now()
    await expect(joining).rejects.toMatchObject({ code: 'not_authorised', message: expect.stringContaining('not ours') as string })
    const tookMs = performance.now() - decided
    expect([refused.state, refused.reason]).toEqual(['denied', 'not ours'])
    expect(tookMs).toBeLessThan(1_000 * await slowness())
  })
})
