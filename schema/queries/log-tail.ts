// The tail of the change log: what a poke carries, so that an object finds its cursor in it and reads nothing.
import { desc } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { changeLog } from '../change-log.ts'

/** Rows in a poke. More than this between two pokes of a gateway, and its object reads the log. */
export const TAIL_ROWS = 16
/** Newest first. */
export const logTail = (db: DrizzleD1Database) => db.select().from(changeLog).orderBy(desc(changeLog.revision)).limit(TAIL_ROWS)
