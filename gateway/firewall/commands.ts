// Runs the system's own programs (ip, nft) and hands on what they say. It knows none of their languages.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

export interface CommandResult { readonly code: number; readonly output: string; readonly errors: string }

export interface Commands {
  /**
   * Runs to the end. Rejects when the program can't be started, takes longer than 20 s, or says too much.
   * @param started is told the process id, by which the kernel names who changed something
   */
  run(program: string, args: readonly string[], input?: string, started?: (pid: number) => void): Promise<CommandResult>
  /** Starts a program that tells of events, one a line, until `stop`. `onEnd` says why it ended by itself. */
  follow(program: string, args: readonly string[], on: { readonly line: (line: string) => void; readonly end: (why: string) => void }): { stop(): void }
}

/**
 * Becomes the program, beside a guard that ends it when standard input does: a pipe that only we hold, so that nothing which watches outlives us, however we end.
 * The name is checked, for a process id may be used again.
 */
const LEASH = 'exec 3<&0; (cat <&3; [ "$(cat /proc/$$/comm)" = "$1" ] && kill $$) >/dev/null 2>&1 & exec "$@" </dev/null 3<&-'

const LIMIT_MS = 20_000
const MAX_OUTPUT_BYTES = 64 << 20
const MAX_ERROR_BYTES = 65_536

/** @param prefix words before each command: tests step into a network namespace with them */
export function systemCommands(prefix: readonly string[] = []): Commands {
  const start = (program: string, args: readonly string[]) => {
    const [first = program, ...rest] = [...prefix, program, ...args]
    return spawn(first, rest, { stdio: ['pipe', 'pipe', 'pipe'] })
  }
  return {
    run: (program, args, input = '', started = () => {}) => new Promise((resolve, reject) => {
      const child = start(program, args)
      if (child.pid !== undefined) started(child.pid)
      const output: Buffer[] = []
      let bytes = 0
      let errors = ''
      const fail = (why: string) => {
        child.kill('SIGKILL')
        reject(new Error(`${program} ${why}`))
      }
      const timer = setTimeout(() => fail(`did not end within ${LIMIT_MS / 1000} s`), LIMIT_MS)
      child.on('error', (cause) => {
        clearTimeout(timer)
        reject(new Error(`${program} can not be run: ${cause.message}`))
      })
      child.stdout.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        if (bytes > MAX_OUTPUT_BYTES) fail('said too much')
        else output.push(chunk)
      })
      child.stderr.on('data', (chunk: Buffer) => {
        if (errors.length < MAX_ERROR_BYTES) errors += chunk.toString()
      })
      // It may end before it has read everything; its exit code tells then.
      child.stdin.on('error', () => child.stdin.destroy())
      child.stdin.end(input)
      child.on('close', (code) => {
        clearTimeout(timer)
        resolve({ code: code ?? -1, output: Buffer.concat(output).toString(), errors: errors.trim() })
      })
    }),
    follow(program, args, on) {
      const child = start('sh', ['-c', LEASH, 'leash', program, ...args])
      let stopped = false
      let ended = false
      const end = (why: string) => {
        if (!stopped && !ended) on.end(why)
        ended = true
        release()
      }
      const release = () => {
        child.kill()
        child.stdin.destroy()
      }
      child.on('error', (cause) => end(cause.message))
      child.stdin.on('error', () => child.stdin.destroy())
      createInterface({ input: child.stdout, crlfDelay: Infinity }).on('line', (line) => {
        if (!stopped) on.line(line)
      })
      // `ip` and `nft` tell of events that were lost on standard error.
      createInterface({ input: child.stderr, crlfDelay: Infinity }).on('line', (line) => end(line))
      child.on('exit', (code, signal) => end(`ended with ${code ?? signal ?? 'nothing'}`))
      return {
        stop() {
          stopped = true
          release()
        },
      }
    },
  }
}
