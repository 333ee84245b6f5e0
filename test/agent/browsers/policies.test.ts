// Policy files of browsers: ours beside the administrator's, never instead of them, and gone without a trace.
import { mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { parseProfiles } from '../../../agent/certificates/browsers/linux/find-databases.ts'
import { linuxStores } from '../../../agent/certificates/browsers/linux/stores.ts'

const [UID, OTHER] = ['a'.repeat(32), 'b'.repeat(32)]
const own = (uid: string, pattern: string) => JSON.stringify({ pattern, filter: { SUBJECT: { CN: uid } } })
const theirs = JSON.stringify({ pattern: 'https://legacy.corp.test', filter: { ISSUER: { CN: 'Other CA' } } })

describe('policies of browsers', () => {
  let root: string
  const chromium = () => join(root, 'etc/chromium/policies/managed')
  const firefox = () => join(root, 'etc/firefox/policies/policies.json')
  const select = (hosts: string[], uid = UID) => linuxStores({ uid: 0, gid: 0, account: 'root', home: root }, root).select(uid, hosts)
  const readOwn = async (directory = chromium()) => (JSON.parse(await readFile(join(directory, 'zz-sallyport.json'), 'utf8')) as { AutoSelectCertificateForUrls: string[] }).AutoSelectCertificateForUrls
  const readFirefox = async () => JSON.parse(await readFile(firefox(), 'utf8')) as unknown
  const writeFirefox = async (content: unknown) => {
    await mkdir(join(root, 'etc/firefox/policies'), { recursive: true })
    await writeFile(firefox(), typeof content === 'string' ? content : JSON.stringify(content))
  }
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'policies-'))
  })
  afterEach(() => rm(root, { recursive: true }))

  it('name our hosts only, for every browser that is there, readable by all; and go', async () => {
    await mkdir(join(root, 'etc/opt/chrome'), { recursive: true })
    expect(await select(['wiki.corp.test', '*.apps.test'])).toEqual([])
    for (const directory of [chromium(), join(root, 'etc/opt/chrome/policies/managed')]) expect(await readOwn(directory)).toEqual([own(UID, 'https://wiki.corp.test'), own(UID, 'https://[*.]apps.test')])
    expect(await readdir(join(root, 'etc/opt'))).toEqual(['chrome'])
    for (const path of [join(chromium(), 'zz-sallyport.json'), firefox()]) expect((await stat(path)).mode & 0o777).toBe(0o644)
    expect(await select([])).toEqual([])
    expect([await readdir(chromium()), await readdir(join(root, 'etc/firefox/policies'))]).toEqual([[], []])
  })

  it('of an administrator hold on beside ours: of two Chromium files only the last counts, so it repeats them', async () => {
    await mkdir(chromium(), { recursive: true })
    await writeFile(join(chromium(), 'company.json'), JSON.stringify({ HomepageLocation: 'https://corp.test', AutoSelectCertificateForUrls: [theirs] }))
    await writeFile(join(chromium(), 'broken'), '{')
    await select(['wiki.corp.test'])
    await select(['other.corp.test'], OTHER)
    expect((await readOwn()).sort()).toEqual([theirs, own(UID, 'https://wiki.corp.test'), own(OTHER, 'https://other.corp.test')].sort())
    // What is no longer said elsewhere is not said here either; what somebody made of our file is undone.
    await writeFile(join(chromium(), 'company.json'), JSON.stringify({ HomepageLocation: 'https://corp.test' }))
    await select(['wiki.corp.test'])
    expect((await readOwn()).sort()).toEqual([own(UID, 'https://wiki.corp.test'), own(OTHER, 'https://other.corp.test')].sort())
    await writeFile(join(chromium(), 'zz-sallyport.json'), '{')
    await select(['wiki.corp.test'])
    expect((await readOwn()).sort()).toEqual([own(UID, 'https://wiki.corp.test'), own(OTHER, 'https://other.corp.test')].sort())
    await select([], OTHER)
    expect(await readOwn()).toEqual([own(UID, 'https://wiki.corp.test')])
    await select([])
    expect(await readdir(chromium())).toEqual(['broken', 'company.json'])
  })

  it('of several agents that write at once end with what each wants', async () => {
    const uids = Array.from({ length: 6 }, (_, n) => String(n).repeat(32))
    for (let round = 0; round < 5; round++) {
      await Promise.all(uids.map((uid, n) => select(n % 2 === round % 2 ? ['wiki.corp.test'] : [], uid)))
      expect((await readOwn()).sort()).toEqual(uids.filter((_, n) => n % 2 === round % 2).map((uid) => own(uid, 'https://wiki.corp.test')))
    }
    await Promise.all(uids.map((uid) => select([], uid)))
    expect(await readdir(chromium())).toEqual([])
  })

  it('of an administrator stand in Firefox\'s file as before, when ours comes and when it goes', async () => {
    const before = { policies: { DisableTelemetry: true, Preferences: { 'browser.startup.page': { Value: 3 } } } }
    await writeFirefox(before)
    await select(['wiki.corp.test'])
    expect(await readFirefox()).toEqual({
      sallyport: { sets: ['security.default_personal_cert'] },
      policies: { DisableTelemetry: true, Preferences: { 'browser.startup.page': { Value: 3 }, 'security.default_personal_cert': { Value: 'Select Automatically', Status: 'locked' } } },
    })
    await select([])
    expect(await readFirefox()).toEqual(before)
  })

  it('of an administrator win where they are about the same, and what can not be read is left and said', async () => {
    const decided = { policies: { Preferences: { 'security.default_personal_cert': { Value: 'Ask Every Time' } } } }
    await writeFirefox(decided)
    expect(await select(['wiki.corp.test'])).toEqual([])
    expect(await readFirefox()).toEqual(decided)
    await writeFirefox('{"policies": ')
    expect(await select(['wiki.corp.test'])).toEqual([`${firefox()} is not JSON; it is left as it is.`])
    expect(await readFile(firefox(), 'utf8')).toBe('{"policies": ')
    expect(await readOwn()).toEqual([own(UID, 'https://wiki.corp.test')])
  })
})

describe('profiles of Firefox', () => {
  it('are those of profiles.ini, relative or absolute, and nothing else', () => {
    const text = '[Install4F96D1932A9F858E]\nDefault=x.default\nLocked=1\n\n[Profile1]\r\nName=b\r\nIsRelative=0\r\nPath=/srv/b\r\n\n[Profile0]\nName=a\nPath=x.default\n[General]\nPath=no\n'
    expect(parseProfiles(text, '/home/ann/.mozilla/firefox')).toEqual(['/srv/b', '/home/ann/.mozilla/firefox/x.default'])
  })
})
