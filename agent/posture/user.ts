// Who the enrolled user is: the account of the system, and what the user says of themselves as far as the profile lets them.
import { join } from 'node:path'
import { userInfo } from 'node:os'
import type { Sections } from '../../protocol/facts.ts'
import type { ProfileSettings } from '../../protocol/profile.ts'
import type { Pictures } from './pictures.ts'
import { asLine, readText, type RunCommand } from './read.ts'
import { readUserSaid, type UserSaid } from './user-said.ts'

export interface Account { readonly uid: number; readonly account: string; readonly fullName: string }

/** Account and full name (the first GECOS field), by user id or name, from lines of passwd(5). */
export function parsePasswd(text: string, wanted: number | string): Account | null {
  const at = typeof wanted === 'number' ? 2 : 0
  const row = text.split('\n').map((each) => each.split(':')).find((fields) => fields.length >= 6 && fields[at] === String(wanted))
  const account = asLine(row?.[0] ?? '', 256)
  return account === '' || !/^\d+$/.test(row?.[2] ?? '') ? null : { uid: Number(row?.[2]), account, fullName: asLine((row?.[4] ?? '').split(',')[0] ?? '', 256) }
}

/** Finds an account: in the machine's own file, else wherever the system looks (LDAP, SSSD). Null when nobody has it. */
export async function findAccount(root: string, wanted: number | string, run: RunCommand): Promise<Account | null> {
  return parsePasswd(await readText(join(root, 'etc/passwd')) ?? '', wanted) ?? parsePasswd(await run('getent', ['passwd', '--', String(wanted)]) ?? '', wanted)
}

/** The name of the account that this process runs as; empty when the system has none for it (a container's made-up id). */
function ownAccount(): string {
  try {
    return userInfo().username
  } catch (cause) {
    if ((cause as { name?: string }).name === 'SystemError') return ''
    throw cause
  }
}

export interface UserProbe {
  readonly root: string
  readonly stateDirectory: string
  /** The enrolled user's id; the agent itself may run as another. */
  readonly ownerUid: number
  readonly maySet: () => ProfileSettings['userMaySet']
  readonly pictures: Pictures
  readonly run: RunCommand
  /** What stands in the file is not what `agent set` writes; null: it is again. The rest of the section is reported. */
  readonly onUnreadable: (cause: unknown) => void
}

async function said({ stateDirectory, onUnreadable }: UserProbe): Promise<UserSaid> {
  try {
    const told = await readUserSaid(stateDirectory)
    onUnreadable(null)
    return told
  } catch (cause) {
    onUnreadable(cause)
    return {}
  }
}

export async function collectUser(probe: UserProbe): Promise<Sections['user']> {
  const { root, ownerUid, maySet, pictures, run } = probe
  const known = await findAccount(root, ownerUid, run)
  const { fullName, email, phone, socialIds, avatarFile } = await said(probe)
  const allowed = new Set<string>(maySet())
  const fingerprint = avatarFile === undefined || !allowed.has('avatar') ? null : await pictures.read(avatarFile)
  const name = (allowed.has('fullName') ? fullName : undefined) ?? known?.fullName
  return {
    account: known?.account ?? (asLine(ownerUid === (process.getuid?.() ?? ownerUid) ? ownAccount() : '', 256) || String(ownerUid)), ...(name ? { fullName: name } : {}),
    ...(allowed.has('email') && email !== undefined ? { email } : {}), ...(allowed.has('phone') && phone !== undefined ? { phone } : {}),
    ...(allowed.has('socialIds') && socialIds !== undefined ? { socialIds } : {}), ...(fingerprint === null ? {} : { avatarFingerprint: fingerprint }),
  }
}
