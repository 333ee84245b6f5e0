// The user's section: whose account, what they said, what the profile lets them say, and a picture that is one, and theirs.
import { execFileSync } from 'node:child_process'
import { chown, rm, symlink, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { createPictures, readPicture, type Picture } from '../../../agent/posture/pictures.ts'
import { readCommand } from '../../../agent/posture/read.ts'
import { collectUser, findAccount, parsePasswd, type UserProbe } from '../../../agent/posture/user.ts'
import { readSetting, readUserSaid, saveUserSaid, userFile } from '../../../agent/posture/user-said.ts'
import { UsageError } from '../../../node/config.ts'
import { silentLog } from '../../../node/logging.ts'
import { sections } from '../../../protocol/facts.ts'
import { Fault } from '../../../protocol/faults.ts'
import { closeAll, temporaryDirectory } from '../agent-under-test.ts'

afterEach(closeAll)
const PNG = Buffer.from('89504e470d0a1a0a00', 'hex')
const own = userInfo().uid
const everything = ['fullName', 'email', 'phone', 'avatar', 'socialIds'] as const

async function user(said: unknown, over: Partial<UserProbe> = {}) {
  const stateDirectory = await temporaryDirectory()
  if (said !== undefined) await writeFile(userFile(stateDirectory), typeof said === 'string' ? said : JSON.stringify(said))
  const troubles: unknown[] = []
  const value = await collectUser({ root: '/', stateDirectory, ownerUid: own, maySet: () => [...everything], pictures: { read: () => Promise.resolve('a'.repeat(64)), deliver: () => Promise.resolve() }, run: readCommand, onUnreadable: (cause) => troubles.push(cause), ...over })
  return { value: sections.user.parse(value), troubles }
}

describe('the account', () => {
  const passwd = 'root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000:Ada Lovelace,,,:/home/ada:/bin/sh\nevil\u001b:x:1001:1001:\u202eEvil:/:/bin/sh\nshort:x:1002\nno-number:x:abc:1:x:/:/bin/sh\n'
  it('is read by number and by name, with the full name', () => {
    expect(parsePasswd(passwd, 1000)).toEqual({ uid: 1000, account: 'ada', fullName: 'Ada Lovelace' })
    expect(parsePasswd(passwd, 'ada')?.uid).toBe(1000)
    expect(parsePasswd(passwd, 1001)).toEqual({ uid: 1001, account: 'evil', fullName: 'Evil' })
    expect([parsePasswd(passwd, 1002), parsePasswd(passwd, 'no-number'), parsePasswd(passwd, 7), parsePasswd('', 0), parsePasswd(passwd, '1000')]).toEqual([null, null, null, null, null])
  })
  it('is asked of the system where the file does not have it, and not taken from the agent\'s own', async () => {
    const root = await temporaryDirectory()
    const asked: string[][] = []
    const run = (file: string, args: readonly string[]) => {
      asked.push([file, ...args])
      return Promise.resolve('grace:*:5000:5000:Grace Hopper:/home/grace:/bin/sh\n')
    }
    expect(await findAccount(root, 5000, run)).toMatchObject({ account: 'grace', fullName: 'Grace Hopper' })
    expect(asked).toEqual([['getent', 'passwd', '--', '5000']])
    expect((await user(undefined, { root, ownerUid: 5_000_000, run: () => Promise.resolve(null) })).value).toEqual({ account: '5000000' })
    expect((await user(undefined, { root, run: () => Promise.resolve(null) })).value.account).toBe(userInfo().username)
  })
})

describe('what a user says', () => {
  it('is reported as far as the profile lets them', async () => {
    const said = { fullName: 'Ada', email: 'ada@example.com', phone: '+44 1', socialIds: [{ service: 'github', accountId: 'ada' }], avatarFile: '/x.png' }
    expect((await user(said)).value).toMatchObject({ fullName: 'Ada', email: 'ada@example.com', phone: '+44 1', socialIds: said.socialIds, avatarFingerprint: 'a'.repeat(64) })
    const silenced = (await user(said, { maySet: () => [] })).value
    expect(Object.keys(silenced).filter((name) => !['account', 'fullName'].includes(name))).toEqual([])
    expect(silenced.fullName).not.toBe('Ada')
  })
  it.each(['', '{', 'null', '[]', '"x"', '{"fullName":7}', '{"email":"nobody"}', '{"surprise":1}', '{"fullName":"a\\u0000b"}', '{"fullName":"\\ud83d"}', '{"socialIds":[{}]}', `{"fullName":"${'x'.repeat(300)}"}`])('in a file edited by hand into %s leaves the account, and is said', async (text) => {
    const { value, troubles } = await user(text)
    expect(value.account).toBe(userInfo().username)
    expect(value.email).toBeUndefined()
    expect(troubles).toHaveLength(1)
    expect(String(troubles[0])).toMatch(/damaged; move it away/)
  })

  it('is read from the command line, member by member', () => {
    expect(readSetting('fullName=Ada = Lovelace')).toEqual({ member: 'fullName', value: 'Ada = Lovelace' })
    expect(readSetting('social=github:ada,mastodon:ada@example.org:1')).toEqual({ member: 'socialIds', value: [{ service: 'github', accountId: 'ada' }, { service: 'mastodon', accountId: 'ada@example.org:1' }] })
    expect(readSetting('avatar=me.png').value).toBe(join(process.cwd(), 'me.png'))
    expect(readSetting('phone=')).toEqual({ member: 'phone', value: null })
    for (const wrong of ['', 'fullName', '=x', 'name=x', 'email=nobody', 'phone=drop table', 'social=github', 'social=:x', `fullName=${'x'.repeat(300)}`, 'fullName=a\u001b[31m']) expect(() => readSetting(wrong), wrong).toThrow(UsageError)
  })
  it('is kept beside what was said before, and taken back by an empty value', async () => {
    const directory = await temporaryDirectory()
    await saveUserSaid(directory, ['email=ada@example.com', 'social=github:ada', 'avatar=/x.png'].map(readSetting))
    await saveUserSaid(directory, ['phone=1', 'social=', 'avatar='].map(readSetting))
    expect(await readUserSaid(directory)).toEqual({ email: 'ada@example.com', phone: '1' })
    await expect(saveUserSaid(directory, ['email=a@b.cd', 'email=c@d.ef'].map(readSetting))).rejects.toThrow(/email is said twice/)
    await expect(saveUserSaid(directory, ['social=a:b', 'social=c:d'].map(readSetting))).rejects.toThrow(/Several accounts go into one/)
    expect((await readUserSaid(directory)).email).toBe('ada@example.com')
  })
})

describe('a picture', () => {
  it('is a PNG or JPEG of at most 48 KiB, and nothing else is', async () => {
    const directory = await temporaryDirectory()
    const at = (name: string) => join(directory, name)
    await writeFile(at('png'), PNG)
    await writeFile(at('jpeg'), Buffer.from('ffd8ffe0', 'hex'))
    await writeFile(at('largest'), Buffer.concat([PNG, Buffer.alloc(48 * 1024 - PNG.length)]))
    await writeFile(at('larger'), Buffer.concat([PNG, Buffer.alloc(48 * 1024 - PNG.length + 1)]))
    await writeFile(at('text'), 'hello')
    await writeFile(at('svg'), '<svg onload="alert(1)"/>')
    await writeFile(at('empty'), '')
    execFileSync('mkfifo', [at('pipe')])
    const kind = async (path: string) => (await readPicture(path, own))?.mediaType ?? null
    expect(await Promise.all(['png', 'jpeg', 'largest'].map((name) => kind(at(name))))).toEqual(['image/png', 'image/jpeg', 'image/png'])
    expect(await Promise.all(['larger', 'text', 'svg', 'empty', 'pipe', 'gone', '.', 'png/below', 'x'.repeat(300)].map((name) => kind(at(name))))).toEqual(Array.from({ length: 9 }, () => null))
    expect(await Promise.all(['/dev/zero', '/dev/tty', '/proc/self/mem'].map(kind))).toEqual([null, null, null])
  })

  it('of somebody else is not published through a link, where the agent may read more than the user', async ({ skip }) => {
    if (process.getuid?.() !== 0) return skip('needs root: only then does the agent read more than its user')
    const directory = await temporaryDirectory()
    const [secret, link, mine] = ['secret.png', 'me.png', 'mine.png'].map((name) => join(directory, name)) as [string, string, string]
    await writeFile(secret, PNG, { mode: 0o600 })
    await symlink(secret, link)
    await writeFile(mine, PNG)
    await chown(mine, 1234, 1234)
    expect(await readPicture(link, 1234)).toBeNull()
    expect((await readPicture(mine, 1234))?.mediaType).toBe('image/png')
    expect((await readPicture(link, 0))?.mediaType).toBe('image/png')
  })

  async function offered(put: (picture: Picture) => Promise<unknown>) {
    const path = join(await temporaryDirectory(), 'me.png')
    await writeFile(path, PNG)
    let refused = 0
    const puts: string[] = []
    const pictures = createPictures({ ownerUid: own, log: silentLog(), onRefused: () => { refused++ }, put: (picture) => { puts.push(picture.fingerprint); return put(picture) } })
    const fingerprint = await pictures.read(path) ?? ''
    return { path, pictures, fingerprint, puts, refusals: () => refused }
  }
  it('is handed over once, and again after a failure that is not its fault', async () => {
    let away = true
    const { pictures, fingerprint, puts, refusals } = await offered(() => (away ? Promise.reject(new Fault('busy', 'away')) : Promise.resolve()))
    await expect(pictures.deliver(fingerprint)).rejects.toMatchObject({ code: 'busy' })
    away = false
    await pictures.deliver(fingerprint)
    await pictures.deliver(fingerprint)
    expect([puts.length, refusals()]).toEqual([2, 0])
  })
  it('that the EMS does not take is left out, and not offered again', async () => {
    const { path, pictures, fingerprint, puts, refusals } = await offered(() => Promise.reject(new Fault('internal', 'no')))
    await expect(pictures.deliver(fingerprint)).rejects.toMatchObject({ code: 'internal' })
    await expect(pictures.deliver(fingerprint)).rejects.toMatchObject({ code: 'invalid' })
    expect([puts.length, refusals(), await pictures.read(path)]).toEqual([1, 1, null])
    await rm(path)
    expect(await pictures.read(path)).toBeNull()
  })
})
