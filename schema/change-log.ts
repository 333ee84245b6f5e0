// The change log: the order of the world. Followers keep (revision, mark) and ask what came after.
import { integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'

/**
 * `revision` is the rowid (not AUTOINCREMENT, which costs a second row). `mark` is random, so that a follower
 * notices a restored database: its revision is there, but bears another mark.
 */
export const changeLog = sqliteTable('change_log', {
  revision: integer('revision').primaryKey(),
  mark: text('mark').notNull(),
  /** ms: when the EMS accepted the cause. */
  at: integer('at').notNull(),
  /** The endpoint concerned; null for a change that is nobody's own (tags, authorities). */
  uid: text('uid'),
  /** Fabric tables that changed, comma-separated: `sysinfo,uid_tags`. */
  tables: text('tables').notNull(),
  /** The endpoint's whole small record after the change (LogEntry JSON): a later row replaces an earlier one. Without a UID: what changed in a gateway's sights (SightChange JSON). */
  entry: text('entry'),
})

/**
 * What changed last, and when, by kind (`states` in workers/flows/states.ts). Row 1 is the revision of the rules: every write of an
 * endpoint is guarded by the one it was computed with. Row 4 is the revision that every endpoint has been worked out with: an endpoint
 * whose own is older is as good as worked out with that one, so that an edit which changes nothing for it costs it no row.
 */
export const rulesState = sqliteTable('rules_state', {
  id: integer('id').primaryKey(),
  revision: integer('revision').notNull(),
  changedAt: integer('changed_at').notNull(),
})
