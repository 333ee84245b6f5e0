// Identity providers, and the sign-ins that endpoints have begun by them. Whom they vouched for is a section of the endpoint's facts.
import { integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'

/** `body` is the IdentityProvider (protocol/identity.ts) as JSON. */
export const identityProviders = sqliteTable('identity_providers', {
  name: text('name').primaryKey(),
  body: text('body').notNull(),
  updatedAt: integer('updated_at').notNull(),
})

/** The sign-in that an endpoint began last. WITHOUT ROWID: to begin one costs one row written. */
export const signIns = sqliteTable('sign_ins', {
  uid: text('uid').primaryKey(),
  provider: text('provider').notNull(),
  /** SHA-256 of the nonce, hex. */
  nonceHash: text('nonce_hash').notNull(),
  /** ms */
  expiresAt: integer('expires_at').notNull(),
  /** SHA-256 of the ID token that spent it, hex: the same one again is a reply that was lost. */
  tokenHash: text('token_hash'),
})

export type SignInRow = typeof signIns.$inferSelect
