// Advisories as imported, compactly, and which distinct packages of the fleet they speak of.
import { index, integer, primaryKey, sqliteTable, text } from 'drizzle-orm/sqlite-core'

/** One row (id 1): revision of the last page imported, the revision up to which all was matched, and when dates of matches were last renewed. */
export const advisoryState = sqliteTable('advisory_state', {
  id: integer('id').primaryKey(),
  revision: integer('revision').notNull(),
  matchedThrough: integer('matched_through').notNull(),
  renewedAt: integer('renewed_at').notNull().default(0),
})

/** WITHOUT ROWID, as the three tables after it. */
export const advisories = sqliteTable('advisories', {
  id: text('id').primaryKey(),
  source: text('source').notNull(),
  modifiedAt: integer('modified_at').notNull(),
  withdrawn: integer('withdrawn', { mode: 'boolean' }).notNull(),
  severity: text('severity').notNull(),
  summary: text('summary').notNull(),
  /** CVEs that it speaks of, as JSON. */
  cves: text('cves').notNull(),
  /** What it names, as JSON of [ecosystem, name]: its rows in `advisory_packages`. */
  named: text('named').notNull(),
  /** The page that brought it. */
  revision: integer('revision').notNull(),
}, (t) => [index('advisories_revision').on(t.revision)])

/** What an advisory says of one package. */
export const advisoryPackages = sqliteTable('advisory_packages', {
  ecosystem: text('ecosystem').notNull(),
  name: text('name').notNull(),
  advisory: text('advisory').notNull(),
  /** `unrated`: as the advisory's. */
  severity: text('severity').notNull(),
  /** [ranges, versions] as JSON (domain/vulnerability/range.ts). */
  versions: text('versions').notNull(),
}, (t) => [primaryKey({ columns: [t.ecosystem, t.name, t.advisory] })])

/** Advisories by CVE, and the severity that each lends to it. */
export const advisoryCves = sqliteTable('advisory_cves', {
  cve: text('cve').notNull(),
  advisory: text('advisory').notNull(),
  /** `unrated`: none. */
  severity: text('severity').notNull(),
}, (t) => [primaryKey({ columns: [t.cve, t.advisory] })])

/** Ecosystems that a source has brought advisories of, and when it last brought all that it knows (ms; 0: never, so that a part of them makes nobody clean). */
export const advisoryFeeds = sqliteTable('advisory_feeds', {
  ecosystem: text('ecosystem').notNull(),
  source: text('source').notNull(),
  asOf: integer('as_of').notNull(),
}, (t) => [primaryKey({ columns: [t.ecosystem, t.source] })])

/** Which advisories hold for a distinct package, worked out once for the whole fleet. WITHOUT ROWID. */
export const affectedPackages = sqliteTable('affected_packages', {
  packageId: integer('package_id').notNull(),
  advisory: text('advisory').notNull(),
  severity: text('severity').notNull(),
  /** The first version without it; null: none is known. */
  fixed: text('fixed'),
}, (t) => [primaryKey({ columns: [t.packageId, t.advisory] }), index('affected_packages_advisory').on(t.advisory)])
