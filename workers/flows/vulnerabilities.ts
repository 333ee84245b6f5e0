// The vulnerabilities of lists of packages, read from what was matched once for the whole fleet. Several lists are read together: laptops have most of theirs in common.
import { severity as severities, type Severity } from '../../protocol/facts.ts'
import type { Vulnerability } from '../../protocol/advisory.ts'
import { foundOf, type DatedMatches } from '../../domain/vulnerability/combine.ts'
import { familyOf } from '../../domain/vulnerability/ecosystem.ts'
import { worse } from '../../domain/vulnerability/severity.ts'
import { feedsOf, stateOf } from '../../schema/queries/advisories.ts'
import { affectedAmong, ratingsOf, type AffectedRow } from '../../schema/queries/affected.ts'
import type { Context } from '../context.ts'
import { ROWS } from './match-vulnerabilities.ts'

/** As many as are read for one list; an installation that has more is vulnerable enough. */
const MOST_ROWS = 24_000
const CVES_AT_ONCE = 1_000
const severityOf = (text: string): Severity => severities.catch('unrated').parse(text)
type Database = Pick<Context, 'db'>
/** An endpoint's packages, by id, and the ecosystems that they are of. */
export interface PackageList { readonly ids: readonly number[]; readonly ecosystems: readonly string[] }

type Affected = Omit<AffectedRow, 'cves'> & { readonly cves: readonly string[] }
interface Known {
  readonly byPackage: ReadonlyMap<number, readonly Affected[]>
  readonly ratings: ReadonlyMap<string, Severity>
}

async function readKnown({ db }: Database, lists: readonly PackageList[]): Promise<Known> {
  const ids = [...new Set(lists.flatMap((list) => list.ids))].sort((a, b) => a - b)
  const byPackage = new Map<number, Affected[]>()
  const unrated = new Set<string>()
  let count = 0
  for (let [from, after] = [0, '']; from < ids.length && count < MOST_ROWS * lists.length;) {
    const page = await affectedAmong(db, ids.slice(from), after, ROWS)
    for (const stored of page) {
      const id = ids[from + stored.at] ?? -1
      // Read once, though each of the lists may have the package.
      const row: Affected = { ...stored, cves: JSON.parse(stored.cves) as string[] }
      const others = byPackage.get(id)
      if (others === undefined) byPackage.set(id, [row])
      else others.push(row)
      if (row.own === 'unrated' && row.general === 'unrated') for (const cve of row.cves) unrated.add(cve)
    }
    count += page.length
    const last = page.at(-1)
    if (page.length < ROWS || last === undefined) break
    from += last.at
    after = last.advisory
  }
  const ratings = new Map<string, Severity>()
  for (const { cve, severity } of await ratingsAmong(db, [...unrated])) ratings.set(cve, worse(severityOf(severity), ratings.get(cve) ?? 'unrated'))
  return { byPackage, ratings }
}

async function ratingsAmong(db: Context['db'], cves: readonly string[]) {
  const rows: { cve: string; severity: string }[] = []
  // Each may have several by as many advisories.
  for (let from = 0; from < cves.length; from += CVES_AT_ONCE) rows.push(...await ratingsOf(db, cves.slice(from, from + CVES_AT_ONCE)))
  return rows
}

/** One for each CVE and source package; binaries of one source share theirs. */
function vulnerabilitiesOf({ byPackage, ratings }: Known, ids: readonly number[]): Vulnerability[] {
  const once = new Map<string, Affected>()
  for (const id of ids) for (const row of byPackage.get(id) ?? []) once.set(`${row.ecosystem}\n${row.subject}\n${row.subjectVersion}\n${row.advisory}`, row)
  return [...once.values()].flatMap((row) => {
    const { cves } = row
    // What is said of this package goes before what is said of the flaw in general.
    const said = row.own === 'unrated' ? severityOf(row.general) : severityOf(row.own)
    return (cves.length === 0 ? [row.advisory] : cves).map((id): Vulnerability => ({
      id, advisory: row.advisory, severity: said === 'unrated' ? ratings.get(id) ?? 'unrated' : said,
      ecosystem: row.ecosystem, package: row.subject, installed: row.subjectVersion, fixed: row.fixed,
    }))
  })
}

export const readVulnerabilitiesOf = async (context: Database, ids: readonly number[]): Promise<Vulnerability[]> => vulnerabilitiesOf(await readKnown(context, [{ ids, ecosystems: [] }]), ids)

/** What each list comes to, and the revision of the advisories up to which it is known. */
export async function matchesFor(context: Pick<Context, 'db' | 'now'>, lists: readonly PackageList[]): Promise<{ readonly matches: DatedMatches[]; readonly matchedThrough: number }> {
  // Before the matches: what is matched from here on marks the endpoints.
  const [[state], feeds] = await context.db.batch([stateOf(context.db), feedsOf(context.db, [...new Set(lists.flatMap(({ ecosystems }) => ecosystems))])])
  const dates = new Map(feeds.map(({ ecosystem, asOf }) => [ecosystem, asOf]))
  const known = await readKnown(context, lists)
  const matches = lists.map(({ ids, ecosystems }): DatedMatches => {
    const covered = ecosystems.filter((ecosystem) => familyOf(ecosystem) !== null && dates.has(ecosystem)).sort()
    const at = covered.reduce((least, ecosystem) => Math.min(least, dates.get(ecosystem) ?? 0), context.now())
    return { found: foundOf(vulnerabilitiesOf(known, ids)), covered, uncovered: ecosystems.filter((ecosystem) => !covered.includes(ecosystem)).sort(), at }
  })
  return { matches, matchedThrough: state?.matchedThrough ?? 0 }
}
