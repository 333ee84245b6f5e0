// Matching, both ways and only what is new: packages that the fleet has not had before against what names them, and imported pages against the packages they name.
import type { BatchItem } from 'drizzle-orm/batch'
import { familyOf } from '../../domain/vulnerability/ecosystem.ts'
import { AdvisoryIndex, keysOf, type AdvisoryOn, type FleetPackage } from '../../domain/vulnerability/match.ts'
import type { Severity } from '../../protocol/facts.ts'
import { advanceMatched, advisoriesOn, fleetEcosystems, fleetPackages, matchedIs, pageOf, sharingCves, stateOf, wordsOf } from '../../schema/queries/advisories.ts'
import { dropMatches, insertNewMatches, matchesOf, putMatches } from '../../schema/queries/affected.ts'
import { insertPackages, markHolders } from '../../schema/queries/packages.ts'
import type { Context } from '../context.ts'

/** Rows in one answer of the database. */
export const ROWS = 4_000
/** Packages matched together, and how long their names may be in all; what many advisories name comes in several pages. */
const PACKAGES_AT_ONCE = 1_000
const UNITS_AT_ONCE = 120_000
/** Matches that one batch writes: more would keep the database from everybody else for seconds. */
const MATCHES_AT_ONCE = 50_000
/** Names asked for in one question. */
const NAMES_AT_ONCE = 2_000
type Database = Pick<Context, 'db'>
type Row = { readonly ecosystem: string; readonly name: string; readonly advisory: string; readonly severity: string; readonly versions: string }

const advisoryOn = ({ ecosystem, name, advisory, severity, versions }: Row): AdvisoryOn => {
  const [ranges, listed] = JSON.parse(versions) as [string[][], string[]]
  return { ecosystem, name, advisory, severity: severity as Severity, ranges, versions: listed }
}

/** What an endpoint's reports may still make the fleet's tables grow by. */
export interface Room { readonly rows: number; /** The statement that counts what was taken of it. */ count(rows: number): BatchItem<'sqlite'> }
/** A package's own row, its indexes and holders, beside its matches. */
const ROWS_OF_PACKAGE = 10

/**
 * Matches packages that are new to the fleet and stores both, as long as the budget of queries and the room last.
 * @returns queries made, and rows taken; null: the next would have taken more than there is room for. What was stored can be looked up, what a page imported meanwhile has made void can not
 */
export async function introducePackages({ db }: Database, missing: readonly FleetPackage[], budget: number, room: Room): Promise<{ readonly queries: number; readonly rows: number | null }> {
  // Once: whatever is imported meanwhile makes what follows void, and the next try begins with it.
  const [state] = await stateOf(db)
  if (state === undefined) throw new Error('the state of the advisories is gone from the database')
  let [queries, taken] = [0, 0]
  for (const some of together(missing)) {
    if (queries >= budget) break
    const keys = [...new Map(some.flatMap(keysOf).map((key) => [`${key.ecosystem}\n${key.name}`, key])).values()]
    const rows: Row[] = []
    for (let [from, after] = [0, '']; from < keys.length;) {
      const page = await advisoriesOn(db, keys.slice(from), after, ROWS)
      queries++
      rows.push(...page)
      const last = page.at(-1)
      if (page.length < ROWS || last === undefined) break
      from += last.at
      after = last.advisory
    }
    const index = new AdvisoryIndex(rows.map(advisoryOn))
    for (const few of inReach(some, rows)) {
      const matches = index.match(few)
      const grows = matches.length + few.length * ROWS_OF_PACKAGE
      if (taken + grows > room.rows) return { queries, rows: null }
      const statements = [...insertPackages(db, few, state.revision), ...matches.length === 0 ? [] : insertNewMatches(db, matches, state.revision), room.count(grows)]
      await db.batch(statements as [(typeof statements)[number]])
      queries += 1 + statements.length
      taken += grows
      if (queries >= budget) break
    }
  }
  return { queries, rows: taken }
}

/** In parts that can't come to more matches than one batch writes; at least one package each. */
function* inReach(some: readonly FleetPackage[], rows: readonly Row[]): Generator<FleetPackage[]> {
  const naming = new Map<string, number>()
  for (const { ecosystem, name } of rows) naming.set(`${ecosystem}\n${name}`, (naming.get(`${ecosystem}\n${name}`) ?? 0) + 1)
  let [few, most]: [FleetPackage[], number] = [[], 0]
  for (const each of some) {
    const own = keysOf(each).reduce((sum, { ecosystem, name }) => sum + (naming.get(`${ecosystem}\n${name}`) ?? 0), 0)
    if (most + own > MATCHES_AT_ONCE && few.length > 0) {
      yield few
      ;[few, most] = [[], 0]
    }
    few.push(each)
    most += own
  }
  yield few
}

function* together(list: readonly FleetPackage[]): Generator<FleetPackage[]> {
  let some: FleetPackage[] = []
  let units = 0
  for (const each of list) {
    units += each.ecosystem.length + each.name.length + each.subject.length
    if (some.length === PACKAGES_AT_ONCE || (units > UNITS_AT_ONCE && some.length > 0)) {
      yield some
      some = []
      units = each.ecosystem.length + each.name.length + each.subject.length
    }
    some.push(each)
  }
  if (some.length > 0) yield some
}
function* slices<T>(list: readonly T[]): Generator<readonly T[]> {
  for (let from = 0; from < list.length; from += NAMES_AT_ONCE) yield list.slice(from, from + NAMES_AT_ONCE)
}

/**
 * Matches imported pages that have not been matched yet, one after the other.
 * @param pages at most so many
 * @returns whether all are matched now
 */
export async function matchPages(context: Database, pages: number): Promise<boolean> {
  for (let done = 0; done < pages; done++) {
    const [state] = await stateOf(context.db)
    if (state === undefined || state.matchedThrough >= state.revision) return true
    await matchPage(context, state.matchedThrough + 1)
  }
  const [state] = await stateOf(context.db)
  return state === undefined || state.matchedThrough >= state.revision
}

/** Idempotent: whoever does the same at once writes the same, and one of them advances. */
async function matchPage({ db }: Database, revision: number): Promise<void> {
  const page = await pageOf(db, revision)
  const named = page.flatMap(({ id, named: names }) => (JSON.parse(names) as [string, string][]).map(([ecosystem, name]) => [ecosystem, name, id] as const))
  const words: AdvisoryOn[] = []
  for (const some of slices(named)) words.push(...(await wordsOf(db, some)).map(advisoryOn))
  const index = new AdvisoryIndex(words)
  const ids = page.map(({ id }) => id)
  // Before the packages: one that a report introduces from here on comes with its own matches of this page, and those must not be taken for old ones.
  const before: (readonly [number, string])[] = []
  for (let after: readonly [string, number] = ['', 0]; ids.length > 0;) {
    const some = await matchesOf(db, ids, after, ROWS)
    for (const { packageId, advisory } of some) before.push([packageId, advisory])
    const last = some.at(-1)
    if (some.length < ROWS || last === undefined) break
    after = [last.advisory, last.packageId]
  }
  const found = new Map<string, readonly [number, string, string, string | null]>()
  for await (const some of packagesNamed({ db }, named)) {
    for (const { package: of, advisory, severity, fixed } of index.match(some)) found.set(`${of.id}\n${advisory}`, [of.id, advisory, severity, fixed])
  }
  const gone = before.filter(([packageId, advisory]) => !found.has(`${packageId}\n${advisory}`))
  const still = matchedIs(revision - 1)
  const mark = () => (ids.length === 0 ? [] : [markHolders(db, sharingCves(ids), still)])
  const statements = [
    ...gone.length === 0 ? [] : [...mark(), ...dropMatches(db, gone, still)], ...found.size === 0 ? [] : putMatches(db, [...found.values()], still), ...mark(),
    // Last: while it has not moved, what stands before it may be written.
    advanceMatched(db, revision),
  ]
  await db.batch(statements as [(typeof statements)[number]])
}

/** Packages of the fleet that a page names; what names a distribution as a whole names each release of it. */
async function* packagesNamed({ db }: Database, named: readonly (readonly [string, string, string])[]) {
  const whole = named.some(([ecosystem]) => isWhole(ecosystem)) ? (await fleetEcosystems(db)).map(({ ecosystem }) => ecosystem) : []
  const keys = [...new Map(named.flatMap(([ecosystem, name]) => [ecosystem, ...whole.filter((release) => release.startsWith(`${ecosystem}:`))].map((each) => [`${each}\n${name}`, { ecosystem: each, name }] as const))).values()]
  for (const asked of slices(keys)) {
    for (let after = -1; ;) {
      const some = await fleetPackages(db, asked, after, ROWS)
      yield some
      const last = some.at(-1)
      if (some.length < ROWS || last === undefined) break
      after = last.id
    }
  }
}
const isWhole = (ecosystem: string): boolean => !ecosystem.includes(':') && familyOf(ecosystem)?.bySource === true
