// Gateways: who they are, whether they are authorised, and what concerns them (the interest table).
import { integer, primaryKey, sqliteTable, text } from 'drizzle-orm/sqlite-core'

export const gateways = sqliteTable('gateways', {
  serial: text('serial').primaryKey(),
  name: text('name').notNull(),
  state: text('state', { enum: ['pending', 'authorised', 'denied'] }).notNull(),
  reason: text('reason').notNull(),
  /** SHA-256 of the SPKI, hex: a gateway is its key. */
  keyHash: text('key_hash').notNull().unique(),
  fingerprint: text('fingerprint').notNull(),
  csr: text('csr').notNull(),
  address: text('address').notNull().default(''),
  /** The valid certificate, and the one before it until the new one is first used. */
  certificateSerial: text('certificate_serial'),
  previousSerial: text('previous_serial'),
  certificatePem: text('certificate_pem'),
  notAfter: integer('not_after'),
  isRoot: integer('is_root', { mode: 'boolean' }).notNull().default(false),
  vouchedBy: text('vouched_by'),
  shareMode: integer('share_mode').notNull().default(1),
  selectedSerials: text('selected_serials').notNull().default('[]'),
  shareTagTypes: text('share_tag_types').notNull().default('[1,2,3,4]'),
  joinedAt: integer('joined_at').notNull(),
  authorisedAt: integer('authorised_at'),
})

/** Which endpoints a gateway said it cares for. */
export const gatewaySubscriptions = sqliteTable('gateway_subscriptions', {
  uid: text('uid').notNull(),
  serial: text('serial').notNull(),
}, (t) => [primaryKey({ columns: [t.uid, t.serial] })])

export type GatewayRow = typeof gateways.$inferSelect
