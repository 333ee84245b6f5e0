// Where the enrolled user lives: what they installed for themselves lies there.
import { homedir } from 'node:os'
import { join } from 'node:path'
import type { Homes } from './places.ts'
import { readText, type RunCommand } from './read.ts'

/** macOS has no accounts of people in a file; its `id -P` prints the ten fields of master.passwd(5). */
export const homeOfMac = (row: string | null, uid: number): string | undefined => {
  const fields = row?.trim().split(':') ?? []
  return fields.length === 10 && fields[2] === String(uid) ? fields[8] : undefined
}

/** The home's path as this machine's root sees it; null when the account has none of its own. */
export async function findHome(root: string, ownerUid: number, run: RunCommand): Promise<Homes['home']> {
  const own = ownerUid === (process.getuid?.() ?? ownerUid)
  const homeIn = (passwd: string | null) => passwd?.split('\n').map((row) => row.split(':')).find((fields) => fields.length >= 7 && fields[2] === String(ownerUid))?.[5]
  if (process.getuid === undefined) return { path: homedir(), uid: ownerUid }
  const path = homeIn(await readText(join(root, 'etc/passwd'))) ?? homeIn(await run('getent', ['passwd', '--', String(ownerUid)])) ?? homeOfMac(await run('id', ['-P', String(ownerUid)]), ownerUid) ?? (own ? homedir() : '')
  return !path.startsWith('/') || path === '/' ? null : { path: join(root, path), uid: ownerUid }
}
