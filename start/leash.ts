// Ties a child process to this one: workerd outlives a parent that is killed, keeps its port, and the next start fails on it.
import { spawn } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'

// Its standard input is a pipe that only we hold: it ends when we do, however that happens. The name is checked, for a process id may be used again.
const script = 'cat >/dev/null; case "$(ps -o comm= -p "$1" 2>/dev/null)" in *"$2"*) kill -9 "$1";; esac'

const nameOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim()
  } catch {
    return '' // it ended between the list and the look: it has no name any more
  }
}

const commandOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return '' // as above
  }
}

/** Direct children of this process with that name and those words in their command line, where procfs tells (Linux); elsewhere none. */
export function childrenNamed(name: string, words: string): number[] {
  if (process.platform !== 'linux') return []
  return readdirSync('/proc/self/task').flatMap((task) => readFileSync(`/proc/self/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number)).filter((pid) => nameOf(pid) === name && commandOf(pid).includes(words))
}

/** Has those processes killed when this one is gone. @returns takes the leash off */
export function leash(pids: readonly number[], name: string): () => void {
  const guards = pids.map((pid) => {
    // In a session of its own: a Ctrl-C for the terminal's group must not end the guard before its charge.
    const guard = spawn('sh', ['-c', script, 'leash', String(pid), name], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
    guard.on('error', () => guard.stdin.destroy())
    guard.unref()
    // A pipe to a guard that somebody ended breaks; there is nothing left to guard then.
    guard.stdin.on('error', () => guard.stdin.destroy())
    const pipe = guard.stdin as typeof guard.stdin & { unref?: () => void }
    pipe.unref?.()
    return guard
  })
  return () => {
    for (const guard of guards) guard.kill('SIGKILL')
  }
}
