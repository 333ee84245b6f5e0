// `agent set`: what the person says of themselves.
import { UsageError } from '../../node/config.ts'
import { readIdentity } from '../certificates/identity-store.ts'
import { readPicture } from '../posture/pictures.ts'
import { readSetting, saveUserSaid, settings } from '../posture/user-said.ts'
import type { Perform } from './verb.ts'

export const perform: Perform = async ({ words, directory, print }) => {
  if (words.length === 0) throw new UsageError(`set needs NAME=VALUE; names are ${settings.join(', ')}.`)
  const said = words.map(readSetting)
  const avatar = said.find(({ member, value }) => member === 'avatarFile' && value !== null)
  const identity = await readIdentity(directory)
  if (avatar !== undefined && await readPicture(String(avatar.value), identity?.ownerUid ?? process.getuid?.() ?? 0) === null) {
    throw new UsageError(`avatar: ${String(avatar.value)} is not a PNG or JPEG file of at most 48 KiB that belongs to the enrolled user.`)
  }
  await saveUserSaid(directory, said)
  print.out('Kept. A running agent reports it at once, as far as the profile lets you say it.')
  return 0
}
