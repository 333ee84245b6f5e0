// What a Node program keeps is private, whole, and never taken for absent when it is damaged.
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { exportPublicKey } from '../../identity/keys.ts'
import { keyInFile, readJson, readPrivateFile, writeJson, writePrivateFile } from '../../node/key-store.ts'

const shape = z.strictObject({ uid: z.string() })
const modeOf = async (path: string) => (await stat(path)).mode & 0o777

describe('the state directory', () => {
  let directory: string
  beforeEach(async () => { directory = await mkdtemp(join(tmpdir(), 'sallyport-store-')) })
  afterEach(() => rm(directory, { recursive: true, force: true }))

  it('is readable by its owner only, files and new directories', async () => {
    const path = join(directory, 'state', 'key.pem')
    await writePrivateFile(path, 'x')
    expect([await modeOf(path), await modeOf(join(directory, 'state'))]).toEqual([0o600, 0o700])
  })

  it('stays private when a file that others could read is replaced', async () => {
    const path = join(directory, 'key.pem')
    await writeFile(path, 'old', { mode: 0o644 })
    await writePrivateFile(path, 'new')
    expect([await modeOf(path), await readFile(path, 'utf8')]).toEqual([0o600, 'new'])
  })

  it('leaves nothing beside a file, whether it was written or could not be', async () => {
    await writePrivateFile(join(directory, 'a'), 'x')
    await expect(writePrivateFile(directory, 'x')).rejects.toThrow()
    expect(await readdir(directory)).toEqual(['a'])
    expect((await readdir(join(directory, '..'))).filter((name) => directory.endsWith(name.split('.')[0] ?? '') && name.endsWith('.tmp'))).toEqual([])
  })

  it('holds one whole version when many are written at once', async () => {
    const path = join(directory, 'state.json')
    const uids = Array.from({ length: 20 }, (_, index) => String(index).repeat(1000))
    await Promise.all(uids.map((uid) => writeJson(path, { uid })))
    expect(uids).toContain((await readJson(path, shape))?.uid)
    expect(await readdir(directory)).toEqual(['state.json'])
  })

  it('tells no file from a damaged one', async () => {
    const path = join(directory, 'state.json')
    expect([await readJson(path, shape), await readPrivateFile(path)]).toEqual([null, null])
    for (const damaged of ['', '{"uid":', '{"uid":1}', '{"uid":"a","more":1}']) {
      await writePrivateFile(path, damaged)
      await expect(readJson(path, shape)).rejects.toThrow('damaged')
    }
  })

  it('makes a key once and opens the same one from then on', async () => {
    const path = join(directory, 'agent.key')
    const made = await keyInFile(path)
    const opened = await keyInFile(path)
    expect(await exportPublicKey(opened.publicKey)).toEqual(await exportPublicKey(made.publicKey))
    await writePrivateFile(path, made.pem.slice(0, 60))
    await expect(keyInFile(path)).rejects.toThrow()
  })
})
