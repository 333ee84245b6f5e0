// Trimming the change log. A follower that is further behind loads anew.
import { sql } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { changeLog } from '../change-log.ts'

/** Removes at most `limit` rows older than an instant (ms), oldest first; never the newest, which is where followers stand. */
export const trimLog = (db: DrizzleD1Database, before: number, limit: number) => db.delete(changeLog).where(sql`${changeLog.revision} IN (
  SELECT revision FROM change_log WHERE at < ${before} AND revision < (SELECT max(revision) FROM change_log) ORDER BY revision LIMIT ${limit})`)
