// The user's picture, kept by its fingerprint.
import { sql } from 'drizzle-orm'
import { putAvatar } from '../../protocol/operations/endpoint.ts'
import { Fault } from '../../protocol/faults.ts'
import { fromBase64 } from '../../identity/encoding.ts'
import { sha256Hex } from '../../identity/keys.ts'
import { avatars } from '../../schema/endpoint.ts'
import { handle } from '../http/mount.ts'

/** Pictures kept of one endpoint. */
const MAX_KEPT = 2

const beginnings = { 'image/png': [0x89, 0x50, 0x4e, 0x47], 'image/jpeg': [0xff, 0xd8, 0xff] }

export const avatarRoute = handle(putAvatar, {
  async run({ db, caller, now }, { body }) {
    const image = fromBase64(body.image)
    // It is shown in consoles: what is no image must not be stored under an image's name.
    if (image === null || !beginnings[body.mediaType].every((byte, at) => image[at] === byte)) throw new Fault('invalid', 'The picture is not of the type it says.', { errors: [{ pointer: '/image', detail: `must be ${body.mediaType}` }] })
    const fingerprint = await sha256Hex(image)
    const row = { uid: caller.uid, fingerprint, mediaType: body.mediaType, image: body.image, at: now() }
    await db.batch([
      db.insert(avatars).values(row).onConflictDoUpdate({ target: [avatars.uid, avatars.fingerprint], set: { at: row.at } }),
      // The one before stays until the report names the new one; no endpoint fills the database with pictures.
      db.delete(avatars).where(sql`${avatars.uid} = ${caller.uid} AND ${avatars.fingerprint} NOT IN (SELECT fingerprint FROM avatars WHERE uid = ${caller.uid} ORDER BY at DESC, fingerprint = ${fingerprint} DESC LIMIT ${MAX_KEPT})`),
    ])
    return { fingerprint }
  },
})
