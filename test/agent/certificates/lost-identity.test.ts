// The file with key and certificate lost or damaged, under a running agent and before a start: nobody has to enrol anew.
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { readIdentity } from '../../../agent/certificates/identity-store.ts'
import { writePrivateFile } from '../../../node/key-store.ts'
import { systemTimers } from '../../../node/timers.ts'
import { closeAll, enrolledScene, happened, reported } from '../agent-under-test.ts'

afterEach(closeAll)

const damages: [string, (path: string) => Promise<void>][] = [
  ['is gone', (path) => rm(path)],
  ['is empty', (path) => writePrivateFile(path, '')],
  ['is cut off', async (path) => writePrivateFile(path, (await readFile(path, 'utf8')).slice(0, 700))],
  ['holds a certificate that can not be read', async (path) => writePrivateFile(path, (await readFile(path, 'utf8')).replace(/(certificatePem": "-----BEGIN CERTIFICATE-----\\n)[A-Za-z0-9+/]{20}/, '$1AAAAAAAAAAAAAAAAAAAA'))],
  ['holds a key that can not be read', async (path) => writePrivateFile(path, (await readFile(path, 'utf8')).replace(/(BEGIN PRIVATE KEY-----\\n)[A-Za-z0-9+/]{20}/, '$1AAAAAAAAAAAAAAAAAAAA'))],
]
const paths = (directory: string) => ({ file: join(directory, 'identity.json'), copy: join(directory, 'identity.copy.json') })

describe.each(damages)('an identity file that %s', (_what, damage) => {
  it('is put back from its copy at the next start, and so is the copy', async () => {
    const scene = await enrolledScene()
    const agent = await scene.start()
    const { uid } = agent
    await agent.close()
    const { file, copy } = paths(scene.directory)
    const whole = await readFile(file, 'utf8')
    for (const path of [file, copy]) {
      await damage(path)
      const again = await scene.start()
      expect(again.uid).toBe(uid)
      expect([await readFile(file, 'utf8'), await readFile(copy, 'utf8')]).toEqual([whole, whole])
      await again.close()
    }
    expect(scene.ems.count('renew')).toBe(0)
  })

  it('is put back under a running agent within a minute', async () => {
    const scene = await enrolledScene()
    // Of all timers, the looks of every minute come at once.
    await scene.start({ timers: { after: (delayMs, action) => systemTimers.after(delayMs === 60_000 ? 50 : delayMs, action) } })
    await reported(scene)
    const { file, copy } = paths(scene.directory)
    const whole = await readFile(file, 'utf8')
    await damage(file)
    await happened('the file', async () => await readFile(file, 'utf8').catch(() => '') === whole)
    await damage(copy)
    await happened('the copy', async () => await readFile(copy, 'utf8').catch(() => '') === whole)
    expect(scene.lines.some(({ event }) => event === 'identity-restored')).toBe(true)
  })
})

describe('an identity', () => {
  it('of which neither file can be read says which, and does not look like none', async () => {
    const scene = await enrolledScene()
    await (await scene.start()).close()
    const { file, copy } = paths(scene.directory)
    await writePrivateFile(file, 'x')
    await writePrivateFile(copy, 'y')
    await expect(scene.start()).rejects.toThrow(/identity\.(copy\.)?json is damaged/)
  })

  it('whose renewal left a key that can not be read renews by another', async () => {
    const scene = await enrolledScene()
    const before = (await readIdentity(scene.directory))?.serial
    await writePrivateFile(join(scene.directory, 'renewing.key'), 'half a k')
    let expired = true
    scene.ems.instead.set('report', async ({ usual }) => (expired ? { status: 401, json: { type: 'urn:sallyport:fault:certificate_expired', title: '', status: 401, code: 'certificate_expired', detail: '' } } : await usual()))
    scene.ems.instead.set('renew', async ({ usual }) => {
      expired = false
      return await usual()
    })
    await scene.start()
    await reported(scene)
    expect((await readIdentity(scene.directory))?.serial).not.toBe(before)
  })

  it('is gone from both files when the machine is deregistered', async () => {
    const scene = await enrolledScene()
    const agent = await scene.start()
    await reported(scene)
    scene.ems.registered = false
    await agent.checkNow()
    expect(await agent.ended).toBe('deregistered')
    const { file, copy } = paths(scene.directory)
    for (const path of [file, copy]) await expect(readFile(path)).rejects.toThrow(/ENOENT/)
  })
})
