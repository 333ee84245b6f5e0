// Keeps the agent's block in the machine's hosts file: replaced whole, put back when another program takes it away, gone when the agent stops.
import { randomBytes } from 'node:crypto'
import { open, readFile, realpath, rename, rm, stat, writeFile } from 'node:fs/promises'
import { jitteredBackoff } from '../../../node/backoff.ts'
import type { Timers } from '../../../node/timers.ts'
import { systemFailure } from '../../failure.ts'
import { watchFile, type FileWatch } from '../../posture/watch-file.ts'
import type { TunnelLog } from '../tunnel-log.ts'
import { withBlock, withoutBlock } from './hosts-block.ts'

export interface HostsFile {
  /** @returns why the names could not be put there; null: they stand there */
  put(addresses: ReadonlyMap<string, string>): Promise<string | null>
  /** Puts nothing back any more; the block stays until it is removed. */
  close(): Promise<void>
}

const QUIET_MS = 60_000

/** Owner and mode stay; a crash leaves the old file or the new one. */
async function replace(path: string, text: string): Promise<void> {
  const { mode, uid, gid } = await stat(path)
  const beside = `${path}.sallyport-${randomBytes(6).toString('hex')}`
  try {
    const file = await open(beside, 'wx', mode & 0o777)
    try {
      await file.writeFile(text)
      await file.chown(uid, gid)
      await file.chmod(mode & 0o7777)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(beside, path)
  } catch (cause) {
    await rm(beside, { force: true })
    // In a container the file is a mount of its own, which nothing can be renamed onto: there it is written in place.
    if ((cause as NodeJS.ErrnoException).code !== 'EBUSY') throw cause
    await writeFile(path, text, { flush: true })
  }
}

/** Changes the file if that makes a difference. @returns whether it did */
async function edit(path: string, change: (text: string) => string): Promise<boolean> {
  // Where it is a link (to a file that a tool generates), the link stays.
  const file = await realpath(path)
  const before = await readFile(file, 'utf8')
  const after = change(before)
  if (after === before) return false
  await replace(file, after)
  return true
}

/** Takes away what an earlier agent has left; does nothing where there is nothing. */
export const removeBlock = async (path: string): Promise<void> => void await edit(path, withoutBlock)

export function keepHosts({ path, timers, log, onDefect }: { path: string; timers: Timers; log: TunnelLog; onDefect: (cause: unknown) => void }): HostsFile {
  let wanted: ReadonlyMap<string, string> = new Map()
  let watch: FileWatch | null = null
  let working: Promise<unknown> = Promise.resolve()
  let repairs = 0
  let cancelRepair = () => {}
  let cancelQuiet = () => {}
  let closed = false

  const turn = <T>(action: () => Promise<T>): Promise<T> => {
    const next = working.then(action)
    working = next.catch(() => undefined) // whoever asked hears of it; the next turn must not
    return next
  }
  const write = () => turn(() => edit(path, (text) => withBlock(text, wanted)))

  async function repair(): Promise<void> {
    try {
      if (closed || !await write()) return
      repairs += 1
      log.warn({ event: 'hosts_repaired', path }, 'Another program took the agent\'s names out of the hosts file; they are there again')
    } catch (cause) {
      if (systemFailure(cause) === null) throw cause
      repairs += 1
      log.error({ event: 'hosts_not_repaired', path, cause: String(cause) }, 'The agent\'s names can not be put back into the hosts file; it will be tried again')
      repairLater()
    }
    cancelQuiet()
    cancelQuiet = timers.after(QUIET_MS, () => { repairs = 0 })
  }
  /** Two programs that each want the last word must not keep the machine busy. */
  function repairLater(): void {
    cancelRepair()
    if (!closed) cancelRepair = timers.after(jitteredBackoff(repairs, { firstMs: 50, limitMs: 30_000 }), () => { repair().catch(onDefect) })
  }

  return {
    async put(addresses) {
      wanted = addresses
      try {
        await write()
      } catch (cause) {
        const reason = systemFailure(cause)
        if (reason === null) throw cause
        return `${path}: ${reason}`
      }
      if (addresses.size > 0 && !closed) watch ??= watchFile(path, repairLater, timers)
      return null
    },
    async close() {
      closed = true
      watch?.close()
      cancelRepair()
      cancelQuiet()
      await turn(() => Promise.resolve())
    },
  }
}
