// Where the enrolled user lives: what they installed for themselves lies there.
import { homedir } from 'node:os'
import { join } from 'node:path'
import type { Homes } from './places.ts'
import { readText, type RunCommand } from './read.ts'

/** The home's path as this machine's root sees it; null when the account has none of its own. */
export async function findHome(root: string, ownerUid: number, run: RunCommand): Promise<Homes['home']> {
  const own = ownerUid === (process.getuid?.() ?? ownerUid)
  const homeIn = (passwd: string | null) => passwd?.split('\n').map((row) => row.split(':')).find((fields) => fields.length >= 7 && fields[2] === String(ownerUid))?.[5]
  const windows = process.getuid === undefined
  const path = windows ? homedir() : homeIn(await readText(join(root, 'etc/passwd'))) ?? homeIn(await run('getent', ['passwd', '--', String(ownerUid)])) ?? (own ? homedir() : '')
  return !windows && (!path.startsWith('/') || path === '/') ? null : { path: join(windows ? '' : root, path), uid: ownerUid }
}
