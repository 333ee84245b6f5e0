// Enrolment: nothing is told to a stranger, nothing half done is believed, and a lost reply harms nobody.
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { readIdentity, readLetGo } from '../../agent/certificates/identity-store.ts'
import { enrolAgent } from '../../agent/enrol.ts'
import { readCsr } from '../../identity/request.ts'
import { silentLog } from '../../node/logging.ts'
import { writeInvitation } from '../../protocol/invitation.ts'
import { closeAll, enrolledScene, onEnd, temporaryDirectory } from './agent-under-test.ts'
import { refusal, startEmsDouble, UID, type Answer, type EmsDouble } from './ems-double.ts'

afterEach(closeAll)

async function world() {
  const ems = await startEmsDouble()
  onEnd(() => ems.stop())
  ems.setProfile()
  const directory = join(await temporaryDirectory(), 'state')
  const enrol = (invitation = ems.invitation, stateDirectory = directory) => enrolAgent({ invitation, stateDirectory, tlsCa: [ems.tlsCa], ownerUid: 1_234, now: Date.now, log: silentLog() })
  return { ems, directory, enrol }
}
const keysAsked = async (ems: EmsDouble) => new Set(await Promise.all(ems.requests.filter(({ id }) => id === 'enrol').map(async ({ body }) => (await readCsr(String(body.csr)))?.publicKeyHash)))
/** The usual answer with something put in its place. */
const changed = (over: (reply: Record<string, unknown>) => Promise<Record<string, unknown>>) => async ({ usual }: { usual: () => Promise<Answer> }): Promise<Answer> => {
  const answer = await usual()
  if (typeof answer === 'string' || !('json' in answer)) throw new Error('not as usual')
  const reply = answer.json as Record<string, unknown>
  return { json: { ...reply, ...await over(reply) } }
}

describe('enrolment', () => {
  it('leaves an identity, the documents, and nothing else', async () => {
    const { directory, enrol } = await world()
    const identity = await enrol()
    expect(identity).toMatchObject({ uid: UID, ownerUid: 1_234 })
    expect(await readdir(directory)).toEqual(['documents.json', 'identity.json', 'lock'])
    await expect(enrol()).rejects.toMatchObject({ code: 'conflict' })
  })

  it('tells nothing to a server that does not hold the pinned CA, though its TLS is trusted', async () => {
    const { ems, directory, enrol } = await world()
    const stranger = await startEmsDouble()
    onEnd(() => stranger.stop())
    const forged = writeInvitation('sp1.', { ems: ems.address, pin: stranger.cas[0]?.authority.pin ?? '', code: 'A'.repeat(43) })
    await expect(enrol(forged)).rejects.toMatchObject({ code: 'not_found' })
    // It claims to have that CA, and signs with its own.
    ems.instead.set('introduce', async ({ body }) => ({ json: { document: await ems.sign('introduction', { challenge: String(body.challenge), authority: new URL(ems.address).host, emsSerial: 'SPEMS0123456789AB', emsTime: 1, certificates: [stranger.cas[0]?.authority.certificatePem ?? ''] }, { to: '*' }) } }))
    await expect(enrol(forged)).rejects.toMatchObject({ code: 'bad_certificate' })
    // It passes on the real one's proof, made for another address; and an old one.
    ems.instead.set('introduce', async ({ body }) => ({ json: { document: await stranger.sign('introduction', { challenge: String(body.challenge), authority: new URL(stranger.address).host, emsSerial: 'SPEMS0123456789AB', emsTime: 1, certificates: [stranger.cas[0]?.authority.certificatePem ?? ''] }, { to: '*' }) } }))
    await expect(enrol(forged)).rejects.toThrow(/for another address/)
    ems.instead.set('introduce', async () => ({ json: { document: await stranger.sign('introduction', { challenge: '0'.repeat(64), authority: new URL(ems.address).host, emsSerial: 'SPEMS0123456789AB', emsTime: 1, certificates: [stranger.cas[0]?.authority.certificatePem ?? ''] }, { to: '*' }) } }))
    await expect(enrol(forged)).rejects.toThrow(/another challenge/)
    expect(ems.count('enrol')).toBe(0)
    expect(await readIdentity(directory)).toBeNull()
    expect(await readdir(directory)).toEqual(['lock'])
  })

  it.each(['', 'sp1.', 'sj1.eyJh', 'sp1.eyJlbXMiOiJodHRwOi8vYSJ9', 'sp1.%%%', `sp1.${'A'.repeat(5_000)}`, 'rm -rf /'])('refuses %j as an invitation, before anything is made', async (invitation) => {
    const { directory, enrol } = await world()
    await expect(enrol(invitation)).rejects.toMatchObject({ code: 'invalid' })
    await expect(readdir(directory)).rejects.toMatchObject({ code: 'ENOENT' })
  })

  it.each<[string, (ems: EmsDouble, stranger: EmsDouble) => (reply: Record<string, unknown>) => Promise<Record<string, unknown>>]>([
    ['a certificate of a foreign CA', (ems, stranger) => async () => ({ certificate: await stranger.certify(String(ems.requests.at(-1)?.body.csr)) })],
    ['a certificate for another key', () => async () => ({ certificate: (await enrolledScene()).ems.certificates.values().next().value })],
    ['a certificate for another UID', () => async () => ({ uid: 'e'.repeat(32) })],
    ['a profile that a stranger signed', (_ems, stranger) => async () => ({ profile: await stranger.sign('profile', { profile: { id: '', name: '' }, policy: { id: '', name: '' }, settings: {} } as never) })],
    ['rules for somebody else', (ems) => async () => ({ rules: await ems.sign('rules', { revision: 0, conditions: [] }, { to: 'e'.repeat(32) }) })],
    ['no licence', () => () => Promise.resolve({ licence: 'a.b.c' })],
    ['no list of CAs', (ems) => async () => ({ authorities: await ems.sign('authorities', { certificates: [] }) })],
  ])('believes nothing of an answer with %s, and works when the EMS is right again', async (_what, make) => {
    const { ems, directory, enrol } = await world()
    const stranger = await startEmsDouble()
    onEnd(() => stranger.stop())
    ems.instead.set('enrol', changed(make(ems, stranger)))
    await expect(enrol()).rejects.toMatchObject({ code: 'bad_certificate' })
    expect(await readIdentity(directory)).toBeNull()
    ems.instead.clear()
    expect((await enrol()).uid).toBe(UID)
    expect((await keysAsked(ems)).size).toBe(1)
  })

  it('gets the same UID after a lost reply or a crash: the key is kept until it has an identity', async () => {
    const { ems, directory, enrol } = await world()
    ems.instead.set('enrol', async ({ usual }): Promise<Answer> => {
      await usual()
      return 'cut'
    })
    await expect(enrol()).rejects.toMatchObject({ code: 'busy' })
    expect((await readdir(directory)).filter((name) => name.endsWith('.key'))).toHaveLength(1)
    // As a crash leaves it: documents taken, an identity half written.
    await writeFile(join(directory, 'documents.json'), '{"half"')
    await writeFile(join(directory, 'identity.json.0123456789ab.tmp'), 'half')
    ems.instead.clear()
    await enrol()
    expect(ems.certificates.size).toBe(1)
    expect(await readdir(directory)).toEqual(['documents.json', 'identity.json', 'lock'])
  })

  it('asks with another key for another invitation: an EMS that refused the first must not know it', async () => {
    const { ems, enrol } = await world()
    ems.instead.set('enrol', () => refusal('invitation_refused'))
    await expect(enrol()).rejects.toMatchObject({ code: 'invitation_refused' })
    await expect(enrol(writeInvitation('sp1.', { ems: ems.address, pin: ems.cas[0]?.authority.pin ?? '', code: 'B'.repeat(43) }))).rejects.toMatchObject({ code: 'invitation_refused' })
    expect((await keysAsked(ems)).size).toBe(2)
  })

  it('is done once where two ask at the same instant, and never under a running agent', async () => {
    const { ems, enrol } = await world()
    const both = await Promise.allSettled([enrol(), enrol()])
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    expect(ems.count('enrol')).toBe(1)
    const scene = await enrolledScene()
    await scene.start()
    await expect(enrolAgent({ invitation: scene.ems.invitation, stateDirectory: scene.directory, tlsCa: [], ownerUid: 0, now: Date.now, log: silentLog() })).rejects.toThrow(/running already/)
  })

  it('begins anew after a deregistration, with nothing of the old enrolment', async () => {
    const scene = await enrolledScene()
    scene.ems.registered = false
    expect(await (await scene.start()).ended).toBe('deregistered')
    scene.ems.registered = true
    await enrolAgent({ invitation: scene.ems.invitation, stateDirectory: scene.directory, tlsCa: [scene.ems.tlsCa], ownerUid: 0, now: Date.now, log: silentLog() })
    expect(await readLetGo(scene.directory)).toBeNull()
    expect(JSON.parse(await readFile(join(scene.directory, 'identity.json'), 'utf8'))).toMatchObject({ uid: UID })
    expect(await readdir(scene.directory)).toEqual(['documents.json', 'identity.json', 'lock'])
  })
})
