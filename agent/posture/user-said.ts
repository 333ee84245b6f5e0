// What the user says of themselves by `agent set`, and the file that keeps it. Whether the profile lets them say it is decided when it is reported.
import { join, resolve } from 'node:path'
import { z } from 'zod'
import { UsageError } from '../../node/config.ts'
import { readJson, writeJson } from '../../node/key-store.ts'
import { sections, socialId } from '../../protocol/facts.ts'
import { line } from '../../protocol/text.ts'

const shape = sections.user.shape
export const userSaid = z.strictObject({
  fullName: shape.fullName, email: shape.email, phone: shape.phone,
  socialIds: z.array(socialId).max(16).optional(), avatarFile: line(4096).optional(),
})
export type UserSaid = z.infer<typeof userSaid>
export const userFile = (stateDirectory: string): string => join(stateDirectory, 'user.json')

export const readUserSaid = async (stateDirectory: string): Promise<UserSaid> => await readJson(userFile(stateDirectory), userSaid) ?? {}

/** Names that `agent set` takes; `avatar` is the path of a picture, `social` may be given for several services. */
export const settings = ['fullName', 'email', 'phone', 'avatar', 'social'] as const
const members = { fullName: 'fullName', email: 'email', phone: 'phone', avatar: 'avatarFile', social: 'socialIds' } as const

/** One thing that is said; `value` null takes it back. */
export interface Setting { readonly member: keyof UserSaid; readonly value: unknown }

/** Reads `NAME=VALUE`. @throws UsageError with what is wrong, in a sentence */
export function readSetting(text: string): Setting {
  const at = text.indexOf('=')
  const [name, value] = [settings.find((each) => each === text.slice(0, at)), text.slice(at + 1)]
  if (at < 0 || name === undefined) throw new UsageError(`"${text}" is not NAME=VALUE; names are ${settings.join(', ')}.`)
  const member = members[name]
  if (value === '') return { member, value: null }
  const said = name === 'avatar' ? resolve(value) : name === 'social' ? value.split(',').filter(Boolean).map(readSocialId) : value
  const checked = userSaid.shape[member].safeParse(said)
  if (!checked.success) throw new UsageError(`${name}: ${checked.error.issues[0]?.message ?? 'is not acceptable'}.`)
  return { member, value: said }
}

const readSocialId = (text: string) => {
  const [service = '', ...rest] = text.split(':')
  return { service, accountId: rest.join(':') }
}

/** Keeps what was said before. @throws UsageError when one thing is said twice */
export async function saveUserSaid(stateDirectory: string, said: readonly Setting[]): Promise<void> {
  const twice = said.find(({ member }, at) => said.findIndex((each) => each.member === member) !== at)
  if (twice !== undefined) throw new UsageError(`${twice.member} is said twice.${twice.member === 'socialIds' ? ' Several accounts go into one: social=github:ada,mastodon:ada@example.org' : ''}`)
  const merged = Object.entries({ ...await readUserSaid(stateDirectory), ...Object.fromEntries(said.map(({ member, value }) => [member, value])) }).filter(([, value]) => value !== null)
  await writeJson(userFile(stateDirectory), userSaid.parse(Object.fromEntries(merged)))
}
