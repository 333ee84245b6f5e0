// What the EMS says of itself to a stranger: that it lives, and that it holds its CA.
import { health, introduce } from '../../protocol/operations/public.ts'
import { sql } from 'drizzle-orm'
import { handle, type Route } from '../http/mount.ts'
import { authorityRows, emsIdentity, signFor } from '../flows/authority.ts'

const ASKED_EVERY_MS = 1_000
/** When the database answered last, in this isolate. */
let answeredAt = 0

export const introduceRoutes: Route[] = [
  handle(health, {
    async run({ db, now }) {
      // Anybody may ask, as often as they like: the database is asked once a second.
      if (now() - answeredAt >= ASKED_EVERY_MS) {
        await db.run(sql`SELECT 1`)
        answeredAt = now()
      }
      return { ok: true as const, emsTime: now() }
    },
  }),
  handle(introduce, {
    async run(context, { body }) {
      const [rows, { serial }] = [await authorityRows(context), await emsIdentity(context)]
      // The authority the caller wrote, not the configured one: a proof passed on by somebody in between names the wrong address.
      const authority = context.request.headers.get('host') ?? new URL(context.request.url).host
      const said = { challenge: body.challenge, authority, emsSerial: serial, emsTime: context.now(), certificates: rows.map(({ certificatePem }) => certificatePem) }
      return { document: await signFor(context, 'introduction', '*', said, body.pin === undefined ? {} : { pin: body.pin }) }
    },
  }),
]
