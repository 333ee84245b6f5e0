// Invitations and what was spent of them. Codes are stored as SHA-256 only.
import { integer, primaryKey, sqliteTable, text } from 'drizzle-orm/sqlite-core'

export const invitations = sqliteTable('invitations', {
  id: text('id').primaryKey(),
  codeHash: text('code_hash').notNull().unique(),
  name: text('name').notNull(),
  group: text('group_name').notNull(),
  uses: integer('uses').notNull(),
  expiresAt: integer('expires_at').notNull(),
  createdAt: integer('created_at').notNull(),
  withdrawnAt: integer('withdrawn_at'),
  /** Of the devices that enrol by it; null: not said. */
  ownership: text('ownership', { enum: ['corporate', 'personal'] }),
})

/** One spent use, bound to the key of the CSR: the same key asking again gets the same answer, another key does not. */
export const invitationSpends = sqliteTable('invitation_spends', {
  invitationId: text('invitation_id').notNull(),
  keyHash: text('key_hash').notNull(),
  uid: text('uid').notNull(),
  at: integer('at').notNull(),
}, (t) => [primaryKey({ columns: [t.invitationId, t.keyHash] })])

/** Pre-authorisations for gateways; one use each. */
export const joinCodes = sqliteTable('join_codes', {
  id: text('id').primaryKey(),
  codeHash: text('code_hash').notNull().unique(),
  name: text('name').notNull(),
  expiresAt: integer('expires_at').notNull(),
  createdAt: integer('created_at').notNull(),
  /** Serial of the gateway that spent it. */
  spentBy: text('spent_by'),
})
