// Advisories as stored: a page of them is imported whole or not at all, each page is one revision, and pages are matched in their order.
import { and, asc, eq, gt, sql, type SQL } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import type { ReadAdvisory } from '../../domain/vulnerability/read-advisory.ts'
import { advisories, advisoryCves, advisoryFeeds, advisoryPackages, advisoryState, affectedPackages } from '../advisory.ts'
import { endpoints, endpointSections } from '../endpoint.ts'
import { packages } from '../package.ts'
import { jsonPieces } from './chunks.ts'

const among = (values: readonly (string | number)[]): SQL => sql`(SELECT value FROM json_each(${JSON.stringify(values)}))`
const column = (index: number): SQL => sql.raw(`json_extract(value, '$[${index}]')`)

export const stateOf = (db: DrizzleD1Database) => db.select().from(advisoryState).where(eq(advisoryState.id, 1))
/** Still at that revision: nobody else has imported a page. */
export const revisionIs = (revision: number): SQL => sql`EXISTS (SELECT 1 FROM advisory_state WHERE id = 1 AND revision = ${revision})`
/** Pages up to that revision are matched, and this one is not yet. */
export const matchedIs = (revision: number): SQL => sql`EXISTS (SELECT 1 FROM advisory_state WHERE id = 1 AND matched_through = ${revision})`

/** What is stored under these ids. */
export const storedAdvisories = (db: DrizzleD1Database, ids: readonly string[]) => db.select({ id: advisories.id, modifiedAt: advisories.modifiedAt, named: advisories.named, cves: advisories.cves }).from(advisories).where(sql`${advisories.id} IN ${among(ids)}`)

/** One stored advisory that a page replaces. */
export interface Replaced { readonly id: string; readonly named: string; readonly cves: string }
/** The statements of one page, for one batch; the last advances the revision: if it changed no row, nothing did. */
export function importPage(db: DrizzleD1Database, source: string, page: readonly ReadAdvisory[], replaced: readonly Replaced[], revision: number) {
  const still = revisionIs(revision)
  const keys = (row: Replaced) => (JSON.parse(row.named) as [string, string][]).map(([ecosystem, name]) => [ecosystem, name, row.id])
  const named = page.flatMap(({ id, affected }) => affected.map(({ ecosystem, name, severity, ranges, versions }) => [ecosystem, name, id, severity, JSON.stringify([ranges, versions])]))
  const cves = page.flatMap(({ id, cves, rates, severity }) => cves.map((cve) => [cve, id, cve === rates ? severity : 'unrated']))
  const rows = page.map(({ id, modifiedAt, withdrawn, severity, summary, cves, affected }) =>
    [id, source, modifiedAt, withdrawn ? 1 : 0, severity, summary, JSON.stringify(cves), JSON.stringify(affected.map(({ ecosystem, name }) => [ecosystem, name]))])
  return [
    ...jsonPieces(replaced.flatMap(keys)).map((piece) => db.delete(advisoryPackages).where(sql`(${advisoryPackages.ecosystem}, ${advisoryPackages.name}, ${advisoryPackages.advisory}) IN (SELECT ${column(0)}, ${column(1)}, ${column(2)} FROM json_each(${piece})) AND ${still}`)),
    ...jsonPieces(replaced.flatMap(({ id, cves: before }) => (JSON.parse(before) as string[]).map((cve) => [cve, id]))).map((piece) => db.delete(advisoryCves).where(sql`(${advisoryCves.cve}, ${advisoryCves.advisory}) IN (SELECT ${column(0)}, ${column(1)} FROM json_each(${piece})) AND ${still}`)),
    ...jsonPieces(rows).map((piece) => db.insert(advisories)
      .select(sql`SELECT ${column(0)}, ${column(1)}, ${column(2)}, ${column(3)}, ${column(4)}, ${column(5)}, ${column(6)}, ${column(7)}, ${revision + 1} FROM json_each(${piece}) WHERE ${still}`)
      .onConflictDoUpdate({ target: advisories.id, set: {
        source: sql`excluded.source`, modifiedAt: sql`excluded.modified_at`, withdrawn: sql`excluded.withdrawn`, severity: sql`excluded.severity`, summary: sql`excluded.summary`, cves: sql`excluded.cves`, named: sql`excluded.named`, revision: sql`excluded.revision`,
      } })),
    ...jsonPieces(named).map((piece) => db.insert(advisoryPackages).select(sql`SELECT ${column(0)}, ${column(1)}, ${column(2)}, ${column(3)}, ${column(4)} FROM json_each(${piece}) WHERE ${still}`)
      .onConflictDoUpdate({ target: [advisoryPackages.ecosystem, advisoryPackages.name, advisoryPackages.advisory], set: { severity: sql`excluded.severity`, versions: sql`excluded.versions` } })),
    ...jsonPieces(cves).map((piece) => db.insert(advisoryCves).select(sql`SELECT ${column(0)}, ${column(1)}, ${column(2)} FROM json_each(${piece}) WHERE ${still}`)
      .onConflictDoUpdate({ target: [advisoryCves.cve, advisoryCves.advisory], set: { severity: sql`excluded.severity` } })),
    db.update(advisoryState).set({ revision: revision + 1 }).where(and(eq(advisoryState.id, 1), eq(advisoryState.revision, revision))),
  ]
}

/** Ecosystems that a source has brought something of. */
export const putFeeds = (db: DrizzleD1Database, ecosystems: readonly string[], source: string) => db.insert(advisoryFeeds)
  .select(sql`SELECT value, ${source}, 0 FROM json_each(${JSON.stringify(ecosystems)}) WHERE true`).onConflictDoNothing()
/** A source has brought all that it knows. */
export const dateFeeds = (db: DrizzleD1Database, source: string, now: number) => db.update(advisoryFeeds).set({ asOf: now }).where(eq(advisoryFeeds.source, source))
export const feeds = (db: DrizzleD1Database) => db.select().from(advisoryFeeds).orderBy(asc(advisoryFeeds.ecosystem), asc(advisoryFeeds.source))
/** Of these ecosystems, when each was last brought whole by whoever brings it; those that nobody did are left out. */
export const feedsOf = (db: DrizzleD1Database, ecosystems: readonly string[]) => db.select({ ecosystem: advisoryFeeds.ecosystem, asOf: sql<number>`max(${advisoryFeeds.asOf})` }).from(advisoryFeeds).where(sql`${advisoryFeeds.asOf} > 0 AND ${advisoryFeeds.ecosystem} IN ${among(ecosystems)}`).groupBy(advisoryFeeds.ecosystem)

/** The oldest of the ecosystems' dates; null: nothing has been imported. */
export const oldestFeed = (db: DrizzleD1Database) => db.all<{ asOf: number | null }>(sql`SELECT min(as_of) AS asOf FROM (SELECT max(as_of) AS as_of FROM advisory_feeds WHERE as_of > 0 GROUP BY ecosystem)`)
/** Whether a rule asks how old a scan is: only then are dates of matches worth a row each. */
export const scansMayAge = (db: DrizzleD1Database) => db.all<{ asked: number }>(sql`SELECT EXISTS (SELECT 1 FROM rule_sets WHERE instr(body, '"scannedWithinSeconds"') > 0) AS asked`)
/** Matches are as young as the advisories; whoever has them is to be worked out again. */
export function renewMatches(db: DrizzleD1Database, asOf: number, now: number) {
  const older = sql`(SELECT uid FROM endpoint_sections WHERE section = 'matches' AND at < ${asOf})`
  return [
    db.update(endpoints).set({ nextDue: now }).where(sql`${endpoints.registered} = 1 AND ${endpoints.uid} IN ${older} AND (${endpoints.nextDue} IS NULL OR ${endpoints.nextDue} > ${now})`),
    db.update(endpointSections).set({ at: asOf }).where(sql`${endpointSections.section} = 'matches' AND ${endpointSections.at} < ${asOf}`),
    db.update(advisoryState).set({ renewedAt: asOf }).where(eq(advisoryState.id, 1)),
  ] as const
}

interface Key { readonly ecosystem: string; readonly name: string }
/** What advisories say of these names, in pages: `at` counts the names; the next page begins with the last one's and asks for what comes after its advisory. */
export const advisoriesOn = (db: DrizzleD1Database, keys: readonly Key[], after: string, limit: number) =>
  db.all<{ at: number; ecosystem: string; name: string; advisory: string; severity: string; versions: string }>(sql`SELECT j.key AS at, ap.ecosystem, ap.name, ap.advisory, ap.severity, ap.versions
    FROM json_each(${JSON.stringify(keys.map(({ ecosystem, name }) => [ecosystem, name]))}) j CROSS JOIN advisory_packages ap ON ap.ecosystem = json_extract(j.value, '$[0]') AND ap.name = json_extract(j.value, '$[1]')
    WHERE j.key > 0 OR ap.advisory > ${after} ORDER BY j.key, ap.advisory LIMIT ${limit}`)
/** What the advisories of one page say. */
export const pageOf = (db: DrizzleD1Database, revision: number) => db.select({ id: advisories.id, named: advisories.named }).from(advisories).where(eq(advisories.revision, revision))
export const wordsOf = (db: DrizzleD1Database, named: readonly (readonly [ecosystem: string, name: string, advisory: string])[]) =>
  db.all<{ ecosystem: string; name: string; advisory: string; severity: string; versions: string }>(sql`SELECT ap.ecosystem, ap.name, ap.advisory, ap.severity, ap.versions
    FROM json_each(${JSON.stringify(named)}) j JOIN advisory_packages ap ON ap.ecosystem = json_extract(j.value, '$[0]') AND ap.name = json_extract(j.value, '$[1]') AND ap.advisory = json_extract(j.value, '$[2]')`)
/** Ecosystems that the fleet has packages of: one look-up each, not one a package. */
export const fleetEcosystems = (db: DrizzleD1Database) => db.all<{ ecosystem: string }>(sql`WITH RECURSIVE found(ecosystem) AS (SELECT min(ecosystem) FROM packages
  UNION ALL SELECT (SELECT min(p.ecosystem) FROM packages p WHERE p.ecosystem > found.ecosystem) FROM found WHERE found.ecosystem IS NOT NULL) SELECT ecosystem FROM found WHERE ecosystem IS NOT NULL`)
/** Packages of the fleet that have one of these names or were built from a source of that name, in pages. */
export const fleetPackages = (db: DrizzleD1Database, keys: readonly Key[], after: number, limit: number) => {
  const given = sql`json_each(${JSON.stringify(keys.map(({ ecosystem, name }) => [ecosystem, name]))}) j CROSS JOIN packages p`
  const bySubject = sql`${given} ON p.ecosystem = json_extract(j.value, '$[0]') AND p.subject = json_extract(j.value, '$[1]')`
  // The plus keeps the planner from reading the whole ecosystem.
  const byName = sql`${given} ON p.name = json_extract(j.value, '$[1]') AND +p.ecosystem = json_extract(j.value, '$[0]')`
  return db.select().from(packages).where(sql`${packages.id} > ${after} AND ${packages.id} IN (
    SELECT p.id FROM ${bySubject} UNION SELECT p.id FROM ${byName})`).orderBy(asc(packages.id)).limit(limit)
}
/** Packages that these advisories hold for, or others of the same CVEs: a CVE's severity, once known, is known for all of them. */
export const sharingCves = (ids: readonly string[]): SQL => sql`SELECT m.package_id FROM affected_packages m WHERE m.advisory IN ${among(ids)}
  UNION SELECT m.package_id FROM json_each(${JSON.stringify(ids)}) j CROSS JOIN advisories a ON a.id = j.value CROSS JOIN json_each(a.cves) c CROSS JOIN advisory_cves o ON o.cve = c.value CROSS JOIN affected_packages m ON m.advisory = o.advisory`
export const advanceMatched = (db: DrizzleD1Database, revision: number) => db.update(advisoryState).set({ matchedThrough: revision }).where(and(eq(advisoryState.id, 1), eq(advisoryState.matchedThrough, revision - 1)))

/** Advisories by id; `text`: of that id, of that CVE, or naming a package so. */
export const listed = (db: DrizzleD1Database, after: string, text: string | undefined, limit: number) => db.select().from(advisories).where(and(gt(advisories.id, after), text === undefined ? undefined : sql`(${advisories.id} = ${text}
  OR ${advisories.id} IN (SELECT advisory FROM advisory_cves WHERE cve = ${text}) OR ${advisories.id} IN (SELECT ap.advisory FROM advisory_feeds f CROSS JOIN advisory_packages ap ON ap.ecosystem = f.ecosystem AND ap.name = ${text}))`)).orderBy(asc(advisories.id)).limit(limit)
/** Advisories that a name stands for: its own id, or a CVE. */
export const advisoriesNamed = (db: DrizzleD1Database, name: string) => db.all<{ id: string }>(sql`SELECT id FROM advisories WHERE id = ${name} UNION SELECT advisory FROM advisory_cves WHERE cve = ${name}`)
export const packagesAffectedBy = (db: DrizzleD1Database, ids: readonly string[], limit: number) => db.selectDistinct({ id: packages.id, ecosystem: packages.ecosystem, name: packages.name, version: packages.version, subject: packages.subject, subjectVersion: packages.subjectVersion, orphanedAt: packages.orphanedAt })
  .from(affectedPackages).innerJoin(packages, eq(packages.id, affectedPackages.packageId)).where(sql`${affectedPackages.advisory} IN ${among(ids)}`).orderBy(asc(packages.id)).limit(limit)
export const counts = (db: DrizzleD1Database) => db.all<{ advisories: number; packages: number; affected: number; stale: number }>(sql`SELECT (SELECT count(*) FROM advisories WHERE withdrawn = 0) AS advisories,
  (SELECT count(*) FROM packages WHERE orphaned_at IS NULL) AS packages, (SELECT count(DISTINCT package_id) FROM affected_packages) AS affected, (SELECT count(*) FROM stale_inventories WHERE bits <> 0) AS stale`)
