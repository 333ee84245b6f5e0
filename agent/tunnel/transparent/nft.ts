// Runs nft: bounded in time and output. It knows no rule.
import { spawn } from 'node:child_process'

/** Runs one command, or the transaction in `input`. @returns null when it was done, else why not */
export type Nft = (args: readonly string[], input?: string) => Promise<string | null>

const LIMIT_MS = 20_000
const MAX_ERRORS = 2_000
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

export const systemNft: Nft = (args, input = '') => {
  const { promise, resolve } = Promise.withResolvers<string | null>()
  const child = spawn('nft', [...args], { env: { PATH, LC_ALL: 'C.UTF-8' }, stdio: ['pipe', 'ignore', 'pipe'], timeout: LIMIT_MS, killSignal: 'SIGKILL' })
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (errors.length < MAX_ERRORS) errors += text
  })
  child.on('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ENOENT' ? 'nft is not installed' : error.message))
  child.on('close', (code) => resolve(code === 0 ? null : `nft refuses: ${errors.split('\n')[0] || `it ended with ${code}`}`))
  // It may end before it has read everything; how it ended says why.
  child.stdin.on('error', () => child.stdin.destroy())
  child.stdin.end(input)
  return promise
}
