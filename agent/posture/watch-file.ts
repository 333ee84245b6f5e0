// Watches one file by its directory (a file that is replaced keeps its name, not its inode); where that is missing, by the nearest directory above.
import { existsSync, realpathSync, watch, type FSWatcher } from 'node:fs'
import { basename, dirname, relative, sep } from 'node:path'

export interface FileWatch { close(): void }

/** How often a watch that could not be set (no rights, no watches left) is tried again. */
const RETRY_MS = 500

/**
 * Calls `onChange` when the file appears, goes, is written or replaced; also where a symbolic link leads.
 * A change that happens while directories are moved about is told once too often rather than not.
 */
export function watchFile(path: string, onChange: () => void): FileWatch {
  let watchers: FSWatcher[] = []
  let retry: NodeJS.Timeout | undefined
  let closed = false

  function stop(): void {
    clearTimeout(retry)
    for (const watcher of watchers) watcher.close()
    watchers = []
  }

  function again(): void {
    if (closed) return
    stop()
    arm()
    onChange()
  }

  function later(): void {
    clearTimeout(retry)
    retry = setTimeout(again, RETRY_MS)
    retry.unref()
  }

  function place(file: string): void {
    const directory = nearest(dirname(file))
    // The file itself, or the first directory that is missing on the way to it.
    const wanted = relative(directory, file).split(sep)[0]
    const watcher = watch(directory, { persistent: false }, (event, name) => {
      // The directory's own name: it was itself moved or removed.
      if (name !== null && name !== wanted && name !== basename(directory)) return
      // Names come and go by `rename`; then the watch itself may sit on a directory or link target that is no more.
      if (event === 'rename') again()
      else onChange()
    })
    watcher.on('error', later)
    watchers.push(watcher)
  }

  function arm(): void {
    try {
      place(path)
      const target = existsSync(path) ? realpathSync(path) : path
      if (target !== path) place(target)
    } catch {
      later() // a directory vanished between look and watch, or may not be watched: looked at again soon
    }
  }

  arm()
  return {
    close() {
      closed = true
      stop()
    },
  }
}

const nearest = (directory: string): string => {
  let at = directory
  while (!existsSync(at) && dirname(at) !== at) at = dirname(at)
  return at
}
