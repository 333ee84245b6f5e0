// The vulnerabilities of a list of packages, read from what was matched once for the whole fleet.
import { severity as severities, type Severity } from '../../protocol/facts.ts'
import type { Vulnerability } from '../../protocol/advisory.ts'
import { familyOf } from '../../domain/vulnerability/ecosystem.ts'
import { foundOf, type DatedMatches } from '../../domain/vulnerability/combine.ts'
import { worse } from '../../domain/vulnerability/severity.ts'
import { feedsOf, stateOf } from '../../schema/queries/advisories.ts'
import { affectedAmong, ratingsOf, type AffectedRow } from '../../schema/queries/affected.ts'
import type { Context } from '../context.ts'
import { ROWS } from './match-vulnerabilities.ts'

/** As many as an answer or a section holds; an installation that has more is vulnerable enough. */
const MOST_ROWS = 24_000
const severityOf = (text: string): Severity => severities.catch('unrated').parse(text)

/** One for each CVE and source package; binaries of one source share theirs. */
export async function vulnerabilitiesOf({ db }: Pick<Context, 'db'>, ids: readonly number[]): Promise<Vulnerability[]> {
  const rows: AffectedRow[] = []
  for (let [from, after] = [0, '']; from < ids.length && rows.length < MOST_ROWS;) {
    const page = await affectedAmong(db, ids.slice(from), after, ROWS)
    rows.push(...page)
    const last = page.at(-1)
    if (page.length < ROWS || last === undefined) break
    from += last.at
    after = last.advisory
  }
  const once = [...new Map(rows.map((row) => [[row.ecosystem, row.subject, row.subjectVersion, row.advisory].join('\n'), row])).values()]
  const unrated = new Set(once.filter(({ own, general }) => own === 'unrated' && general === 'unrated').flatMap(({ cves }) => JSON.parse(cves) as string[]))
  const ratings = new Map<string, Severity>()
  for (const { cve, severity } of unrated.size === 0 ? [] : await ratingsOf(db, [...unrated])) ratings.set(cve, worse(severityOf(severity), ratings.get(cve) ?? 'unrated'))
  return once.flatMap((row) => {
    const cves = JSON.parse(row.cves) as string[]
    // What is said of this package goes before what is said of the flaw in general.
    const said = row.own === 'unrated' ? severityOf(row.general) : severityOf(row.own)
    return (cves.length === 0 ? [row.advisory] : cves).map((id): Vulnerability => ({
      id, advisory: row.advisory, severity: said === 'unrated' ? ratings.get(id) ?? 'unrated' : said,
      ecosystem: row.ecosystem, package: row.subject, installed: row.subjectVersion, fixed: row.fixed,
    }))
  })
}

/** What one endpoint's packages come to, and the revision of the advisories up to which it is known. */
export async function matchesFor(context: Pick<Context, 'db' | 'now'>, ids: readonly number[], ecosystems: readonly string[]): Promise<{ readonly matches: DatedMatches; readonly matchedThrough: number }> {
  // Before the matches: what is matched from here on marks the endpoint.
  const [[state], feeds] = await context.db.batch([stateOf(context.db), feedsOf(context.db, ecosystems)])
  const dates = new Map(feeds.map(({ ecosystem, asOf }) => [ecosystem, asOf]))
  const covered = ecosystems.filter((ecosystem) => familyOf(ecosystem) !== null && dates.has(ecosystem)).sort()
  const found = foundOf(await vulnerabilitiesOf(context, ids))
  const at = covered.reduce((least, ecosystem) => Math.min(least, dates.get(ecosystem) ?? 0), context.now())
  return { matches: { found, covered, uncovered: ecosystems.filter((ecosystem) => !covered.includes(ecosystem)).sort(), at }, matchedThrough: state?.matchedThrough ?? 0 }
}
