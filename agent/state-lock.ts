// One agent for one state directory: a lock that the kernel takes back when its holder's process ends, however it ends. Nothing is read or written before it is held.
import { chmod, mkdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

export interface StateLock { release(): void }

/**
 * Takes a state directory for this process; it is made when there is none. SQLite's own file lock is the one exclusive lock that Node offers on every system.
 * Throws a sentence when another agent has it, when it can not be written, or when somebody else could replace what stands in it.
 */
export async function lockState(directory: string): Promise<StateLock> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  await refuseShared(directory)
  const path = join(directory, 'lock')
  let held: DatabaseSync
  try {
    held = new DatabaseSync(path)
  } catch (cause) {
    throw new Error(`The state directory ${directory} can not be written.`, { cause })
  }
  try {
    // Without a journal file: a full disk must not keep the agent from starting.
    held.exec('PRAGMA journal_mode = MEMORY; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE')
    // Whoever could open it could hold it, and the agent would never start.
    await chmod(path, 0o600)
  } catch (cause) {
    held.close()
    const { errcode } = cause as { errcode?: number }
    if (errcode === SQLITE_BUSY) throw new Error(`An agent is running already with the state in ${directory}. Stop it first, or give this one another directory by --state.`, { cause })
    throw new Error(`The state directory ${directory} can not be written.`, { cause })
  }
  return { release: () => held.close() }
}

const SQLITE_BUSY = 5

/** Whoever may write the directory may put another identity or other documents in place of ours. */
async function refuseShared(directory: string): Promise<void> {
  const own = process.getuid?.()
  if (own === undefined) return
  const { uid, mode } = await stat(directory)
  if (uid !== own && uid !== 0) throw new Error(`The state directory ${directory} belongs to another account (uid ${uid}). Run the agent as that account, or give it another directory by --state.`)
  if ((mode & 0o022) !== 0) throw new Error(`The state directory ${directory} may be written by others. Take that away: chmod 700 ${directory}`)
}
