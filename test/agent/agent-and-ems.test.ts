// The agent as a whole and what its EMS answers: garbage, refusals, another CA, another clock, another TLS certificate.
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { readIdentity } from '../../agent/certificates/identity-store.ts'
import { writePrivateFile } from '../../node/key-store.ts'
import { closeAll, enrolledScene, happened, reported, temporaryDirectory } from './agent-under-test.ts'
import { refusal, type Answer } from './ems-double.ts'
import { manualTimers } from './manual-timers.ts'

afterEach(closeAll)

describe('a running agent', () => {
  it('works with a clock that is wrong by days, and keeps what it learned of it', async () => {
    const scene = await enrolledScene()
    const agent = await scene.start({ now: () => Date.now() - 4 * 86_400_000 })
    await reported(scene)
    expect(Math.abs((await agent.status()).clockOffsetMs - 4 * 86_400_000)).toBeLessThan(60_000)
    const asked = scene.ems.count('report')
    scene.ems.setProfile({ invalidCertificateAction: 'warn' })
    await agent.checkNow()
    await happened('the profile', () => scene.told('document-applied').find(({ kind }) => kind === 'profile'))
    expect(Math.abs((await agent.status()).clockOffsetMs - 4 * 86_400_000)).toBeLessThan(60_000)
    await happened('the next report', () => scene.ems.count('report') > asked + 1)
  })

  it.each<[string, () => Answer]>([
    ['is not JSON', () => ({ text: '<html>It works!</html>' })],
    ['is of another form', () => ({ json: { sequence: 'first', wanted: 'all' } })],
    ['names sections that are none', () => ({ json: { sequence: 0, wanted: ['everything'], documents: { profile: 1, rules: 1, licence: 1, authorities: 1 }, emsTime: 1 } })],
    ['has a sequence that can not be', () => ({ json: { sequence: -7, wanted: [], documents: { profile: 1, rules: 1, licence: 1, authorities: 1 }, emsTime: 1 } })],
    ['is larger than anything', () => ({ text: `{"pad":"${'x'.repeat(70_000_000)}"}` })],
    ['is cut off', () => 'cut'],
    ['is a refusal without a reason', () => ({ status: 502, text: 'Bad Gateway' })],
    ['is a fault that nobody knows', () => ({ status: 418, json: { code: 'teapot' } })],
    ['asks to come back in a thousand years', () => refusal('busy', { retryAfterSeconds: 31_536_000_000 })],
  ])('goes on after an answer that %s', async (_what, answer) => {
    const scene = await enrolledScene()
    scene.ems.instead.set('report', answer)
    scene.ems.instead.set('documents', answer)
    const agent = await scene.start()
    await happened('a failed report', () => scene.lines.find(({ event }) => event === 'report-failed'))
    scene.ems.instead.clear()
    // A report that was under way meanwhile may have been answered so too, and told to wait for long: asked until one is taken.
    await happened('a report that is taken', async () => {
      await agent.checkNow()
      return scene.ems.held.has('os')
    })
    await happened('no trouble', async () => (await agent.status()).troubles.length === 0)
    await agent.close()
    await (await scene.start()).close()
  })

  it.each<[string, Answer]>([['nothing', 'silence'], ['garbage', { text: '<html>' }], ['tags of another form', { json: { tags: [{ tag: '\u001b[2J' }] } }]])('tells its status though the EMS answers %s to the question for its tags', async (_what, answer) => {
    const scene = await enrolledScene()
    const timers = manualTimers()
    scene.ems.instead.set('own-tags', () => answer)
    const agent = await scene.start({ timers })
    const asking = agent.status()
    await happened('the question', () => scene.ems.count('own-tags') > 0)
    await timers.advance(5_000)
    expect((await asking).tags).toBeNull()
  })

  it('renews a certificate that the EMS says has expired, and goes on at once', async () => {
    const scene = await enrolledScene()
    let expired = true
    scene.ems.instead.set('report', async ({ usual }) => (expired ? refusal('certificate_expired') : await usual()))
    scene.ems.instead.set('renew', async ({ usual }) => {
      expired = false
      return await usual()
    })
    const before = (await readIdentity(scene.directory))?.serial
    await scene.start()
    await reported(scene)
    expect(scene.told('certificate-renewed')).toHaveLength(1)
    expect((await readIdentity(scene.directory))?.serial).not.toBe(before)
    expect(await readdir(scene.directory)).not.toContain('renewing.key')
  })

  it('does not renew without end where the EMS calls every certificate expired', async () => {
    const scene = await enrolledScene()
    scene.ems.instead.set('report', () => refusal('certificate_expired'))
    // Else whenever the channel opens it is asked once more, which is its right.
    scene.ems.refuseUpgrades = 429
    await scene.start()
    await happened('a pause', () => scene.lines.find(({ event }) => event === 'report-failed'))
    expect(scene.ems.count('renew')).toBeLessThanOrEqual(2)
  })

  it('tells in its status what a revoked certificate means', async () => {
    const scene = await enrolledScene()
    scene.ems.instead.set('report', () => refusal('certificate_revoked'))
    scene.ems.instead.set('renew', () => refusal('certificate_revoked'))
    const agent = await scene.start()
    await happened('the refusal', () => scene.lines.find(({ event }) => event === 'report-failed'))
    expect((await agent.status()).troubles.map(({ sentence }) => sentence).join(' ')).toMatch(/An administrator revoked it\. Ask to be deregistered/)
  })

  it('believes documents of a new CA after the old one has introduced it, and renews under it', async () => {
    const scene = await enrolledScene()
    const agent = await scene.start()
    await reported(scene)
    await scene.ems.roll()
    scene.ems.setProfile({ userMaySet: [] })
    await agent.checkNow()
    await happened('the profile', () => scene.told('document-applied').find(({ kind }) => kind === 'profile'))
    expect(scene.told('document-applied').map(({ kind }) => kind).slice(0, 2)).toEqual(['authorities', 'profile'])
    scene.ems.instead.set('report', async ({ usual }) => (scene.told('certificate-renewed').length === 0 ? refusal('certificate_expired') : await usual()))
    await agent.checkNow()
    await happened('the renewal', () => scene.told('certificate-renewed')[0])
  })

  it('believes a new CA though the list that named it was signed before it came', async () => {
    const scene = await enrolledScene()
    const agent = await scene.start()
    await reported(scene)
    const socket = await happened('the channel', () => scene.ems.sockets[0])
    await scene.ems.roll()
    // A list that another isolate signed without the new CA, dated after the roll-over: by its version the agent is up to date.
    const old = scene.ems.cas.shift()
    const list = await scene.ems.signAuthorities(scene.ems.now() + 1)
    if (old !== undefined) scene.ems.cas.unshift(old)
    socket.tell({ type: 'document', kind: 'authorities', document: list })
    await happened('the old list', () => scene.told('document-applied').find(({ kind }) => kind === 'authorities'))
    scene.ems.setProfile({ userMaySet: [] })
    await agent.checkNow()
    await happened('the profile of the new CA', () => scene.told('document-applied').find(({ kind }) => kind === 'profile'))
  })

  it('does what the profile says about an EMS whose TLS certificate has the wrong name or date', async () => {
    const scene = await enrolledScene()
    const agent = await scene.start()
    await reported(scene)
    await happened('the channel', () => scene.ems.sockets.length > 0)
    scene.ems.setProfile({ invalidCertificateAction: 'warn' })
    await agent.checkNow()
    await happened('the profile', () => scene.told('document-applied').find(({ kind }) => kind === 'profile'))
    await scene.ems.present({ names: ['elsewhere.example'], issuedAt: Date.now() - 120 * 86_400_000 })
    await scene.ems.stop()
    await scene.ems.start()
    const before = scene.ems.sockets.length
    await agent.checkNow()
    await happened('the warning', () => scene.lines.find(({ event }) => event === 'ems-certificate-forgiven'))
    await happened('the channel again', () => scene.ems.sockets.length > before)
    scene.ems.setProfile({ invalidCertificateAction: 'deny' })
    await agent.checkNow()
    await happened('the profile', () => scene.told('document-applied').filter(({ kind }) => kind === 'profile')[1])
    // What was forgiven does not outlive the forgiveness: the channel goes too.
    await happened('the end of the channel', () => scene.told('channel').at(-1)?.state !== 'open')
    const asked = scene.ems.requests.length
    await agent.checkNow()
    await happened('the refusal', () => scene.lines.find(({ event, reason }) => event === 'report-failed' && /not reached/.test(String(reason))))
    expect(scene.ems.requests.length).toBe(asked)
  })

  it('reports the user\'s picture after it has handed it over, once', async () => {
    const scene = await enrolledScene()
    const picture = join(await temporaryDirectory(), 'me.png')
    await writeFile(picture, Buffer.from('89504e470d0a1a0a00', 'hex'))
    await writePrivateFile(join(scene.directory, 'user.json'), JSON.stringify({ avatarFile: picture, email: 'ada@example.com' }))
    await scene.ems.stop()
    const agent = await scene.start()
    await scene.ems.start()
    await reported(scene)
    expect(scene.ems.held.get('user')?.value).toMatchObject({ email: 'ada@example.com', avatarFingerprint: expect.stringMatching(/^[0-9a-f]{64}$/) as string })
    const order = scene.ems.requests.map(({ id, body }) => (id === 'report' ? Object.keys(body.sections as object).includes('user') ? 'user' : '' : id)).filter((each) => each === 'user' || each === 'put-avatar')
    expect(order).toEqual(['put-avatar', 'user'])
    await agent.close()
    // The first may have had no channel yet: the EMS was away when it began.
    const before = scene.ems.sockets.length
    await scene.start()
    await happened('the channel', () => scene.ems.sockets.length > before)
    expect(scene.ems.count('put-avatar')).toBe(1)
  })

  it('reports the user without a picture that the EMS does not take, and the rest with it', async () => {
    const scene = await enrolledScene()
    const picture = join(await temporaryDirectory(), 'me.png')
    await writeFile(picture, Buffer.from('89504e470d0a1a0a00', 'hex'))
    await writePrivateFile(join(scene.directory, 'user.json'), JSON.stringify({ avatarFile: picture, email: 'ada@example.com' }))
    scene.ems.instead.set('put-avatar', () => refusal('invalid'))
    const agent = await scene.start()
    await reported(scene)
    await happened('the user', () => (scene.ems.held.get('user')?.value as { email?: string } | undefined)?.email === 'ada@example.com')
    expect(scene.ems.held.get('user')?.value).not.toHaveProperty('avatarFingerprint')
    await happened('no trouble', async () => (await agent.status()).troubles.length === 0)
  })

  it('reports the account, and says what is wrong, when user.json has been edited into something else', async () => {
    const scene = await enrolledScene()
    await writePrivateFile(join(scene.directory, 'user.json'), '{"fullName":"\\ud83d","email":"nobody"}')
    const agent = await scene.start()
    await reported(scene)
    expect(Object.keys(scene.ems.held.get('user')?.value as object)).toContain('account')
    const { troubles } = await agent.status()
    expect(troubles).toMatchObject([{ kind: 'user', sentence: expect.stringMatching(/user\.json is damaged/) as string }])
    await writePrivateFile(join(scene.directory, 'user.json'), '{"email":"ada@example.com"}')
    await happened('the mended file', () => (scene.ems.held.get('user')?.value as { email?: string } | undefined)?.email === 'ada@example.com')
    expect((await agent.status()).troubles).toEqual([])
  })
})
