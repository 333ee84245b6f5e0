// Notices that a watched file or process changed, well within a second. It says that something changed, not what it means.
import type { WatchTargets } from '../../domain/tagging/device.ts'
import type { Timers } from '../../node/timers.ts'
import { createProcessWatch } from './linux/watch-processes.ts'
import { watchFile, type FileWatch } from './watch-file.ts'

export interface Watch {
  /** Replaces what is watched. */
  retarget(targets: WatchTargets): void
  close(): void
}

export interface WatchOptions {
  readonly root: string
  /** Something changed, perhaps more than once. */
  readonly onChange: (what: { kind: 'file' | 'process'; name: string }) => void
  /** Whether processes can be seen on this system (procfs). */
  readonly processes: boolean
  readonly timers: Timers
}

/** Starts with nothing to watch. */
export function createWatch({ root, onChange, processes, timers }: WatchOptions): Watch {
  const files = new Map<string, FileWatch>()
  const seen = processes ? createProcessWatch({ root, onChange: (name) => onChange({ kind: 'process', name }) }) : null
  return {
    retarget(targets) {
      for (const [path, watch] of files) {
        if (targets.files.includes(path)) continue
        watch.close()
        files.delete(path)
      }
      for (const path of targets.files) if (!files.has(path)) files.set(path, watchFile(path, () => onChange({ kind: 'file', name: path }), timers))
      seen?.retarget(targets.processes)
    },
    close() {
      for (const watch of files.values()) watch.close()
      files.clear()
      seen?.close()
    },
  }
}
