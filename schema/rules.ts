// Tags, tagging rule sets, profiles, endpoint policies and the licence.
import { integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'

export const tags = sqliteTable('tags', {
  uid: text('uid').primaryKey(),
  name: text('name').notNull().unique(),
  type: integer('type').notNull(),
  description: text('description').notNull().default(''),
  createdAt: integer('created_at').notNull(),
})
/** `body` is the RuleSetInput (protocol/rules.ts) as JSON. */
export const ruleSets = sqliteTable('rule_sets', {
  id: text('id').primaryKey(),
  tagUid: text('tag_uid').notNull(),
  body: text('body').notNull(),
  updatedAt: integer('updated_at').notNull(),
  /** The pack that it came with; it is changed by importing that anew. */
  packId: text('pack_id'),
})
/** Rule packs as imported; their rule sets are rows of `rule_sets`. `mark` is another for each import: whatever belongs to an import is guarded by it. */
export const packs = sqliteTable('packs', {
  id: text('id').primaryKey(),
  name: text('name').notNull().unique(),
  version: text('version').notNull(),
  issuedAt: integer('issued_at').notNull(),
  description: text('description').notNull(),
  importedAt: integer('imported_at').notNull(),
  mark: text('mark').notNull(),
})
/**
 * Which rule set each revision of the rules changed: what an endpoint that was worked out with an older one still owes.
 * Rows that every endpoint has caught up with are removed.
 */
export const ruleChanges = sqliteTable('rule_changes', {
  /** The revision of the rules that this edit made. */
  revision: integer('revision').primaryKey(),
  ruleSetId: text('rule_set_id').notNull(),
  /** Systems that the rule set decides about from then on, comma-separated; empty when it was removed or disabled. */
  systems: text('systems').notNull(),
  /** ms: until when an endpoint's verdict from before may stand while its agent owes an answer; null: it may not. */
  standsUntil: integer('stands_until'),
})
export const profiles = sqliteTable('profiles', {
  id: text('id').primaryKey(),
  name: text('name').notNull(),
  settings: text('settings').notNull(),
  updatedAt: integer('updated_at').notNull(),
})
export const endpointPolicies = sqliteTable('endpoint_policies', {
  id: text('id').primaryKey(),
  name: text('name').notNull(),
  enabled: integer('enabled', { mode: 'boolean' }).notNull(),
  position: integer('position').notNull(),
  groups: text('groups').notNull(),
  profileId: text('profile_id').notNull(),
  updatedAt: integer('updated_at').notNull(),
  /** While the endpoint is off the fabric; null: the same. */
  offFabricProfileId: text('off_fabric_profile_id'),
})
/** The organisation's licence, one row (id 1), with the signed document. */
export const licences = sqliteTable('licences', {
  id: integer('id').primaryKey(),
  seats: integer('seats'),
  features: text('features').notNull(),
  endsAt: integer('ends_at'),
  issuedAt: integer('issued_at').notNull(),
  document: text('document').notNull(),
})
