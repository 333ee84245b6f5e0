// Which advisories hold for which packages of the fleet: worked out once for each distinct package, read for an endpoint by its list of ids.
import { sql, type SQL } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import type { Match } from '../../domain/vulnerability/match.ts'
import { affectedPackages } from '../advisory.ts'
import { jsonPieces } from './chunks.ts'
import { joinPackages, matchedPackages } from './packages.ts'

const update = { severity: sql`excluded.severity`, fixed: sql`excluded.fixed` }
/** Matches of packages that are inserted in the same batch, while the advisories are at this revision. */
export const insertNewMatches = (db: DrizzleD1Database, matches: readonly Match[], revision: number) =>
  matchedPackages(matches.map(({ package: of, advisory, severity, fixed }) => [of, advisory, severity, fixed])).map((piece) => db.insert(affectedPackages)
    .select(sql`SELECT p.id, json_extract(j.value, '$[5]'), json_extract(j.value, '$[6]'), json_extract(j.value, '$[7]') FROM ${joinPackages(piece, revision)}`)
    .onConflictDoUpdate({ target: [affectedPackages.packageId, affectedPackages.advisory], set: update }))

/** [package id, advisory, severity, fixed] as worked out anew; `when` guards it. */
export const putMatches = (db: DrizzleD1Database, rows: readonly (readonly [number, string, string, string | null])[], when: SQL) => jsonPieces(rows).map((piece) => db.insert(affectedPackages)
  .select(sql`SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]') FROM json_each(${piece}) WHERE ${when}`)
  .onConflictDoUpdate({ target: [affectedPackages.packageId, affectedPackages.advisory], set: update }))
export const dropMatches = (db: DrizzleD1Database, rows: readonly (readonly [number, string])[], when: SQL) => jsonPieces(rows).map((piece) => db.delete(affectedPackages)
  .where(sql`(${affectedPackages.packageId}, ${affectedPackages.advisory}) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(${piece})) AND ${when}`))
/** Matches of some advisories, in pages. */
export const matchesOf = (db: DrizzleD1Database, advisories: readonly string[], after: readonly [string, number], limit: number) =>
  db.all<{ packageId: number; advisory: string; severity: string; fixed: string | null }>(sql`SELECT package_id AS packageId, advisory, severity, fixed FROM affected_packages
    WHERE advisory IN (SELECT value FROM json_each(${JSON.stringify(advisories)})) AND (advisory, package_id) > (${after[0]}, ${after[1]}) ORDER BY advisory, package_id LIMIT ${limit}`)

export interface AffectedRow {
  readonly at: number; readonly advisory: string; readonly ecosystem: string; readonly subject: string; readonly subjectVersion: string
  /** What the advisory says of this package, and of itself. */
  readonly own: string; readonly general: string
  readonly fixed: string | null; readonly cves: string
}
/** What holds for these packages, in pages; reads only packages that something holds for. `at` counts the ids; the next page begins with the last one's, after its advisory. */
export const affectedAmong = (db: DrizzleD1Database, ids: readonly number[], after: string, limit: number) => db.all<AffectedRow>(sql`
  SELECT j.key AS at, ap.advisory AS advisory, p.ecosystem AS ecosystem, p.subject AS subject, p.subject_version AS subjectVersion, ap.severity AS own, a.severity AS general, ap.fixed AS fixed, a.cves AS cves
  FROM json_each(${JSON.stringify(ids)}) j CROSS JOIN affected_packages ap ON ap.package_id = j.value CROSS JOIN packages p ON p.id = ap.package_id CROSS JOIN advisories a ON a.id = ap.advisory
  WHERE j.key > 0 OR ap.advisory > ${after} ORDER BY j.key, ap.advisory LIMIT ${limit}`)
/** Severities that CVEs have by other advisories. */
export const ratingsOf = (db: DrizzleD1Database, cves: readonly string[]) => db.all<{ cve: string; severity: string }>(sql`
  SELECT DISTINCT cve, severity FROM advisory_cves WHERE cve IN (SELECT value FROM json_each(${JSON.stringify(cves)})) AND severity <> 'unrated'`)
