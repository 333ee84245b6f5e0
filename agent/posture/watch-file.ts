// Watches one file by its directory (a file that is replaced keeps its name, not its inode); where that is missing, by the nearest directory above.
import { existsSync, lstatSync, readlinkSync, watch, type FSWatcher } from 'node:fs'
import { basename, dirname, join, relative, resolve, sep } from 'node:path'
import type { Timers } from '../../node/timers.ts'
import { tellsOfFile } from './read.ts'

export interface FileWatch { close(): void }

/** How long a watch that could not be set (no rights, no watches left) waits before it is tried again; it doubles up to the limit, for the answers are asked anew each minute anyway. */
const RETRY = { firstMs: 500, limitMs: 30_000 }
/** As many symbolic links as Linux follows in one path. */
const MOST_LINKS = 40

/**
 * Calls `onChange` when the file appears, goes, is written or replaced; also where a symbolic link on the way to it is changed, and where it leads.
 * A change that happens while directories are moved about is told once too often rather than not.
 */
export function watchFile(path: string, onChange: () => void, timers: Timers): FileWatch {
  let watchers: FSWatcher[] = []
  let cancelRetry = () => {}
  let failures = 0
  let closed = false

  function stop(): void {
    cancelRetry()
    for (const watcher of watchers) watcher.close()
    watchers = []
  }

  function again(): void {
    if (closed) return
    stop()
    // A watch that is lost is told once: what it watched may have changed with it.
    if (arm() || failures === 1) onChange()
  }

  function later(): void {
    cancelRetry()
    cancelRetry = timers.after(Math.min(RETRY.limitMs, RETRY.firstMs * 2 ** failures++), again)
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

  /** False when the watch could not be set, and is tried again. */
  function arm(): boolean {
    try {
      for (const each of placesOf(path)) place(each)
    } catch {
      later() // a directory vanished between look and watch, or may not be watched: looked at again soon
      return false
    }
    failures = 0
    return true
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

/** The path, every symbolic link on the way, and where they lead: each can be changed by itself. */
function placesOf(path: string): Set<string> {
  const places = new Set<string>()
  let rest = path
  for (let links = 0; links <= MOST_LINKS; links++) {
    places.add(rest)
    const link = firstLink(rest)
    if (link === null) break
    places.add(link)
    rest = join(resolve(dirname(link), readlinkSync(link)), relative(link, rest))
  }
  return places
}

/** The first symbolic link in a path; null when there is none, or the way ends before. */
function firstLink(path: string): string | null {
  const names = path.split(sep)
  for (let length = 2; length <= names.length; length++) {
    const at = names.slice(0, length).join(sep)
    try {
      if (lstatSync(at).isSymbolicLink()) return at
    } catch (cause) {
      if (tellsOfFile(cause)) return null
      throw cause
    }
  }
  return null
}
