// A page of endpoints behind the rules with all that most need to be left alone: their verdicts of the edited rule sets, and the sections that those read. One row an endpoint.
import { sql, type SQL } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { behind, systemIn, type Touched } from './behind.ts'

export interface BehindRow {
  readonly uid: string
  readonly os: string
  /** 1: one of its verdicts is due. */
  readonly full: number
  /** Verdicts of edited rule sets, a line each: the rule set's place in the list, then JSON. null: it holds none; empty: torn. */
  readonly held: string | null
  /** `bytes:section,at,body;…`, bodies in hexadecimal digits: D1 hands a blob over as a list of numbers, which is three times as slow. A section that is too large is a `!`. null: it can't be concerned. */
  readonly sections: string | null
}

/**
 * The next endpoints behind, by UID.
 * @param maxBytes of each section; what is larger is not read
 */
export const nextPage = (db: DrizzleD1Database, given: { revision: number; after: string; touched: Touched; sections: readonly string[]; now: number; limit: number; maxBytes: number }) => {
  const rows = sql`SELECT uid, os, COALESCE(next_due <= ${given.now}, 0) AS full, ${heldOf(given.touched)} AS held FROM endpoints WHERE uid > ${given.after} AND ${behind(given.revision)} ORDER BY uid LIMIT ${given.limit}`
  const own = sql`SELECT sum(length(s.body)) || ':' || group_concat(CASE WHEN length(s.body) <= ${given.maxBytes} THEN s.section || ',' || s.at || ',' || hex(s.body) ELSE '!' END, ';')
    FROM endpoint_sections s WHERE s.uid = w.uid AND s.section IN (${sql.join(given.sections.map((section) => sql`${section}`), sql`, `)})`
  return db.all<BehindRow>(sql`SELECT w.*, CASE WHEN w.held IS NOT NULL OR ${systemIn(given.touched)} THEN COALESCE((${own}), '0:') END AS sections FROM (${rows}) w ORDER BY w.uid`)
}

/** JSON that is torn is nobody's verdict: it is said where the endpoint is worked out whole, and must not take the page with it. */
const heldOf = ({ ruleSets }: Touched): SQL => sql`CASE WHEN json_valid(verdicts) THEN (SELECT group_concat(t.key || (verdicts -> t.value), char(10)) FROM json_each(${JSON.stringify(ruleSets)}) t) ELSE '' END`
