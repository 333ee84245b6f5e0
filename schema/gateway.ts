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
  /** Vouched for until then (ms); null: until somebody ends it. */
  vouchedUntil: integer('vouched_until'),
  /** When it last told all that it sees (ms): its neighbour tables, its connections. */
  neighboursAt: integer('neighbours_at'),
  connectionsAt: integer('connections_at'),
  /** FabricPlace as JSON: an administrator marked it as the fabric's own; null: nobody has, and whom it sees is not on the fabric for that. */
  fabric: text('fabric'),
})

/** Which endpoints a gateway said it cares for. */
export const gatewaySubscriptions = sqliteTable('gateway_subscriptions', {
  uid: text('uid').notNull(),
  serial: text('serial').notNull(),
}, (t) => [primaryKey({ columns: [t.uid, t.serial] })])

/**
 * What gateways see themselves: a device at an address. A neighbour is known by its MAC, the end of a connection by its UID.
 * `told` is the MAC (or UID) that followers were told of that row; another one, and it is told with the next report.
 * WITHOUT ROWID: a sight costs one row written.
 */
export const sightings = sqliteTable('sightings', {
  serial: text('serial').notNull(),
  kind: text('kind', { enum: ['neighbour', 'vpn', 'mtls'] }).notNull(),
  vdom: text('vdom').notNull(),
  ip: text('ip').notNull(),
  /** Empty for neighbours: there the device at the address is whichever has the MAC. */
  uid: text('uid').notNull(),
  mac: text('mac').notNull(),
  interface: text('interface').notNull(),
  seenAt: integer('seen_at').notNull(),
  told: text('told').notNull().default(''),
  /** It says that the device is on the fabric: the gateway was marked, and sees it there. */
  local: integer('local', { mode: 'boolean' }).notNull().default(false),
}, (t) => [primaryKey({ columns: [t.serial, t.kind, t.vdom, t.ip, t.uid] })])

/**
 * Certificates of gateways that were ended before their time, for the revocation list. One that was `superseded` by its gateway's next
 * harms nobody while that gateway is authorised, so agents are not told of it: it would cut connections made with it before.
 */
export const gatewayRevocations = sqliteTable('gateway_revocations', {
  certificateSerial: text('certificate_serial').primaryKey(),
  notAfter: integer('not_after').notNull(),
  at: integer('at').notNull(),
  cause: text('cause', { enum: ['revoked', 'superseded'] }).notNull().default('revoked'),
  /** Serial of the gateway; empty in rows of older releases. */
  gateway: text('gateway').notNull().default(''),
})

export type GatewayRow = typeof gateways.$inferSelect
