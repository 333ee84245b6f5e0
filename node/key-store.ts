// Private files of a Node program: readable by their owner only, replaced whole or not at all. It knows no format but JSON and PEM text.
import { randomBytes } from 'node:crypto'
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { z } from 'zod'
import { exportPrivateKey, generateKey, importPrivateKey } from '../identity/keys.ts'

/** The text of a file; null when there is none. */
export async function readPrivateFile(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw cause
  }
}

/** Writes beside, flushes to disk, then renames: a crash leaves the old file or the new one. Directories are made 0700, files 0600. */
export async function writePrivateFile(path: string, content: string | Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const beside = `${path}.${randomBytes(6).toString('hex')}.tmp`
  try {
    const file = await open(beside, 'wx', 0o600)
    try {
      await file.writeFile(content)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(beside, path)
  } catch (cause) {
    await rm(beside, { force: true })
    throw cause
  }
}

export const removePrivateFile = (path: string): Promise<void> => rm(path, { force: true })

/** Reads JSON by its schema; null when there is no file. Throws when it is there but not of that shape: state that can't be read must not look like none. */
export async function readJson<S extends z.ZodType>(path: string, schema: S): Promise<z.output<S> | null> {
  const text = await readPrivateFile(path)
  if (text === null) return null
  const parsed = schema.safeParse(parse(text))
  if (!parsed.success) throw new Error(`${path} is damaged; move it away to begin anew`, { cause: parsed.error })
  return parsed.data
}

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // truncated or not JSON: no schema takes undefined, so the caller reports the file as damaged
  }
}

/** What {@link writeJson} writes. */
export const jsonText = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`
export const writeJson = (path: string, value: unknown): Promise<void> => writePrivateFile(path, jsonText(value))

/** Opens the key in a file, or makes it there before anything is done with it: a key that was used is never lost. */
export async function keyInFile(path: string): Promise<CryptoKeyPair & { pem: string }> {
  const kept = await readPrivateFile(path)
  if (kept !== null) return { ...await importPrivateKey(kept), pem: kept }
  const keys = await generateKey(true)
  const pem = await exportPrivateKey(keys.privateKey)
  await writePrivateFile(path, pem)
  return { privateKey: keys.privateKey, publicKey: keys.publicKey, pem }
}
