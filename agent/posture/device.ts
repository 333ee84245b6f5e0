// What agent-side conditions may ask of this machine: a file and its hash, and the running processes.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import type { BigIntStats } from 'node:fs'
import { join } from 'node:path'
import type { Device } from '../../domain/tagging/device.ts'
import { listProcesses } from './linux/processes.ts'

const SETTLED_MS = 2_000
/** Larger files are not hashed: their hash is unknown. */
const MAX_HASHED_BYTES = 1024n * 1024n * 1024n

/** A device that remembers hashes as long as a file is the same by number, size and change time (ctime, which its owner can't set back). */
export function createDevice(root: string, now: () => number): Device {
  const hashes = new Map<string, { signature: string; sha256: string }>()
  const hashOf = async (path: string, facts: BigIntStats): Promise<string | null> => {
    // Opening a pipe or a device would wait for ever, or do something.
    if (!facts.isFile() || facts.size > MAX_HASHED_BYTES) return null
    const signature = `${facts.dev}:${facts.ino}:${facts.size}:${facts.ctimeNs}`
    const kept = hashes.get(path)
    if (kept?.signature === signature) return kept.sha256
    const hash = createHash('sha256')
    try {
      for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
    } catch {
      return null // not for us, or gone meanwhile: the condition says that it can't be read
    }
    const sha256 = hash.digest('hex')
    // Two writes within one tick of the file system's clock look alike: what is that young is hashed again.
    if (now() - Number(facts.ctimeMs) > SETTLED_MS) hashes.set(path, { signature, sha256 })
    return sha256
  }
  return {
    async fileFacts(path) {
      try {
        const facts = await stat(path, { bigint: true })
        return { exists: true, sha256: () => hashOf(path, facts) }
      } catch (cause) {
        const { code } = cause as NodeJS.ErrnoException
        return code === 'ENOENT' || code === 'ENOTDIR' ? { exists: false } : 'unreadable'
      }
    },
    processes: () => Promise.resolve(listProcesses(join(root, 'proc'))),
  }
}
