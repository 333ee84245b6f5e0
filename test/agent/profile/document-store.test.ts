// The documents an agent obeys: only those of its EMS, whole, to it, and newer than what it holds.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { claimedKind, openDocumentStore } from '../../../agent/profile/document-store.ts'
import { followDocuments, type FollowOptions } from '../../../agent/profile/follow-documents.ts'
import { createTroubles } from '../../../agent/troubles.ts'
import { silentLog } from '../../../node/logging.ts'
import { Fault } from '../../../protocol/faults.ts'
import { profileSettings } from '../../../protocol/profile.ts'
import { closeAll, temporaryDirectory } from '../agent-under-test.ts'
import { startEmsDouble, UID, type EmsDouble } from '../ems-double.ts'

const NOBODY = 'f'.repeat(32)
const seated = { state: 'seated' as const, features: ['all'], endsAt: null }
const profile = (userMaySet: ('phone' | 'email')[] = []) => ({ profile: { id: '00000000-0000-4000-8000-000000000001', name: 'p' }, policy: { id: '00000000-0000-4000-8000-000000000002', name: 'q' }, settings: profileSettings.parse({ userMaySet }) })

let ems: EmsDouble
let stranger: EmsDouble
beforeAll(async () => {
  ;[ems, stranger] = await Promise.all([startEmsDouble(), startEmsDouble()])
})
afterAll(async () => {
  await Promise.all([ems.stop(), stranger.stop()])
})
afterEach(closeAll)

async function opened() {
  const file = join(await temporaryDirectory(), 'documents.json')
  const store = await openDocumentStore({ file, uid: UID, now: Date.now })
  await store.believe(ems.cas.map(({ authority }) => authority.certificatePem))
  const changes: string[] = []
  store.onChange((kind) => changes.push(kind))
  return { file, store, changes }
}

describe('a document', () => {
  it('that is right is applied, kept, and there after a restart', async () => {
    const { file, store, changes } = await opened()
    expect(await store.take(await ems.sign('profile', profile(['phone']), { version: 7 }))).toEqual({ ok: true, kind: 'profile' })
    expect(changes).toEqual(['profile'])
    expect(store.settings().userMaySet).toEqual(['phone'])
    const again = await openDocumentStore({ file, uid: UID, now: Date.now })
    expect(again.versions()).toEqual({ profile: 7, rules: 0, licence: 0, authorities: 0 })
    expect(again.settings().userMaySet).toEqual(['phone'])
    expect(again.authorities()).toEqual(store.authorities())
  })

  it.each<[string, string, () => Promise<string>]>([
    ['of a stranger', 'foreign', () => stranger.sign('profile', profile())],
    ['altered by one bit', 'altered', async () => (await ems.sign('profile', profile())).replace(/.$/, (last) => (last === 'A' ? 'Q' : 'A'))],
    ['with another payload', 'altered', async () => {
      const [[header, , signature], [, payload]] = [(await ems.sign('profile', profile())).split('.'), (await ems.sign('profile', profile(['email']))).split('.')]
      return [header, payload, signature].join('.')
    }],
    ['to somebody else', 'misaddressed', () => ems.sign('profile', profile(), { to: NOBODY })],
    ['to everybody', 'misaddressed', () => ems.sign('profile', profile(), { to: '*' })],
    ['older than what is held', 'older', () => ems.sign('profile', profile(), { version: 4 })],
    ['as old as what is held', 'older', () => ems.sign('profile', profile(['email']), { version: 5 })],
    ['that is an introduction', 'not-standing', () => ems.sign('introduction', { challenge: '0'.repeat(64), authority: 'x', emsSerial: 'x', emsTime: 1, certificates: [] })],
    ['that is no JWS', 'malformed', () => Promise.resolve('a.b.c')],
    ['that is empty', 'malformed', () => Promise.resolve('')],
    ['with settings that are none', 'malformed', () => ems.sign('profile', { ...profile(), settings: { proxy: 'everywhere' } as never })],
    ['with more conditions than an agent takes', 'malformed', () => ems.sign('rules', { revision: 1, conditions: Array.from({ length: 1001 }, (_, n) => ({ key: `ck_${n}`, condition: { type: 'file', negate: false } })) })],
    ['from the end of time', 'malformed', () => ems.sign('profile', profile(), { version: Number.MAX_SAFE_INTEGER })],
    ['with a list of CAs that holds none', 'malformed', () => ems.sign('authorities', { certificates: [] })],
    ['with a list of CAs of which one is none', 'malformed', () => ems.sign('authorities', { certificates: [ems.cas[0]?.authority.certificatePem ?? '', 'hello'] })],
  ])('%s is refused as %s and changes nothing', async (_what, reason, make) => {
    const { file, store, changes } = await opened()
    await store.take(await ems.sign('profile', profile(['phone']), { version: 5 }))
    changes.length = 0
    const before = await readFile(file, 'utf8')
    expect(await store.take(await make())).toEqual({ ok: false, reason })
    expect(changes).toEqual([])
    expect(store.settings().userMaySet).toEqual(['phone'])
    expect(await readFile(file, 'utf8')).toBe(before)
  })

  it('of one kind in the clothes of another is refused', async () => {
    const { store } = await opened()
    const [, payload, signature] = (await ems.sign('licence', seated)).split('.')
    const [header] = (await ems.sign('profile', profile())).split('.')
    expect(await store.take([header, payload, signature].join('.'))).toEqual({ ok: false, reason: 'altered' })
  })

  it('of which two come at once leaves the newer, whichever comes first', async () => {
    const { store } = await opened()
    const [older, newer] = [await ems.sign('profile', profile(['phone']), { version: 5 }), await ems.sign('profile', profile(['email']), { version: 6 })]
    expect(await Promise.all([store.take(newer), store.take(older), store.take(newer)])).toEqual([{ ok: true, kind: 'profile' }, { ok: false, reason: 'older' }, { ok: false, reason: 'older' }])
    expect(store.settings().userMaySet).toEqual(['email'])
  })

  it('of a new CA is believed after the old one has introduced it, not before', async () => {
    const mine = await startEmsDouble()
    const file = join(await temporaryDirectory(), 'documents.json')
    const store = await openDocumentStore({ file, uid: UID, now: Date.now })
    await store.believe(mine.cas.map(({ authority }) => authority.certificatePem))
    await mine.roll()
    const document = await mine.sign('licence', seated)
    expect(await store.take(document)).toEqual({ ok: false, reason: 'foreign' })
    expect(await store.take(await mine.signAuthorities())).toEqual({ ok: true, kind: 'authorities' })
    expect(store.trusted()).toHaveLength(2)
    expect(await store.take(document)).toEqual({ ok: true, kind: 'licence' })
    await mine.stop()
  })

  it('that ends the enrolment is handed on, not kept', async () => {
    const { file, store, changes } = await opened()
    const before = await readFile(file, 'utf8')
    expect(await store.take(await ems.signDeregistration('sold'))).toEqual({ ok: true, kind: 'deregistration', reason: 'sold' })
    expect(await store.take(await stranger.signDeregistration())).toEqual({ ok: false, reason: 'foreign' })
    expect(await store.take(await ems.sign('deregistration', { reason: '' }, { to: NOBODY }))).toEqual({ ok: false, reason: 'misaddressed' })
    expect([changes, await readFile(file, 'utf8')]).toEqual([[], before])
  })

  it('is not taken any more when the store has been closed, so that nothing comes back after letting go', async () => {
    const { store } = await opened()
    const document = await ems.sign('licence', seated)
    await store.close()
    expect(await store.take(document)).toEqual({ ok: false, reason: 'closed' })
  })

  it('claims a kind only by its header', async () => {
    expect(claimedKind(await ems.sign('licence', seated))).toBe('licence')
    for (const text of ['', '...', 'bnVsbA.x.y', 'e30.x.y', `${Buffer.from('{"typ":"sallyport-everything+jws"}').toString('base64url')}.x.y`]) expect(claimedKind(text)).toBeNull()
  })

  it('file that is damaged is said to be so', async () => {
    const file = join(await temporaryDirectory(), 'documents.json')
    await writeFile(file, '{"profile":{"version":"new"}}')
    await expect(openDocumentStore({ file, uid: UID, now: Date.now })).rejects.toThrow(/is damaged; move it away/)
  })
})

describe('following documents', () => {
  async function following(over: Partial<FollowOptions> = {}) {
    const { store, changes } = await opened()
    const asked: object[] = []
    const answers: { documents: () => Promise<string[]> } = { documents: () => Promise.resolve([]) }
    const troubles = createTroubles(silentLog(), () => 0)
    const ended: string[] = []
    const followed = followDocuments({
      store, troubles, log: silentLog(), onDeregistration: (reason) => ended.push(reason), onFault: () => Promise.resolve(), onDefect: (cause) => { throw cause },
      fetch: async (have) => {
        asked.push(have)
        return await answers.documents()
      },
      introduce: () => Promise.reject(new Fault('not_found', 'not asked')), ...over,
    })
    return { store, changes, asked, answers, troubles, ended, followed }
  }
  const all = (version: number) => ({ profile: version, rules: version, licence: version, authorities: 0 })

  it('fetches what is newer once, and a kind of which there is none not again', async () => {
    const { followed, asked, answers, changes } = await following()
    answers.documents = async () => [await ems.sign('licence', seated, { version: 9 })]
    followed.note(all(9))
    followed.note(all(9)) // while it is under way
    await followed.settled()
    followed.note(all(9))
    await followed.settled()
    expect(asked).toEqual([{ profile: 0, rules: 0, licence: 0, authorities: 0 }])
    expect(changes).toEqual(['licence'])
    followed.note(all(10))
    await followed.settled()
    expect(asked).toHaveLength(2)
  })

  it('asks again after a refusal, says so, and is content when it is mended', async () => {
    const { followed, asked, answers, troubles } = await following()
    answers.documents = async () => [await stranger.sign('licence', seated, { version: 9 })]
    followed.note(all(9))
    await followed.settled()
    expect(troubles.all().map(({ kind }) => kind)).toEqual(['documents'])
    expect(asked).toHaveLength(2) // once for what is newer, once for who signs now
    answers.documents = async () => [await ems.sign('licence', seated, { version: 9 })]
    followed.note(all(9))
    await followed.settled()
    expect(troubles.all()).toEqual([])
  })

  it('hands on the faults that are not its own, and asks with the next report', async () => {
    const faults: string[] = []
    const { followed, answers, asked } = await following({ onFault: ({ code }) => Promise.resolve(faults.push(code)) })
    answers.documents = () => Promise.reject(new Fault('certificate_expired', 'expired'))
    followed.note(all(9))
    await followed.settled()
    followed.note(all(9))
    await followed.settled()
    expect(faults).toEqual(['certificate_expired', 'certificate_expired'])
    expect(asked).toHaveLength(2)
  })

  it('tells of the end of the enrolment, whoever brings it, and of nobody else\'s', async () => {
    const { followed, ended } = await following()
    await followed.take(await stranger.signDeregistration())
    await followed.take(await ems.sign('deregistration', { reason: '' }, { to: NOBODY }))
    expect(ended).toEqual([])
    await followed.take(await ems.signDeregistration('sold'))
    expect(ended).toEqual(['sold'])
  })
})
