// Advisories and what follows from them, as administrators see it.
import { eq } from 'drizzle-orm'
import { rank } from '../../domain/vulnerability/severity.ts'
import { Fault } from '../../protocol/faults.ts'
import { severity } from '../../protocol/facts.ts'
import { findAffected, findPackage, importAdvisories, listAdvisories, readVulnerabilities, readVulnerabilityState } from '../../protocol/operations/advisories.ts'
import { endpoints } from '../../schema/endpoint.ts'
import { advisoriesNamed, counts, feeds, listed, packagesAffectedBy, stateOf } from '../../schema/queries/advisories.ts'
import { packagesNamed } from '../../schema/queries/packages.ts'
import { importAdvisories as takePage } from '../flows/advisories.ts'
import { selectSections } from '../flows/facts.ts'
import { readIds, readMatches, SOFTWARE } from '../flows/inventory.ts'
import { holdersOf } from '../flows/holders.ts'
import { readVulnerabilitiesOf } from '../flows/vulnerabilities.ts'
import { handle, type Route } from '../http/mount.ts'
import { pageOf } from './paging.ts'

/** Versions of one package, or packages of one advisory, that are looked for: more than any fleet has of one. */
const MOST_PACKAGES = 2_000
const MOST_SHOWN = 5_000

export const advisoryRoutes: Route[] = [
  handle(importAdvisories, { run: (context, { body }) => takePage(context, body.source, body.records, body.whole) }),
  handle(listAdvisories, {
    async run({ db }, { query: { after, text, limit } }) {
      return pageOf(await listed(db, after ?? '', text, limit + 1), limit, ({ id }) => id, ({ cves, severity: rated, ...row }) =>
        ({ id: row.id, source: row.source, summary: row.summary, modifiedAt: row.modifiedAt, withdrawn: row.withdrawn, severity: severity.catch('unrated').parse(rated), aliases: (JSON.parse(cves) as string[]).filter((cve) => cve !== row.id) }))
    },
  }),
  handle(readVulnerabilityState, {
    async run({ db }) {
      const [[state], known, [count]] = [await stateOf(db), await feeds(db), await counts(db)]
      const unmatchedPages = (state?.revision ?? 0) - (state?.matchedThrough ?? 0)
      return { advisories: count?.advisories ?? 0, packages: count?.packages ?? 0, affectedPackages: count?.affected ?? 0, feeds: known.map((feed) => ({ ...feed, asOf: feed.asOf === 0 ? null : feed.asOf })), unmatchedPages, settled: unmatchedPages === 0 && (count?.stale ?? 0) === 0 }
    },
  }),
  handle(findPackage, {
    async run(context, { body: { name, ecosystem, version, after, limit } }) {
      const wanted = (await packagesNamed(context.db, name, MOST_PACKAGES)).filter((each) => (ecosystem === undefined || each.ecosystem === ecosystem) && (version === undefined || each.version === version))
      return wanted.length === 0 ? { items: [], next: null } : await holdersOf(context, wanted, after, limit)
    },
  }),
  handle(findAffected, {
    async run(context, { body: { advisory, after, limit } }) {
      const ids = (await advisoriesNamed(context.db, advisory)).map(({ id }) => id)
      if (ids.length === 0) throw new Fault('not_found', 'No such advisory or CVE has been imported.')
      const wanted = await packagesAffectedBy(context.db, ids, MOST_PACKAGES)
      return wanted.length === 0 ? { items: [], next: null } : await holdersOf(context, wanted, after, limit)
    },
  }),
  handle(readVulnerabilities, {
    async run(context, { params }) {
      const [rows, sections] = await context.db.batch([context.db.select({ uid: endpoints.uid }).from(endpoints).where(eq(endpoints.uid, params.uid)), selectSections(context.db, params.uid)])
      if (rows.length === 0) throw new Fault('not_found', 'There is no such endpoint.')
      const software = sections.find(({ section }) => section === SOFTWARE)
      const ids = software === undefined ? null : readIds(software)
      const matches = readMatches(sections)
      if (ids === null || matches === null || matches === 'damaged') return { items: [], total: 0, covered: null, uncovered: null, at: null }
      const all = (await readVulnerabilitiesOf(context, ids)).sort((a, b) => rank(b.severity) - rank(a.severity) || (a.id < b.id ? -1 : a.id > b.id ? 1 : a.package < b.package ? -1 : 1))
      return { items: all.slice(0, MOST_SHOWN), total: all.length, covered: [...matches.covered], uncovered: [...matches.uncovered], at: matches.at }
    },
  }),
]
