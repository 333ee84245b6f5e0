// The account whose browsers get certificates, and commands that run as it: what lies in a user's home is never written or trusted by root.
import { execFile } from 'node:child_process'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { readCommand, readText } from '../../../posture/read.ts'

export interface Owner { readonly uid: number; readonly gid: number; readonly account: string; readonly home: string }
export type Ran = { readonly ok: true; readonly stdout: string } | {
  readonly ok: false
  /** What it ended with; null: it did not run, or not to its end. */
  readonly code: number | null
  /** The program is not there. */
  readonly missing: boolean
  readonly stdout: string
  readonly reason: string
}
/** Runs a command as the owner, without standard input: one that asks for a password fails. */
export type RunAsOwner = (file: string, args: readonly string[]) => Promise<Ran>

/** Finds the account by its id; null when the system has none. @param home where its browsers look, for the agent's own account, unless said */
export async function findOwner(root: string, uid: number, home?: string): Promise<Owner | null> {
  const rowIn = (lines: string | null) => lines?.split('\n').map((line) => line.split(':')).find((fields) => fields.length >= 7 && fields[2] === String(uid))
  const row = rowIn(await readText(join(root, 'etc/passwd'))) ?? rowIn(await readCommand('getent', ['passwd', '--', String(uid)]))
  const own = uid === process.getuid?.()
  if (row === undefined && !own) return null
  const directory = home ?? (own ? homedir() : row?.[5])
  if (directory === undefined || !directory.startsWith('/')) return null
  return { uid, gid: row === undefined ? process.getgid?.() ?? uid : Number(row[3]), account: row?.[0] ?? String(uid), home: directory }
}

/** Less than the agent gives a part of itself to end. */
const LIMIT_MS = 8_000
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024

export function runAs({ uid, gid, home, account }: Owner): RunAsOwner {
  const asOther = uid !== process.getuid?.()
  const env = { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C.UTF-8', HOME: home, USER: account }
  return (file, args) => new Promise((resolve) => {
    const [command, all] = asOther ? ['setpriv', [`--reuid=${uid}`, `--regid=${gid}`, '--init-groups', '--inh-caps=-all', '--no-new-privs', file, ...args]] : [file, args]
    const child = execFile(command, all, { env, cwd: '/', timeout: LIMIT_MS, maxBuffer: MAX_OUTPUT_BYTES, encoding: 'utf8', killSignal: 'SIGKILL' }, (error, stdout, stderr) => {
      if (error === null) return resolve({ ok: true, stdout })
      const said = `${stdout}\n${stderr}`.trim() // these tools say what is wrong on either
      const missing = error.code === 'ENOENT' || (asOther && /failed to execute .*: No such file/.test(stderr))
      const ran = typeof error.code === 'number' && !(asOther && stderr.startsWith('setpriv:'))
      resolve({ ok: false, code: ran ? error.code as number : null, missing, stdout, reason: said === '' ? error.message.trim() : said })
    })
    child.stdin?.end()
  })
}
