// Notices that a watched process starts or ends: a light look at procfs five times a second, and none when nothing is watched.
import { join } from 'node:path'
import { completeProcess, glimpseProcess, processIds, type Glimpse, type SeenProcess } from './processes.ts'

export const LOOK_EVERY_MS = 200
/** An old process that becomes another program (exec) keeps its id: one of this many slices of the old ones is read at each look. */
const SLICES = 3
/** A process this young may still be between fork and exec: it is read at each look. */
const YOUNG_LOOKS = 3

interface Known { readonly glimpse: Glimpse; readonly seen: SeenProcess; readonly firstLook: number }

export interface ProcessWatch { retarget(names: readonly string[]): void; close(): void }

/** @param root where the machine's file system begins */
export function createProcessWatch({ root, onChange }: { root: string; onChange: (name: string) => void }): ProcessWatch {
  const proc = join(root, 'proc')
  const known = new Map<string, Known>()
  let watched = new Set<string>()
  let timer: NodeJS.Timeout | undefined
  let looks = 0
  let blind = false

  /** Reads what may have changed; returns the watched names concerned. */
  function look(): Set<string> {
    looks++
    const changed = new Set<string>()
    const touch = (seen: SeenProcess | undefined) => { for (const name of seen?.names ?? []) if (watched.has(name)) changed.add(name) }
    const alive = new Set(processIds(proc))
    for (const [pid, { seen }] of known) {
      if (alive.has(pid)) continue
      touch(seen)
      known.delete(pid)
    }
    for (const pid of alive) {
      const before = known.get(pid)
      const matched = before?.seen.names.some((name) => watched.has(name)) ?? false
      const young = before === undefined || looks - before.firstLook <= YOUNG_LOOKS
      if (!young && !matched && Number(pid) % SLICES !== looks % SLICES) continue
      const glimpse = glimpseProcess(proc, pid)
      if (glimpse === null) {
        touch(before?.seen)
        known.delete(pid)
        continue
      }
      const same = before?.glimpse.startedAt === glimpse.startedAt
      // What is young, or matters, is read whole: its program may change while its name does not.
      if (same && !young && !matched && before.glimpse.own.equals(glimpse.own)) continue
      const seen = completeProcess(proc, pid, glimpse)
      if (before === undefined || !same || !sameProcess(before.seen, seen)) {
        touch(before?.seen)
        touch(seen)
      }
      known.set(pid, { glimpse, seen, firstLook: same ? before.firstLook : looks })
    }
    return changed
  }

  /** Every watched name is concerned when the processes can be seen no longer, or again: the answers become unknown, or known. */
  function lookOrNot(): Iterable<string> {
    try {
      const changed = look()
      if (!blind) return changed
      blind = false
    } catch {
      if (blind) return []
      blind = true // whoever asks for the answers hears why
    }
    return watched
  }

  return {
    retarget(names) {
      watched = new Set(names)
      clearInterval(timer)
      timer = undefined
      if (watched.size === 0) return known.clear()
      lookOrNot()
      timer = setInterval(() => { for (const name of lookOrNot()) onChange(name) }, LOOK_EVERY_MS)
      timer.unref()
    },
    close: () => clearInterval(timer),
  }
}

const sameProcess = (a: SeenProcess, b: SeenProcess): boolean => a.path === b.path && a.names.join('\0') === b.names.join('\0')
