// Joining: the EMS proves itself first, the fingerprint is shown while it is pending, and nothing that does not fit is kept.
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createControlClient } from '../../../node/control-client.ts'
import { silentLog } from '../../../node/logging.ts'
import { joinFabric, pendingText, type JoinRequest } from '../../../gateway/fabric/join.ts'
import { readStatus } from '../../../gateway/inspect.ts'
import { openMembership } from '../../../gateway/fabric/membership.ts'
import { renewalDue, renewNow } from '../../../gateway/fabric/renewal.ts'
import { systemTimers, type Timers } from '../../../node/timers.ts'
import { SERIAL, startEmsDouble, type EmsDouble } from './ems-double.ts'
import { newMembership, until } from './follower-under-test.ts'

/** Waits of backoff pass at once. */
const quick: Timers = { after: (_delayMs, action) => systemTimers.after(5, action) }

let ems: EmsDouble
let directory: string
beforeEach(async () => {
  ems = await startEmsDouble()
  directory = await mkdtemp(join(tmpdir(), 'joining-'))
})
afterEach(async () => {
  await ems.stop()
  await rm(directory, { recursive: true })
})
const request = (over: Partial<JoinRequest> = {}): JoinRequest => ({
  directory, ems: ems.address, pin: ems.authority.pin, code: null, displayName: 'gate-1', tlsCa: [ems.tlsCa], timers: quick, now: Date.now, log: silentLog(), onPending: () => {}, ...over,
})

describe('a gateway that joins', () => {
  it('spends its code and keeps serial, certificate and key in one private file', async () => {
    const membership = await joinFabric(request({ code: 'c'.repeat(43) }))
    expect(ems.inits.map(({ joinCode }) => joinCode)).toEqual(['c'.repeat(43)])
    expect(membership.member().stored).toMatchObject({ serial: SERIAL, ems: ems.address, authorities: [ems.authority.certificatePem] })
    expect(await readdir(directory)).toEqual(['membership.json'])
    expect((await stat(join(directory, 'membership.json'))).mode & 0o777).toBe(0o600)
    expect((await openMembership(directory))?.member().certificate.commonName).toBe(SERIAL)
  })

  it('asks again while it is pending, with the same key, and tells fingerprint and reason once', async () => {
    ems.joining = { state: 'pending', reason: 'waits for an administrator' }
    const told: { fingerprint: string; reason: string }[] = []
    const joining = joinFabric(request({ onPending: (pending) => told.push(pending) }))
    await until('three questions', () => ems.inits.length >= 3)
    expect(told).toEqual([{ fingerprint: ems.inits[0]?.fingerprint, reason: 'waits for an administrator', heard: true }])
    expect(await readStatus(directory, Date.now())).toMatchObject({ joined: false, fingerprint: ems.inits[0]?.fingerprint })
    expect(new Set(ems.inits.map(({ fingerprint }) => fingerprint)).size).toBe(1)
    ems.joining = { state: 'authorised', reason: 'compared' }
    expect((await joining).member().stored.serial).toBe(SERIAL)
  })

  it('stops waiting when it is called off, and keeps its key', async () => {
    ems.joining = { state: 'pending', reason: 'waits for an administrator' }
    const calledOff = new AbortController()
    const joining = joinFabric(request({ signal: calledOff.signal, onPending: () => calledOff.abort() }))
    await expect(joining).rejects.toMatchObject({ name: 'AbortError' })
    expect(await readdir(directory)).toEqual(['joining.key'])
  })

  it('keeps its key from one run to the next, so that the fingerprint that was shown stays', async () => {
    ems.joining = { state: 'denied', reason: 'not this one' }
    await expect(joinFabric(request())).rejects.toThrow('not this one')
    ems.joining = { state: 'authorised', reason: 'changed my mind' }
    await joinFabric(request())
    expect(ems.inits[0]?.fingerprint).toBe(ems.inits[1]?.fingerprint)
  })

  it('tells nothing to an EMS that does not hold the pinned CA', async () => {
    const stranger = await startEmsDouble()
    ems.introducedBy = stranger.introducedBy
    await expect(joinFabric(request())).rejects.toMatchObject({ code: 'bad_certificate' })
    await expect(joinFabric(request({ pin: stranger.authority.pin }))).rejects.toMatchObject({ code: 'bad_certificate' })
    expect(ems.inits).toEqual([])
    await stranger.stop()
  })

  it('waits for an EMS that is not there yet', async () => {
    const target = request()
    await ems.stop()
    const told: { reason: string; heard: boolean }[] = []
    const joining = joinFabric({ ...target, onPending: (pending) => told.push(pending) })
    await until('a failure', () => told.some(({ reason, heard }) => !heard && reason.includes('was not reached')))
    await ems.start()
    expect((await joining).member().stored.serial).toBe(SERIAL)
  })

  it('says what to do about an EMS whose TLS certificate is from a root that nobody named', async () => {
    const calledOff = new AbortController()
    const told: string[] = []
    const joining = joinFabric(request({ tlsCa: [], signal: calledOff.signal, onPending(pending) {
      told.push(pendingText(pending))
      calledOff.abort()
    } }))
    await expect(joining).rejects.toThrow()
    expect(told).toEqual([expect.stringMatching(/^Not joined yet: The EMS at .* was not reached: [A-Z_]+\nIts TLS certificate is from a root that this machine does not trust; name that root by --tls-ca FILE\.$/)])
  })
  it('says what an administrator compares', () => {
    expect(pendingText({ fingerprint: '3F:5A', reason: 'It waits.', heard: true })).toBe('Not authorised yet: It waits.\nAn administrator compares this fingerprint and authorises the gateway:\n  3F:5A')
  })
})

describe('a certificate', () => {
  it('is due at two thirds of its life, a little earlier by chance', () => {
    const life = { notBefore: 0, notAfter: 3_000 }
    expect(renewalDue(life, 0)).toBe(2_000)
    expect(renewalDue(life, 1)).toBe(1_850)
  })

  it('is renewed with another key, and the file holds what fits together', async () => {
    // Expired a day ago: renewal is the one call that takes it.
    const membership = await newMembership(ems, directory, Date.now() - 31 * 86_400_000)
    const before = membership.member().stored
    const client = createControlClient({
      ems: ems.address, tlsCa: [ems.tlsCa], now: Date.now, log: silentLog(),
      identity: () => ({ privateKey: membership.member().privateKey, certificateDer: membership.member().certificate.der }),
    })
    await renewNow({ directory, membership, client, log: silentLog() })
    const kept = (await openMembership(directory))?.member()
    expect(kept?.stored.privateKey).not.toBe(before.privateKey)
    expect(kept?.certificate.notAfter).toBeGreaterThan(Date.now() + 29 * 86_400_000)
    await renewNow({ directory, membership, client, log: silentLog() })
    expect(ems.renewals).toBe(2)
    await client.close()
  })

  it('is not taken from a list of CAs that somebody else signed', async () => {
    const [stranger, membership] = [await startEmsDouble(), await newMembership(ems, directory)]
    const foreign = await newMembership(stranger, join(directory, 'other'))
    expect(foreign.member().stored.authorities).not.toEqual(membership.member().stored.authorities)
    const client = createControlClient({ ems: stranger.address, tlsCa: [stranger.tlsCa], now: Date.now, log: silentLog(), identity: () => ({ privateKey: foreign.member().privateKey, certificateDer: foreign.member().certificate.der }) })
    await expect(renewNow({ directory, membership, client, log: silentLog() })).rejects.toMatchObject({ code: 'bad_certificate' })
    expect(membership.member().stored.authorities).toEqual([ems.authority.certificatePem])
    await client.close()
    await stranger.stop()
  })
})
