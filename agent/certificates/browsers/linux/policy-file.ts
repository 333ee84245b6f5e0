// Policy files of browsers: JSON that belongs to the machine's administrator as well. They are readable by all, replaced whole, and never overwritten when they can't be read.
import { randomBytes } from 'node:crypto'
import { chmod, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { systemFailure } from '../../../failure.ts'
import { StoreFailure } from '../browser-store.ts'

export const jsonObject = z.record(z.string(), z.unknown())
export type JsonObject = z.infer<typeof jsonObject>

/** What stands in a policy file; null when there is none. Throws a `StoreFailure` when it is no JSON object. */
export async function readPolicyFile(path: string): Promise<JsonObject | null> {
  let text
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT' || (cause as NodeJS.ErrnoException).code === 'ENOTDIR') return null
    throw failureOf(path, cause)
  }
  try {
    const read = jsonObject.safeParse(JSON.parse(text))
    if (read.success) return read.data
  } catch (cause) {
    throw new StoreFailure(`${path} is not JSON; it is left as it is.`, { cause })
  }
  throw new StoreFailure(`${path} holds no JSON object; it is left as it is.`)
}

/** Replaces a policy file, or removes it (null). Throws a `StoreFailure` where this account may not. */
export async function writePolicyFile(path: string, content: JsonObject | null): Promise<void> {
  // One directory up: Chromium reads whatever lies beside the file, half-written or left by a crash.
  const beside = join(dirname(dirname(path)), `.${randomBytes(6).toString('hex')}.sallyport.tmp`)
  try {
    if (content === null) return await rm(path, { force: true })
    await mkdir(dirname(path), { recursive: true, mode: 0o755 })
    await writeFile(beside, `${JSON.stringify(content, null, 2)}\n`, { flag: 'wx' })
    await chmod(beside, 0o644)
    await rename(beside, path)
  } catch (cause) {
    await rm(beside, { force: true }).catch(() => undefined) // the first failure is the one to tell
    throw failureOf(path, cause)
  }
}

function failureOf(path: string, cause: unknown): unknown {
  const reason = systemFailure(cause)
  return reason === null ? cause : new StoreFailure(`${path}: ${reason}`, { cause })
}
