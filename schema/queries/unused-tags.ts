// Tags of rules that nothing gives.
import { sql } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { tags } from '../rules.ts'

/** A tag that no rule set gives any more is gone with the last one. What people and automation set has other types, and stays. */
export const dropUnusedTags = (db: DrizzleD1Database) => db.delete(tags).where(sql`${tags.type} IN (1, 2) AND NOT EXISTS (SELECT 1 FROM rule_sets r WHERE r.tag_uid = ${tags.uid})`)
