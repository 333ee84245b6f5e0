// What agent-side conditions may ask of this machine: files and running programs with their hashes, certificates, the registry. A look that hangs is given up, never waited for.
import { createHash } from 'node:crypto'
import { stat } from 'node:fs/promises'
import type { BigIntStats } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import type { Device, FileFacts } from '../../domain/tagging/device.ts'
import type { Timers } from '../../node/timers.ts'
import { listProcesses } from './linux/processes.ts'
import { openForeign, tellsOfFile } from './read.ts'

const SETTLED_MS = 2_000
/** Larger files are not hashed: their hash is unknown. */
const MAX_HASHED_BYTES = 1024n * 1024n * 1024n
/** A dead network mount answers never. One condition that asks there must not keep the others from being answered. */
const LOOK_LIMIT_MS = 5_000
/** Reading a gigabyte takes a while, and so does a store of thousands of certificates. */
const HASH_LIMIT_MS = 30_000
const STORE_LIMIT_MS = 60_000
const MOST_HASHES = 1_000

const signatureOf = ({ dev, ino, size, ctimeNs }: BigIntStats): string => `${dev}:${ino}:${size}:${ctimeNs}`

/** The hash of the very file that was looked at; null when it can't be read, or is another by now. */
async function hashFile(path: string, signature: string): Promise<string | null> {
  const handle = await openForeign(path)
  if (handle === null) return null
  try {
    const facts = await handle.stat({ bigint: true })
    if (!facts.isFile() || signatureOf(facts) !== signature) return null
    const hash = createHash('sha256')
    for await (const chunk of handle.createReadStream({ autoClose: false })) hash.update(chunk as Buffer)
    // Written while it was read: neither the old content nor the new.
    return signatureOf(await handle.stat({ bigint: true })) === signature ? hash.digest('hex') : null
  } catch (cause) {
    if (tellsOfFile(cause)) return null
    throw cause
  } finally {
    await handle.close()
  }
}

/** A device that remembers hashes as long as a file is the same by number, size and change time (ctime, which its owner can't set back). */
export function createDevice({ root, now, timers, statFile = (path) => stat(path, { bigint: true }), certificates, registryValue }: {
  root: string; now: () => number; timers: Timers; statFile?: (path: string) => Promise<BigIntStats>
  /** As far as this system has them. */
  certificates?: Device['certificates'] | undefined; registryValue?: Device['registryValue'] | undefined
}): Device {
  const hashes = new Map<string, { signature: string; sha256: string }>()
  /** Looks that were given up and have not come back. Each holds a thread of Node's pool, perhaps for ever, so that there is never a second one. */
  const lost = new Set<string>()

  async function within<T>(what: string, limitMs: number, look: () => Promise<T>): Promise<T> {
    if (lost.has(what)) throw new Error('the last look has not come back yet')
    const { promise: late, reject } = Promise.withResolvers<never>()
    const begun = look().finally(() => lost.delete(what))
    const cancel = timers.after(limitMs, () => {
      lost.add(what)
      reject(new Error(`no answer within ${limitMs / 1000} s`))
    })
    return await Promise.race([begun, late]).finally(cancel)
  }

  /** @param key what the hash is remembered by: a path, or a program that many processes run */
  async function hashOf(path: string, facts: BigIntStats, key = path): Promise<string | null> {
    // Opening a pipe or a device would wait for ever, or do something.
    if (!facts.isFile() || facts.size > MAX_HASHED_BYTES) return null
    const signature = signatureOf(facts)
    const kept = hashes.get(key)
    if (kept?.signature === signature) return kept.sha256
    const sha256 = await within(`hash ${key}`, HASH_LIMIT_MS, () => hashFile(path, signature))
    // Two writes within one tick of the file system's clock look alike: what is that young is hashed again.
    if (sha256 === null || now() - Number(facts.ctimeMs) <= SETTLED_MS) return sha256
    hashes.delete(key)
    hashes.set(key, { signature, sha256 })
    const [oldest] = hashes.keys()
    if (hashes.size > MOST_HASHES && oldest !== undefined) hashes.delete(oldest)
    return sha256
  }

  async function look(path: string): Promise<FileFacts> {
    try {
      const facts = await statFile(path)
      return { exists: true, sha256: () => hashOf(path, facts) }
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException
      if (code === 'ENOENT' || code === 'ENOTDIR') return { exists: false }
      if (tellsOfFile(cause)) return 'unreadable'
      throw cause
    }
  }

  async function programHash(program: string): Promise<string | null> {
    try {
      const facts = await statFile(program)
      return await hashOf(program, facts, `program ${facts.dev}:${facts.ino}`)
    } catch (cause) {
      if (tellsOfFile(cause)) return null // it ended, or it is somebody else's
      throw cause
    }
  }

  return {
    // A path of another system names nothing here; taken as relative it would name something.
    fileFacts: (path) => (isAbsolute(path) ? within(`look ${path}`, LOOK_LIMIT_MS, () => look(path)) : Promise.resolve('unreadable')),
    processes: () => Promise.resolve().then(() => listProcesses(join(root, 'proc'), programHash)),
    ...(certificates === undefined ? {} : { certificates: () => within('certificates', STORE_LIMIT_MS, certificates) }),
    ...(registryValue === undefined ? {} : { registryValue: (key: string, name: string | null) => within(`registry ${key}`, STORE_LIMIT_MS, () => registryValue(key, name)) }),
  }
}
