// The user's picture, kept by its fingerprint.
import { putAvatar } from '../../protocol/operations/endpoint.ts'
import { Fault } from '../../protocol/faults.ts'
import { fromBase64 } from '../../identity/encoding.ts'
import { sha256Hex } from '../../identity/keys.ts'
import { avatars } from '../../schema/endpoint.ts'
import { handle } from '../http/mount.ts'

const beginnings = { 'image/png': [0x89, 0x50, 0x4e, 0x47], 'image/jpeg': [0xff, 0xd8, 0xff] }

export const avatarRoute = handle(putAvatar, {
  async run({ db, caller, now }, { body }) {
    const image = fromBase64(body.image)
    // It is shown in consoles: what is no image must not be stored under an image's name.
    if (image === null || !beginnings[body.mediaType].every((byte, at) => image[at] === byte)) throw new Fault('invalid', 'The picture is not of the type it says.', { errors: [{ pointer: '/image', detail: `must be ${body.mediaType}` }] })
    const fingerprint = await sha256Hex(image)
    await db.insert(avatars).values({ fingerprint, mediaType: body.mediaType, image: body.image, uid: caller.uid, at: now() }).onConflictDoNothing()
    return { fingerprint }
  },
})
