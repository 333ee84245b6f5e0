// Certificate authorities and document-signing keys. Private keys stand here only wrapped (AES-GCM under a Worker secret).
import { integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'

/** The EMS's own facts: one row, fixed id, made by the first request that needs it. */
export const ems = sqliteTable('ems', {
  id: integer('id').primaryKey(),
  serial: text('serial').notNull(),
  fabricId: text('fabric_id').notNull(),
  createdAt: integer('created_at').notNull(),
})

/** Slot 1 is the first CA: a fixed row, so that fifty first requests at once make one. Each roll-over takes the next slot; the highest is active. */
export const authorities = sqliteTable('authorities', {
  slot: integer('slot').primaryKey(),
  id: text('id').notNull(),
  certificatePem: text('certificate_pem').notNull(),
  pin: text('pin').notNull(),
  wrappedKey: text('wrapped_key').notNull(),
  notAfter: integer('not_after').notNull(),
  createdAt: integer('created_at').notNull(),
  /** The key that signs documents under this CA, with its certificate: a new signer is introduced by its CA. */
  signerCertificatePem: text('signer_certificate_pem').notNull(),
  wrappedSignerKey: text('wrapped_signer_key').notNull(),
})
