// What is installed in the fleet: each distinct package once, and who has it. An endpoint's own list of package ids is its section `software`.
import { sql } from 'drizzle-orm'
import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from 'drizzle-orm/sqlite-core'

/**
 * One row per distinct package of the whole fleet, written together with its matches: a package that stands here has been matched.
 * What a device says of a package's source is part of what makes it distinct, so that one device's lie is no other's fact.
 */
export const packages = sqliteTable('packages', {
  id: integer('id').primaryKey(),
  /** As OSV writes it, with the release: `Debian:12`, `PyPI`; or as reported where nothing is matched: `windows`. */
  ecosystem: text('ecosystem').notNull(),
  name: text('name').notNull(),
  version: text('version').notNull(),
  /** What advisories name: the source it was built from, else itself. */
  subject: text('subject').notNull(),
  subjectVersion: text('subject_version').notNull(),
  /** Since when nobody has it (ms); it is removed a while later. */
  orphanedAt: integer('orphaned_at'),
}, (t) => [
  uniqueIndex('packages_subject').on(t.ecosystem, t.subject, t.subjectVersion, t.name, t.version), index('packages_name').on(t.name),
  index('packages_orphaned').on(t.orphanedAt).where(sql`orphaned_at IS NOT NULL`),
])

/** Endpoints that have reported software, by a small number of their own: a bit in a row of `package_holders`. */
export const inventories = sqliteTable('inventories', {
  number: integer('number').primaryKey(),
  uid: text('uid').notNull().unique(),
  /** Rows that its reports have made the fleet's tables grow by since `introducedSince` (ms): what one device can fill them with is bounded. */
  introduced: integer('introduced').notNull().default(0),
  introducedSince: integer('introduced_since').notNull().default(0),
})

/** Endpoints in one row of holders: what a double holds exactly, for JavaScript reads the bits. */
export const ENDPOINTS_IN_WORD = 48
/** Who has a package: bit `number % 48` of word `number / 48`. Setting a bit is one statement, so two reports never lose one another's. WITHOUT ROWID. */
export const packageHolders = sqliteTable('package_holders', {
  packageId: integer('package_id').notNull(),
  word: integer('word').notNull(),
  bits: integer('bits').notNull(),
}, (t) => [primaryKey({ columns: [t.packageId, t.word] })])

/** Endpoints whose packages' matches have changed since theirs were worked out. `mark` changes with every mark set, so that none set meanwhile is cleared. */
export const staleInventories = sqliteTable('stale_inventories', {
  word: integer('word').primaryKey(),
  bits: integer('bits').notNull(),
  mark: integer('mark').notNull().default(0),
})
