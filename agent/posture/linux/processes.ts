// Running processes, for conditions only: the list never leaves the machine.
import { readFileSync, readdirSync, readlinkSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { RunningProcess } from '../../../domain/tagging/device.ts'

/** A process that runs: its names (its own and its program's) and the path of its program, empty when that can't be seen. */
export interface SeenProcess { readonly names: readonly string[]; readonly path: string; readonly startedAt: string }

// The kernel cuts a process's own name here (TASK_COMM_LEN).
const CUT_NAME_LENGTH = 15
const readNow = (read: () => string): string => {
  try {
    return read()
  } catch {
    return '' // it ended meanwhile, is a kernel thread, or belongs to somebody else: nothing to see
  }
}

/**
 * Reads one process; null when it does not run (gone, or dead and not yet collected by its parent).
 * Synchronous on purpose: procfs answers from memory, and a trip through the thread pool costs ten times the read.
 */
export function readProcess(proc: string, pid: string): SeenProcess | null {
  const stat = readNow(() => readFileSync(join(proc, pid, 'stat'), 'latin1'))
  // The name may itself contain `)` and spaces: the last bracket ends it.
  const [open, close] = [stat.indexOf('('), stat.lastIndexOf(')')]
  if (open < 0 || close < open) return null
  const fields = stat.slice(close + 2).split(' ')
  if (fields[0] === 'Z' || fields[0] === 'X') return null
  const own = Buffer.from(stat.slice(open + 1, close), 'latin1').toString('utf8')
  // An update replaces the file under a running program; it still runs from there.
  const path = readNow(() => readlinkSync(join(proc, pid, 'exe'))).replace(/ \(deleted\)$/, '')
  const names = new Set([own.length === CUT_NAME_LENGTH ? wholeName(proc, pid, own) : own, ...(path === '' ? [] : [basename(path)])])
  return { names: [...names], path, startedAt: fields[19] ?? '' }
}

const wholeName = (proc: string, pid: string, cut: string): string => {
  const words = readNow(() => readFileSync(join(proc, pid, 'cmdline'), 'utf8')).split('\0').slice(0, 2).map((word) => basename(word))
  return words.find((word) => word.startsWith(cut)) ?? cut
}

/** Ids of everything that runs. */
export const processIds = (proc: string): string[] => readdirSync(proc).filter((name) => /^\d+$/.test(name))

/** Everything that runs, once under each of its names. */
export const listProcesses = (proc: string): RunningProcess[] =>
  processIds(proc).flatMap((pid) => {
    const seen = readProcess(proc, pid)
    return seen === null ? [] : seen.names.map((name) => ({ name, path: seen.path }))
  })
