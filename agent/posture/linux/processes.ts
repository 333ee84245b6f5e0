// Running processes, for conditions only: the list never leaves the machine. What can't be looked at is an error, never "does not run".
import { closeSync, openSync, readSync, readdirSync, readlinkSync } from 'node:fs'
import { basename } from 'node:path'
import type { RunningProcess } from '../../../domain/tagging/device.ts'

/** A process that runs: its names (its own and its program's) and the path of its program, empty when that can't be seen. */
export interface SeenProcess { readonly names: readonly string[]; readonly path: string; readonly startedAt: string }

// The kernel cuts a process's own name here (TASK_COMM_LEN).
const CUT_NAME_LENGTH = 15
/** Two words are looked for; a process may have megabytes of them. */
const MAX_COMMAND_LINE_BYTES = 4096

/** It ended between two looks. Anything else (no descriptors left, hidden by the system) must not look like that. */
const isGone = (cause: unknown): boolean => ['ENOENT', 'ESRCH'].includes((cause as NodeJS.ErrnoException).code ?? '')
/** Beside those: it belongs to somebody else. */
const isHidden = (cause: unknown): boolean => isGone(cause) || ['EACCES', 'EPERM'].includes((cause as NodeJS.ErrnoException).code ?? '')

function readUnless(expected: (cause: unknown) => boolean, read: () => string): string {
  try {
    return read()
  } catch (cause) {
    if (expected(cause)) return ''
    throw cause
  }
}

/** What the kernel's own line tells of a process: its own name, cut, and when it started. Both change when it becomes another program, or another process. */
export interface Glimpse { readonly own: Buffer; readonly startedAt: string }

/**
 * A cheap look at one process; null when it does not run (gone, or dead and not yet collected by its parent).
 * Synchronous on purpose: procfs answers from memory, and a trip through the thread pool costs ten times the read.
 * Throws when it is there and can't be looked at.
 */
export function glimpseProcess(proc: string, pid: string): Glimpse | null {
  const stat = readUnless(isGone, () => beginning(`${proc}/${pid}/stat`, 'latin1'))
  // The name may itself contain `)` and spaces: the last bracket ends it.
  const [open, close] = [stat.indexOf('('), stat.lastIndexOf(')')]
  if (open < 0 || close < open) return null
  const fields = stat.slice(close + 2).split(' ', 20)
  return fields[0] === 'Z' || fields[0] === 'X' ? null : { own: Buffer.from(stat.slice(open + 1, close), 'latin1'), startedAt: fields[19] ?? '' }
}

/** All of one process; null and throws like {@link glimpseProcess}. */
export function readProcess(proc: string, pid: string): SeenProcess | null {
  const glimpse = glimpseProcess(proc, pid)
  return glimpse === null ? null : completeProcess(proc, pid, glimpse)
}

/** Its names and its program, beside what a glimpse has told. */
export function completeProcess(proc: string, pid: string, { own, startedAt }: Glimpse): SeenProcess {
  // An update replaces the file under a running program; it still runs from there. A kernel thread has no program.
  const path = readUnless(isHidden, () => readlinkSync(`${proc}/${pid}/exe`)).replace(/ \(deleted\)$/, '')
  const name = own.length === CUT_NAME_LENGTH ? wholeName(proc, pid, own.toString('utf8')) : own.toString('utf8')
  return { names: [...new Set([name, ...(path === '' ? [] : [basename(path)])])], path, startedAt }
}

const wholeName = (proc: string, pid: string, cut: string): string => {
  const words = readUnless(isHidden, () => beginning(`${proc}/${pid}/cmdline`, 'utf8')).split('\0').slice(0, 2).map((word) => basename(word))
  return words.find((word) => word.startsWith(cut)) ?? cut
}

/** One for all reads: they are synchronous, and there are hundreds a second. */
const bytes = Buffer.alloc(MAX_COMMAND_LINE_BYTES)

/** As much of a file as is looked at, in three system calls. */
function beginning(path: string, encoding: 'latin1' | 'utf8'): string {
  const file = openSync(path, 'r')
  try {
    return bytes.toString(encoding, 0, readSync(file, bytes))
  } finally {
    closeSync(file)
  }
}

/** Ids of everything that runs. Throws where the system hides other users' processes (hidepid): then nothing can be said to be absent. */
export function processIds(proc: string): string[] {
  const ids = readdirSync(proc).filter((name) => /^\d+$/.test(name))
  if (!ids.includes('1')) throw new Error('the processes of others are hidden from this agent')
  return ids
}

/**
 * Everything that runs, once under each of its names. Throws when not all of it can be looked at.
 * @param hashOf hex hash of what a process runs, from the file that the kernel holds for it; null when that can't be read. It is asked for one that was just seen, and may be another by then.
 */
export const listProcesses = (proc: string, hashOf?: (program: string) => Promise<string | null>): RunningProcess[] =>
  processIds(proc).flatMap((pid) => {
    const seen = readProcess(proc, pid)
    if (seen === null) return []
    const hashed = hashOf === undefined ? {} : {
      async sha256() {
        const hash = await hashOf(`${proc}/${pid}/exe`)
        // Its number may have passed to another process, or it to another program, meanwhile.
        const now = hash === null ? null : readProcess(proc, pid)
        return now?.startedAt === seen.startedAt && now.path === seen.path ? hash : null
      },
    }
    return seen.names.map((name) => ({ name, path: seen.path, ...hashed }))
  })
