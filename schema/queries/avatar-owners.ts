// Whose avatar it may be: asked by picture, and by the name of a user.
import { sql } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { avatars, endpoints } from '../endpoint.ts'

const among = (values: readonly string[]) => sql`(SELECT value FROM json_each(${JSON.stringify(values)}))`
export const uidsOfAvatars = (db: DrizzleD1Database, fingerprints: readonly string[]) => db.select({ uid: avatars.uid }).from(avatars).where(sql`${avatars.fingerprint} IN ${among(fingerprints)}`).limit(500)
/** Reads every endpoint: names have no index, for they change with every log-on and are seldom asked for. */
export const endpointsByAccount = (db: DrizzleD1Database, accounts: readonly string[], limit: number) =>
  db.select({ uid: endpoints.uid }).from(endpoints).where(sql`${accounts.length} > 0 AND ${endpoints.registered} = 1 AND ${endpoints.account} IN ${among(accounts)}`).limit(limit)
