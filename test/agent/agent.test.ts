// The agent as a whole against an EMS that goes away, lies, or says no.
import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { readIdentity } from '../../agent/certificates/identity-store.ts'
import { startAgent } from '../../agent/start.ts'
import { silentLog } from '../../node/logging.ts'
import { writePrivateFile } from '../../node/key-store.ts'
import { until } from '../../start/steps.ts'
import { closeAll, enrolledScene, onEnd, temporaryDirectory, type Scene } from './agent-under-test.ts'
import { refusal, UID, type Answer } from './ems-double.ts'
import { manualTimers } from './manual-timers.ts'
import { serveTcp } from './tunnel/tunnel-under-test.ts'

afterEach(closeAll)
const happened = <T>(what: string, ask: () => T | null | undefined | false | Promise<T | null | undefined | false>): Promise<T> => until(what, async () => await ask() || null, 15_000, 10)
const reported = (scene: Scene) => happened('a report with every section', () => scene.ems.held.has('os') && scene.ems.held.has('user') && scene.ems.held.has('network'))

describe('a running agent', () => {
  it('reports what it sees, and after a restart only hashes', async () => {
    const scene = await enrolledScene()
    const first = await scene.start()
    await reported(scene)
    expect([...scene.ems.held.keys()].sort()).toEqual(['agent', 'hardware', 'network', 'os', 'security', 'user', 'verdicts'])
    await first.close()
    expect(await first.ended).toBe('closed')
    const before = scene.ems.requests.length
    await scene.start()
    await happened('the channel', () => scene.ems.sockets.length > 1)
    await happened('a report after it', () => scene.ems.requests.slice(before).filter(({ id }) => id === 'report').length >= 2)
    expect(scene.ems.requests.slice(before).filter(({ id }) => id === 'report').flatMap(({ body }) => Object.keys(body.sections as object))).toEqual([])
    expect(scene.ems.count('put-avatar')).toBe(0)
  })

  it('starts while the EMS is away, and reports when it is back', async () => {
    const scene = await enrolledScene()
    await scene.ems.stop()
    const agent = await scene.start()
    await happened('a failed report', () => scene.lines.find(({ event }) => event === 'report-failed'))
    const status = await agent.status()
    expect(status.tags).toBeNull()
    expect(status.troubles.map(({ kind }) => kind)).toEqual(['ems'])
    expect(status.troubles[0]?.sentence).toMatch(/was not reached.*Check the network/)
    expect(agent.tunnel().running).toBe(true)
    await scene.ems.start()
    await reported(scene)
    await happened('no trouble', () => scene.lines.find(({ event }) => event === 'trouble-over'))
    expect((await agent.status()).troubles).toEqual([])
  })

  it('lets go of everything when it is deregistered: certificate, key, documents, proxy, open tunnels', async () => {
    const scene = await enrolledScene()
    const agent = await scene.start()
    await reported(scene)
    const socket = await happened('the channel', () => scene.ems.sockets[0])
    const port = await serveTcp((far) => far.write('hello'))
    const tunnel = agent.tunnel()
    if (!tunnel.running) throw new Error(tunnel.reason)
    const open = connect(tunnel.httpPort, '127.0.0.1')
    onEnd(() => Promise.resolve(open.destroy()))
    const closed = new Promise<void>((resolve) => { open.on('error', () => undefined).on('close', () => resolve()) })
    let heard = ''
    open.on('data', (chunk: Buffer) => { heard += chunk.toString() })
    open.write(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: x\r\n\r\n`)
    await happened('the open tunnel', () => heard.endsWith('hello'))
    // What a crash may have left of the key goes too.
    await writePrivateFile(join(scene.directory, 'identity.json.0123456789ab.tmp'), await readFile(join(scene.directory, 'identity.json')))
    await writePrivateFile(join(scene.directory, 'enrolling-0123456789abcdef.key'), 'key')
    socket.tell({ type: 'document', kind: 'deregistration', document: await scene.ems.signDeregistration() })
    expect(await agent.ended).toBe('deregistered')
    await closed
    expect(await readdir(scene.directory)).toEqual(['deregistered.json', 'lock'])
    expect(scene.told('let-go')).toEqual([{ event: 'let-go', reason: 'left' }])
    await expect(scene.start()).rejects.toThrow(/deregistered on .* \("left"\).*enrol INVITATION/)
  })

  it('lets go when a report is refused because it was deregistered while it was away', async () => {
    const scene = await enrolledScene()
    scene.ems.registered = false
    const agent = await scene.start()
    expect(await agent.ended).toBe('deregistered')
    expect(await readdir(scene.directory)).toEqual(['deregistered.json', 'lock'])
  })

  it('lets go though its documents are lost: the CA is proved anew by the pin of the enrolment', async () => {
    const scene = await enrolledScene()
    await rm(join(scene.directory, 'documents.json'))
    scene.ems.registered = false
    expect(await (await scene.start()).ended).toBe('deregistered')
  })

  it('does not let go on a word that the EMS did not sign', async () => {
    const scene = await enrolledScene()
    const stranger = await enrolledScene()
    scene.ems.instead.set('report', async () => refusal('deregistered', { document: await stranger.ems.signDeregistration() }))
    const agent = await scene.start()
    await happened('the refusal', () => scene.lines.find(({ event, reason }) => event === 'document-refused' && reason === 'foreign'))
    scene.ems.instead.set('report', () => refusal('deregistered'))
    await happened('another refusal', () => scene.lines.filter(({ event }) => event === 'report-failed').length > 1)
    expect((await readIdentity(scene.directory))?.uid).toBe(UID)
    expect((await agent.status()).troubles.map(({ kind }) => kind)).toContain('ems')
    scene.ems.instead.delete('report')
    await agent.checkNow()
    await reported(scene)
  })

  it('recovers its documents when their file is lost', async () => {
    const scene = await enrolledScene()
    await rm(join(scene.directory, 'documents.json'))
    const agent = await scene.start()
    await happened('the last of them', () => scene.told('document-applied').find(({ kind }) => kind === 'licence'))
    expect(new Set(scene.told('document-applied').map(({ kind }) => kind))).toEqual(new Set(['authorities', 'profile', 'rules', 'licence']))
    await happened('the proxy', () => agent.tunnel().running)
  })

  it('says of a damaged state file which it is and what to do', async () => {
    const scene = await enrolledScene()
    for (const name of ['documents.json', 'telemetry.json', 'identity.json']) {
      const path = join(scene.directory, name)
      const before = await readFile(path, 'utf8').catch(() => null)
      await writePrivateFile(path, '{"half": ')
      await expect(scene.start()).rejects.toThrow(`${path} is damaged; move it away`)
      await (before === null ? rm(path) : writePrivateFile(path, before))
    }
    const path = join(scene.directory, 'identity.json')
    const identity = JSON.parse(await readFile(path, 'utf8')) as object
    await writePrivateFile(path, JSON.stringify({ ...identity, privateKeyPem: 'none' }))
    await expect(scene.start()).rejects.toThrow(/identity\.json is damaged: its key can not be read\. Move it away and enrol/)
    await writePrivateFile(path, JSON.stringify(identity))
    await (await scene.start()).close()
  })

  it('refuses to run twice with one state directory, and leaves the first alone', async () => {
    const scene = await enrolledScene()
    const agent = await scene.start()
    await expect(scene.start()).rejects.toThrow(/running already.*Stop it first/)
    expect((await agent.status()).uid).toBe(UID)
    await agent.close()
    const both = await Promise.allSettled([scene.start(), scene.start()])
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  })

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
    await agent.checkNow()
    await reported(scene)
    expect((await agent.status()).troubles).toEqual([])
    await agent.close()
    await (await scene.start()).close()
  })

  it.each<[string, Answer]>([['nothing', 'silence'], ['garbage', { text: '<html>' }], ['tags of another form', { json: { tags: [{ tag: '\u001b[2J' }] } }]])('tells its status though the EMS answers %s to the question for its tags', async (_what, answer) => {
    const scene = await enrolledScene()
    scene.ems.instead.set('own-tags', () => answer)
    const agent = await scene.start()
    const begun = performance.now()
    expect((await agent.status()).tags).toBeNull()
    expect(performance.now() - begun).toBeLessThan(5_000)
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
    await scene.ems.roll()
    // A list that another isolate signed without the new CA, dated after the roll-over: by its version the agent is up to date.
    const old = scene.ems.cas.shift()
    const list = await scene.ems.signAuthorities(scene.ems.now() + 1)
    if (old !== undefined) scene.ems.cas.unshift(old)
    const [socket] = scene.ems.sockets
    socket?.tell({ type: 'document', kind: 'authorities', document: list })
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
    await scene.start()
    await happened('the channel', () => scene.ems.sockets.length > 1)
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

  it('spawns and sends nothing in an idle hour beyond its cadences: one look at the firewall a minute, one inventory, one ping a minute', async () => {
    const scene = await enrolledScene()
    const commands: string[] = []
    const timers = manualTimers()
    const agent = await scene.start({ timers, command: (file) => { commands.push(file); return Promise.resolve(null) } })
    await reported(scene)
    await happened('the channel', () => scene.ems.sockets.length > 0)
    await happened('the slow probes', () => commands.includes('apk'))
    let [pings, quiet] = [0, 0]
    scene.ems.sockets[0]?.socket.on('message', (data: Buffer) => { if (data.toString() === 'ping') pings++ })
    let asked = -1
    await happened('quiet', () => {
      quiet = asked === scene.ems.requests.length ? quiet + 1 : 0
      asked = scene.ems.requests.length
      return quiet > 20
    })
    commands.length = 0
    for (let minute = 0; minute < 60; minute++) await timers.advance(60_000)
    await happened('the pings', () => pings >= 59)
    const ran = (name: string) => commands.filter((each) => each === name).length
    expect({ requests: scene.ems.requests.length - asked, dpkg: ran('dpkg-query'), others: commands.filter((each) => !['nft', 'dpkg-query', 'rpm', 'apk', 'apt-get'].includes(each)) })
      .toEqual({ requests: 0, dpkg: 1, others: [] })
    // A look begins a cadence after the last one ended.
    expect(ran('nft')).toBeGreaterThan(50)
    expect(ran('nft')).toBeLessThanOrEqual(60)
    expect(pings).toBeLessThanOrEqual(60)
    await agent.close()
  })

  it('starts nothing where nothing is enrolled', async () => {
    const directory = await temporaryDirectory()
    await expect(startAgent({ stateDirectory: join(directory, 'state'), log: silentLog(), now: Date.now })).rejects.toThrow(/not enrolled; ask an administrator/)
  })
})
