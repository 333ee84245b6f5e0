// Endpoints, their certificates, their facts by section, and their tags.
import { sql } from 'drizzle-orm'
import { blob, index, integer, primaryKey, sqliteTable, text } from 'drizzle-orm/sqlite-core'
import { noTagChanges } from '../domain/tagging/flapping.ts'

export const endpoints = sqliteTable('endpoints', {
  uid: text('uid').primaryKey(),
  /** Advanced by the last statement of every guarded batch; it belongs to the endpoint, never to the log. */
  version: integer('version').notNull().default(0),
  registered: integer('registered', { mode: 'boolean' }).notNull(),
  online: integer('online', { mode: 'boolean' }).notNull().default(false),
  onFabric: integer('on_fabric', { mode: 'boolean' }).notNull().default(false),
  quarantined: integer('quarantined', { mode: 'boolean' }).notNull().default(false),
  group: text('group_name').notNull(),
  hostName: text('host_name').notNull(),
  os: text('os').notNull(),
  account: text('account').notNull().default(''),
  agentVersion: text('agent_version').notNull(),
  protocol: text('protocol').notNull(),
  enrolledAt: integer('enrolled_at').notNull(),
  lastReportAt: integer('last_report_at'),
  deregisteredAt: integer('deregistered_at'),
  deregistration: text('deregistration'),
  /** Last report sequence taken. */
  sequence: integer('sequence').notNull().default(0),
  /** Revision of the rules that `verdicts` and `tags` were computed with; they hold for later ones too, up to row 4 of `rules_state`. */
  rulesRevision: integer('rules_revision').notNull().default(0),
  /** RuleVerdicts and TagState[] as JSON: computed state, so that a report evaluates only rules whose facts changed. */
  verdicts: text('verdicts').notNull().default('{}'),
  tags: text('tags').notNull().default('[]'),
  /** Valid certificates as CertificateRecord[] JSON with `keyHash`: the log entry is built without a further read. */
  certificates: text('certificates').notNull().default('[]'),
  /** Interface addresses for the log entry: {ips, macs} JSON. */
  addresses: text('addresses').notNull().default('{"ips":[],"macs":[]}'),
  /** The earliest instant at which a verdict can change without a new fact. */
  nextDue: integer('next_due'),
  /** Source of the last report that changed something; empty where the platform does not tell it. */
  publicIp: text('public_ip').notNull().default(''),
  /** Assignment[] as JSON: tags that are set and not given by rules. `tags` has them too while they hold. */
  assigned: text('assigned').notNull().default('[]'),
  /** TagChanges (domain/tagging/flapping.ts) as JSON. */
  tagChanges: text('tag_changes').notNull().default(noTagChanges),
  /** As administrators said; null: nobody has. */
  ownership: text('ownership', { enum: ['corporate', 'personal'] }),
  /** The gateway by whose sight it is on the fabric; null: none sees it. */
  fabricBy: text('fabric_by'),
  /** ms: none sees it any more, and it is on the fabric until then. */
  fabricUntil: integer('fabric_until'),
  /** ms: when it last came or left while a policy had another profile for that; its profile is as new as this. */
  profileMovedAt: integer('profile_moved_at'),
  /** The identity provider by whose word somebody is signed in; null: nobody is. */
  identityBy: text('identity_by'),
  /** ms: that provider was removed, or is another one now: nobody is signed in since, though the section may still say so. */
  identityUntil: integer('identity_until'),
}, (t) => [
  index('endpoints_identity').on(t.identityBy).where(sql`identity_by IS NOT NULL`),
  index('endpoints_fabric').on(t.fabricBy).where(sql`fabric_by IS NOT NULL`),
  index('endpoints_due').on(t.nextDue).where(sql`next_due IS NOT NULL`),
  index('endpoints_registered').on(t.registered),
])

/** Every certificate ever issued to an endpoint; the CRL and the admission check read it. */
export const certificates = sqliteTable('certificates', {
  serial: text('serial').primaryKey(),
  uid: text('uid').notNull(),
  purpose: text('purpose', { enum: ['agent', 'browser'] }).notNull(),
  osUser: text('os_user').notNull().default(''),
  keyHash: text('key_hash').notNull(),
  pem: text('pem').notNull(),
  notAfter: integer('not_after').notNull(),
  /** `fresh` until the first request signed with it, which retires the ones before; `retired` and `revoked` are refused. */
  state: text('state', { enum: ['fresh', 'current', 'retired', 'revoked'] }).notNull(),
  issuedAt: integer('issued_at').notNull(),
  /** When it was retired or revoked (ms). */
  endedAt: integer('ended_at'),
}, (t) => [index('certificates_uid').on(t.uid), index('certificates_revoked').on(t.notAfter).where(sql`state = 'revoked'`)])

/** Who says that a MAC is its own: a gateway's sight of any other is nobody's business. */
export const endpointMacs = sqliteTable('endpoint_macs', {
  mac: text('mac').notNull(),
  uid: text('uid').notNull(),
}, (t) => [primaryKey({ columns: [t.mac, t.uid] })])

/** One row per (endpoint, section): deflated canonical JSON, its hash, and when the EMS took it. WITHOUT ROWID: one row written, not two. */
export const endpointSections = sqliteTable('endpoint_sections', {
  uid: text('uid').notNull(),
  section: text('section').notNull(),
  hash: text('hash').notNull(),
  at: integer('at').notNull(),
  body: blob('body', { mode: 'buffer' }).notNull(),
}, (t) => [primaryKey({ columns: [t.uid, t.section] })])

/** Who has a tag. What an endpoint has is in its own row, so that this is read by tag only. */
export const endpointTags = sqliteTable('endpoint_tags', {
  tagUid: text('tag_uid').notNull(),
  uid: text('uid').notNull(),
  state: text('state', { enum: ['present', 'unknown'] }).notNull(),
  validUntil: integer('valid_until'),
  since: integer('since').notNull(),
}, (t) => [primaryKey({ columns: [t.tagUid, t.uid] })])

export type EndpointRow = typeof endpoints.$inferSelect

/** Pictures by the endpoint that sent them: what one endpoint may store is bounded, and none takes another's away. */
export const avatars = sqliteTable('avatars', {
  uid: text('uid').notNull(),
  fingerprint: text('fingerprint').notNull(),
  mediaType: text('media_type').notNull(),
  image: text('image').notNull(),
  at: integer('at').notNull(),
}, (t) => [primaryKey({ columns: [t.uid, t.fingerprint] }), index('avatars_fingerprint').on(t.fingerprint)])
