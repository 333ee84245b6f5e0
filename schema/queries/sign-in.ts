// Sign-ins: what one is begun and spent with, and who is signed in by an identity provider.
import { and, asc, eq, sql, type SQL } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { endpoints } from '../endpoint.ts'
import { identityProviders, signIns } from '../identity.ts'
import { unchanged, type Guard } from './guarded.ts'

/** As many as there can be. */
export const MAX_PROVIDERS = 32
export const allProviders = (db: DrizzleD1Database) => db.select().from(identityProviders).orderBy(asc(identityProviders.name)).limit(MAX_PROVIDERS)
export const providerNamed = (db: DrizzleD1Database, name: string) => db.select().from(identityProviders).where(eq(identityProviders.name, name))
/** Whether a provider is still as it was read: nobody signs in by one that was removed or changed meanwhile. */
export const providerIs = ({ name, body }: { name: string; body: string }): SQL => sql`EXISTS (SELECT 1 FROM identity_providers WHERE name = ${name} AND body = ${body})`

export const signInOf = (db: DrizzleD1Database, uid: string) => db.select().from(signIns).where(eq(signIns.uid, uid))
/** A new one replaces the one before. */
export const begin = (db: DrizzleD1Database, row: { uid: string; provider: string; nonceHash: string; expiresAt: number }) => db.insert(signIns).values(row)
  .onConflictDoUpdate({ target: signIns.uid, set: { provider: row.provider, nonceHash: row.nonceHash, expiresAt: row.expiresAt, tokenHash: null } })
/** Whether that is still the sign-in begun last: signed out meanwhile, it is none. */
export const isBegun = (uid: string, nonceHash: string): SQL => sql`EXISTS (SELECT 1 FROM sign_ins WHERE uid = ${uid} AND nonce_hash = ${nonceHash})`
/** In the batch that writes the identity. The version of the endpoint that guards it lets one of two through. */
export const spend = (db: DrizzleD1Database, guard: Guard, nonceHash: string, tokenHash: string) => db.update(signIns).set({ tokenHash })
  .where(sql`${signIns.uid} = ${guard.uid} AND ${signIns.nonceHash} = ${nonceHash} AND ${unchanged(guard)}`)
export const withdraw = (db: DrizzleD1Database, uid: string) => db.delete(signIns).where(eq(signIns.uid, uid))

/** Whoever is signed in by a provider is so no more, however many they are: each is due at once, and what was computed before is void. */
export const endAllBy = (db: DrizzleD1Database, name: string, now: number, when: SQL = sql`1`) => db.update(endpoints)
  .set({ identityBy: null, identityUntil: now, nextDue: now, version: sql`version + 1` }).where(and(eq(endpoints.identityBy, name), when))
export const withdrawAllBy = (db: DrizzleD1Database, name: string, when: SQL = sql`1`) => db.delete(signIns).where(and(eq(signIns.provider, name), when))
/** Adds or replaces one, while there is room. */
export const saveProvider = (db: DrizzleD1Database, { name, body, updatedAt }: { name: string; body: string; updatedAt: number }) => db.insert(identityProviders)
  .select(sql`SELECT ${name}, ${body}, ${updatedAt} WHERE (SELECT count(*) FROM identity_providers WHERE name <> ${name}) < ${MAX_PROVIDERS}`)
  .onConflictDoUpdate({ target: identityProviders.name, set: { body: sql`excluded.body`, updatedAt: sql`excluded.updated_at` } })
export const deleteProvider = (db: DrizzleD1Database, name: string) => db.delete(identityProviders).where(eq(identityProviders.name, name))
