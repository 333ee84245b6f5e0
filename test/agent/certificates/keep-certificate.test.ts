// The certificate is kept fresh by the wall clock, through sleep, lost replies, full disks and crashes between any two writes.
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { clearLeftovers, readIdentity } from '../../../agent/certificates/identity-store.ts'
import { keepCertificate, type KeepCertificateOptions } from '../../../agent/certificates/keep-certificate.ts'
import { renewalDue } from '../../../agent/certificates/renew.ts'
import { createTroubles } from '../../../agent/troubles.ts'
import { createControlClient } from '../../../node/control-client.ts'
import { writePrivateFile } from '../../../node/key-store.ts'
import { silentLog } from '../../../node/logging.ts'
import { trustAuthority } from '../../../identity/certificate.ts'
import { closeAll, enrolledScene, onEnd } from '../agent-under-test.ts'
import { refusal, UID, type Answer } from '../ems-double.ts'
import { manualTimers } from '../manual-timers.ts'

const DAY = 86_400_000
afterEach(closeAll)

async function kept(over: Partial<KeepCertificateOptions> = {}, leafDays = 30) {
  const { ems, directory } = await enrolledScene((double) => { double.leafDays = leafDays })
  const identity = await readIdentity(directory)
  if (identity === null) throw new Error('not enrolled')
  const clock = { ms: Date.now() }
  const timers = manualTimers()
  const troubles = createTroubles(silentLog(), () => 0)
  const renewed: string[] = []
  const authorities = [await trustAuthority(ems.cas[0]?.authority.certificatePem ?? '')]
  const client = createControlClient({ ems: ems.address, identity: () => certificate.identity(), tlsCa: [ems.tlsCa], now: () => clock.ms, log: silentLog(), timeoutMs: 30_000 })
  onEnd(() => client.close())
  const certificate = keepCertificate({
    directory, identity, client: () => client, now: () => client.emsNow(), authorities: () => authorities, takeAuthorities: () => Promise.resolve(), timers, troubles, log: silentLog(), random: () => 0,
    onRenewed: (serial) => renewed.push(serial), onDefect: (cause) => { throw cause }, ...over,
  })
  onEnd(() => certificate.close())
  /** The clock of the machine and of the EMS goes on. */
  const pass = async (ms: number) => {
    clock.ms += ms
    ems.aheadMs += ms
    await timers.advance(60_000)
  }
  return { ems, directory, identity, clock, timers, troubles, renewed, certificate, pass }
}

describe('renewal', () => {
  it('is due at two thirds of the life, and up to a twentieth of it later', () => {
    const life = { notBefore: 0, notAfter: 30 * DAY }
    expect(renewalDue(life, 0)).toBe(20 * DAY)
    expect(renewalDue(life, 0.999999)).toBeLessThan(21.5 * DAY)
  })

  it('comes when it is due by the wall clock, not before, and the old certificate is replaced on disk', async () => {
    const { pass, renewed, certificate, directory, identity, ems } = await kept()
    await pass(19 * DAY)
    expect(ems.count('renew')).toBe(0)
    await pass(1.01 * DAY)
    expect(await certificate.renew()).toBe(true)
    expect(renewed).toHaveLength(1)
    expect((await readIdentity(directory))?.serial).toBe(renewed[0])
    expect(renewed[0]).not.toBe(identity.serial)
    expect(await readdir(directory)).not.toContain('renewing.key')
    expect(ems.count('renew')).toBe(1)
  })

  it('survives sleep past the end of the certificate, for thirty days', async () => {
    const { pass, certificate, renewed } = await kept()
    await pass(59 * DAY)
    expect(await certificate.renew()).toBe(true)
    expect(renewed).toHaveLength(1)
  })

  it('says what is wrong after that, and keeps what it has', async () => {
    const { pass, certificate, identity, troubles } = await kept()
    await pass(61 * DAY)
    expect(await certificate.renew()).toBe(false)
    expect(certificate.identity().serial).toBe(identity.serial)
    expect(troubles.all()[0]?.sentence).toMatch(/could not be renewed/)
  })

  it('gets the same certificate when the reply was lost', async () => {
    const { ems, certificate, timers } = await kept()
    ems.instead.set('renew', async ({ usual }): Promise<Answer> => {
      await usual()
      return 'cut'
    })
    expect(await certificate.renew()).toBe(false)
    expect(await certificate.renew()).toBe(false)
    expect(ems.count('renew')).toBe(1) // a pause: nothing was asked the second time
    ems.instead.clear()
    await timers.advance(5_000)
    expect(await certificate.renew()).toBe(true)
    expect(ems.certificates.size).toBe(2)
  })

  it('pauses longer and longer, by a timer: setting the clock back changes nothing', async () => {
    const { ems, certificate, timers, clock } = await kept()
    ems.instead.set('renew', () => refusal('busy'))
    const pauses: number[] = []
    for (let times = 0; times < 10; times++) {
      expect(await certificate.renew()).toBe(false)
      clock.ms -= DAY
      // The other one waiting is the look at the clock, which comes within a minute.
      const pause = Math.max(...timers.waiting().filter((ms) => ms !== 60_000))
      pauses.push(pause)
      await timers.advance(pause)
    }
    expect(pauses[0]).toBe(2_500)
    expect(Math.max(...pauses)).toBe(300_000)
  })

  it('asks once where several want it at once', async () => {
    const { ems, certificate } = await kept()
    expect(await Promise.all([certificate.renew(), certificate.renew(), certificate.renew()])).toEqual([true, true, true])
    expect(ems.count('renew')).toBe(1)
  })

  it.each<[string, (old: string) => string]>([
    ['that is none', () => 'hello'], ['for another key', (old) => old],
  ])('puts no certificate %s in place of one that works', async (_what, make) => {
    const { ems, certificate, identity, directory } = await kept()
    const authorities = await ems.signAuthorities()
    ems.instead.set('renew', () => ({ json: { authorities, certificate: make(identity.certificatePem) } }))
    expect(await certificate.renew()).toBe(false)
    expect((await readIdentity(directory))?.serial).toBe(identity.serial)
  })

  it('refuses one of a foreign CA with the right name and key', async () => {
    const { ems, certificate, identity } = await kept()
    const stranger = await enrolledScene()
    ems.instead.set('renew', async ({ body }) => ({ json: { certificate: await stranger.ems.certify(String(body.csr)), authorities: await ems.signAuthorities() } }))
    expect(await certificate.renew()).toBe(false)
    expect(certificate.identity().serial).toBe(identity.serial)
  })

  it('goes on after a crash between any two of its writes, with one certificate and no key left over', async () => {
    // What stands on disk after each write: the key; the list of CAs; the identity; and before the key is cleared away.
    const { ems, directory, certificate, identity } = await kept()
    const before = await readFile(join(directory, 'identity.json'), 'utf8')
    let keyOnDisk = ''
    ems.instead.set('renew', async ({ usual }) => {
      keyOnDisk = await readFile(join(directory, 'renewing.key'), 'utf8')
      return await usual()
    })
    expect(await certificate.renew()).toBe(true)
    const after = await readFile(join(directory, 'identity.json'), 'utf8')
    expect(ems.certificates.size).toBe(2)
    for (const [crashed, identityText, keyText] of [['before it was asked, or before the reply was kept', before, keyOnDisk], ['before the key was cleared away', after, keyOnDisk]] as const) {
      await writePrivateFile(join(directory, 'identity.json'), identityText)
      await writePrivateFile(join(directory, 'renewing.key'), keyText)
      await writePrivateFile(join(directory, 'identity.json.0123456789ab.tmp'), 'half')
      await clearLeftovers(directory)
      expect((await readIdentity(directory))?.uid, crashed).toBe(UID)
      const left = (await readdir(directory)).filter((name) => name.endsWith('.tmp') || name === 'renewing.key')
      expect(left, crashed).toEqual(identityText === before ? ['renewing.key'] : [])
      await rm(join(directory, 'renewing.key'), { force: true })
    }
    // The key that was kept asks again: the same certificate, not a third one.
    await writePrivateFile(join(directory, 'identity.json'), before)
    await writePrivateFile(join(directory, 'renewing.key'), keyOnDisk)
    const client = createControlClient({ ems: ems.address, identity: () => identity, tlsCa: [ems.tlsCa], now: Date.now, log: silentLog() })
    onEnd(() => client.close())
    const again = keepCertificate({
      directory, identity, client: () => client, now: Date.now, authorities: () => [], takeAuthorities: () => Promise.resolve(), timers: manualTimers(), troubles: createTroubles(silentLog(), () => 0),
      log: silentLog(), onRenewed: () => undefined, onDefect: (cause) => { throw cause },
    })
    expect(await again.renew()).toBe(false) // no CA is known to this one: it keeps the old certificate, and the key for the next try
    expect(ems.certificates.size).toBe(2)
    expect(await readdir(directory)).toContain('renewing.key')
  })
})
