// Who the enrolled user is: the account of the system, and what the user says of themselves as far as the profile lets them.
import { readFile, stat } from 'node:fs/promises'
import { createHash } from 'node:crypto'
import { userInfo } from 'node:os'
import { join, resolve } from 'node:path'
import { z } from 'zod'
import { UsageError } from '../../node/config.ts'
import { readJson, writeJson } from '../../node/key-store.ts'
import { sections, socialId, type Sections } from '../../protocol/facts.ts'
import type { ProfileSettings } from '../../protocol/profile.ts'
import { line } from '../../protocol/text.ts'
import { asLine, readText } from './read.ts'

const shape = sections.user.shape
/** What a user set with `agent set`. */
export const userSaid = z.strictObject({
  fullName: shape.fullName, email: shape.email, phone: shape.phone,
  socialIds: z.array(socialId).max(16).optional(), avatarFile: line(4096).optional(),
})
export type UserSaid = z.infer<typeof userSaid>
export const userFile = (stateDirectory: string): string => join(stateDirectory, 'user.json')

export const readUserSaid = async (stateDirectory: string): Promise<UserSaid> => await readJson(userFile(stateDirectory), userSaid) ?? {}
/** Keeps what was said before; an empty value takes a member back. */
export async function saveUserSaid(stateDirectory: string, said: UserSaid): Promise<void> {
  const merged = Object.entries({ ...await readUserSaid(stateDirectory), ...said }).filter(([, value]) => value !== '' && value !== undefined)
  await writeJson(userFile(stateDirectory), userSaid.parse(Object.fromEntries(merged)))
}

/** Names that `agent set` takes; `avatar` is the path of a picture, `social` may be given for several services. */
export const settings = ['fullName', 'email', 'phone', 'avatar', 'social'] as const

/** Reads `NAME=VALUE`. @throws UsageError with what is wrong, in a sentence */
export function readSetting(text: string): UserSaid {
  const at = text.indexOf('=')
  const [name, value] = [settings.find((each) => each === text.slice(0, at)), text.slice(at + 1)]
  if (at < 0 || name === undefined) throw new UsageError(`"${text}" is not NAME=VALUE; names are ${settings.join(', ')}.`)
  const said = name === 'avatar' ? { avatarFile: value === '' ? '' : resolve(value) } : name === 'social' ? { socialIds: value.split(',').filter(Boolean).map(readSocialId) } : { [name]: value }
  const checked = value === '' ? null : userSaid.safeParse(said)
  if (checked?.success === false) throw new UsageError(`${name}: ${checked.error.issues[0]?.message ?? 'is not acceptable'}.`)
  return said
}

const readSocialId = (text: string) => {
  const [service = '', ...rest] = text.split(':')
  return { service, accountId: rest.join(':') }
}

/** Account and full name (the first GECOS field) by user id, from passwd(5). */
export function parsePasswd(text: string, uid: number): { account: string; fullName: string } | null {
  const row = text.split('\n').map((each) => each.split(':')).find(([, , id]) => id === String(uid))
  const account = asLine(row?.[0] ?? '', 256)
  return account === '' ? null : { account, fullName: asLine((row?.[4] ?? '').split(',')[0] ?? '', 256) }
}

export interface Picture { readonly mediaType: 'image/png' | 'image/jpeg'; readonly bytes: Buffer; readonly fingerprint: string }
const MAX_PICTURE_BYTES = 48 * 1024

/** The user's picture; null when it is not there, too large, or neither PNG nor JPEG. */
export async function readPicture(path: string): Promise<Picture | null> {
  const facts = await stat(path).catch(() => null)
  if (facts === null || !facts.isFile() || facts.size > MAX_PICTURE_BYTES) return null
  const bytes = await readFile(path).catch(() => null)
  if (bytes === null || bytes.length > MAX_PICTURE_BYTES) return null
  const mediaType = bytes.subarray(0, 4).toString('hex') === '89504e47' ? 'image/png' : bytes.subarray(0, 3).toString('hex') === 'ffd8ff' ? 'image/jpeg' : null
  return mediaType === null ? null : { mediaType, bytes, fingerprint: createHash('sha256').update(bytes).digest('hex') }
}

export interface UserProbe {
  readonly root: string
  readonly stateDirectory: string
  /** The enrolled user's id; the agent itself may run as another. */
  readonly ownerUid: number
  readonly maySet: () => ProfileSettings['userMaySet']
  /** Hands the picture to the EMS; true when it has it. Only then is its fingerprint reported. */
  readonly upload: (picture: Picture) => Promise<boolean>
}

export async function collectUser({ root, stateDirectory, ownerUid, maySet, upload }: UserProbe): Promise<Sections['user']> {
  const known = parsePasswd(await readText(join(root, 'etc/passwd')) ?? '', ownerUid)
  const said = await readUserSaid(stateDirectory)
  const allowed = new Set<string>(maySet())
  const picture = said.avatarFile === undefined || !allowed.has('avatar') ? null : await readPicture(said.avatarFile)
  const fullName = (allowed.has('fullName') ? said.fullName : undefined) ?? known?.fullName
  return {
    account: known?.account ?? (asLine(userInfo().username, 256) || String(ownerUid)), ...(fullName ? { fullName } : {}),
    ...(allowed.has('email') && said.email !== undefined ? { email: said.email } : {}), ...(allowed.has('phone') && said.phone !== undefined ? { phone: said.phone } : {}),
    ...(allowed.has('socialIds') && said.socialIds !== undefined ? { socialIds: said.socialIds } : {}),
    ...(picture !== null && await upload(picture) ? { avatarFingerprint: picture.fingerprint } : {}),
  }
}
