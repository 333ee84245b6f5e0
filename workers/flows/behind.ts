// The next endpoints behind the rules: read page by page with what the edited rule sets need, left alone where those come to what is stored, as most do; the others are gathered, to be settled together.
import type { CompiledRules } from '../../domain/tagging/compile.ts'
import type { RuleVerdicts } from '../../domain/tagging/evaluate.ts'
import { unmoved } from '../../domain/tagging/unmoved.ts'
import type { Facts, SectionName } from '../../protocol/facts.ts'
import { countBehind, nextBehind, type Touched } from '../../schema/queries/behind.ts'
import { nextPage } from '../../schema/queries/behind-page.ts'
import type { Context } from '../context.ts'
import { pageReader, type ReadPage } from './page-facts.ts'
import { nothingRead, type ReadTrips } from './pause.ts'
import { beginRound, isFor, pass, turn, withinRound, type Round } from './round.ts'
import { standingSince, touchedSince, type HeldRules } from './rules.ts'
import { evaluatedThrough, rulesRevisionOf, type StateRow } from './states.ts'

/** Endpoints in one page, and rows that one query of it returns. */
export const PAGE = 1_000
export const MAX_ROWS = 4_500
/** Sections of one page, deflated. */
const MAX_PAGE_BYTES = 4_000_000
/** Of one endpoint among them: twice as many digits, in one value of the database, which ends at 2 MB. */
const MAX_LINE_BYTES = 800_000
/** Pages that one step reads: each is one query of the forty that an invocation may make, and a short one, so that reports come between. */
const MAX_PAGES = 6
/** Endpoints, and bytes of their sections, with which a step has enough to settle. */
const ENOUGH = { endpoints: 100, bytes: 1_000_000 } as const
/** More edited rule sets than this are not looked for in each row: every endpoint is read. */
const MAX_TOUCHED = 16

/** Endpoints to settle. */
export interface Page {
  readonly uids: readonly string[]
  /** Those that the rule sets in question read; null: all, and every rule set is worked out. */
  readonly sections: readonly string[] | null
  /** The endpoints in whose midst they stand. */
  readonly behind: readonly string[]
}
export interface LookedAt {
  /** Where it stands before the page is settled, and after; null: it is not for this round. */
  readonly round: Round | null
  readonly passed: Round | null
  readonly page: Page | null
  /** The round has come to its end, and every endpoint is settled. */
  readonly finished: boolean
  /** Rule sets that were worked out for endpoints which are left alone. */
  readonly evaluated: number
  /** Endpoints in the next page: fewer where their sections are large. */
  readonly limit: number
  readonly read: ReadTrips
}

/**
 * @param limit endpoints in each page
 * @param aside UIDs that wait to be tried again
 */
export async function nextToSettle(context: Context, given: { round: Round | null; aside: ReadonlySet<string>; limit: number; rows: readonly StateRow[]; held: HeldRules; now: number }): Promise<LookedAt> {
  const { db } = context
  const { rows, held, aside, now } = given
  const revision = rulesRevisionOf(rows)
  const through = evaluatedThrough(rows)
  const touched = touchedSince(held, through)
  const filter = filterOf(held, touched)
  const sections = sectionsRead(held.rules, touched)
  const [most, standing, read] = [Math.floor(MAX_ROWS / sections.length), standingSince(held, through), pageReader()]
  let { round } = given
  if (round === null || !isFor(round, rows)) round = beginRound(round, rows, (await countBehind(db, revision))[0]?.count ?? 0, now)
  else if (round.finished) {
    // Not everywhere settled: once more when those that were set aside may be tried again.
    if (aside.size > 0) return { round, passed: null, page: null, finished: false, evaluated: 0, limit: given.limit, read: nothingRead }
    round = beginRound(null, rows, round.total, now)
  }
  const [uids, midst]: [string[], string[]] = [[], []]
  let [passed, bytes, evaluated, finished, limit] = [round, 0, 0, false, given.limit]
  let trips = nothingRead
  for (let pages = 0; pages < MAX_PAGES; pages++) {
    const asked = context.now()
    const page = await pageOf(db, { revision, after: passed.at, touched: filter, sections, now, limit: Math.min(limit, filter === null ? most : Math.max(1, most >> 1)) })
    trips = { endpoints: trips.endpoints + page.length, ms: trips.ms + context.now() - asked }
    const next = withinRound(passed, page)
    const last = next.at(-1)
    if (last === undefined) {
      // First what was gathered: how far the round has come is known when that is settled.
      if (uids.length > 0) break
      round = passed = turn(passed)
      if (!passed.finished) continue
      finished = !passed.unsettled
      break
    }
    const concerned = next.filter(({ uid, concerned: can }) => can && !aside.has(uid))
    const large = concerned.filter((each) => each.large).length
    if (large * 4 > concerned.length && limit > 1) {
      // Fewer at once may be larger each.
      limit = Math.max(1, limit >> 2)
      continue
    }
    if (next.some(({ uid }) => aside.has(uid))) passed = { ...passed, unsettled: true }
    const chosen = fitting(concerned)
    const until = chosen.length === concerned.length ? last.uid : chosen.at(-1)?.uid ?? last.uid
    for (const { uid, knownBy, bytes: own } of chosen) {
      const known = knownBy(read)
      const left = known === null || touched === 'all' ? null : unmoved({ ...known, rules: held.rules, touched, standing, now })
      evaluated += left?.length ?? 0
      if (left !== null) continue
      uids.push(uid)
      bytes += own
    }
    const within = next.filter(({ uid }) => uid <= until).map(({ uid }) => uid)
    passed = pass(passed, until, within.length)
    // What lies before the first that is to be settled is done, whatever becomes of that.
    if (uids.length === 0) round = passed
    else midst.push(...within)
    if (uids.length >= Math.min(ENOUGH.endpoints, limit) || uids.length + limit > most || bytes > ENOUGH.bytes) break
  }
  return { round, passed, page: uids.length === 0 ? null : { uids, sections, behind: midst }, finished, evaluated, limit, read: trips }
}

interface Looked {
  readonly uid: string
  readonly concerned: boolean
  /** Of the sections in question. */
  readonly bytes: number
  /** Some of it was too large to be read so. */
  readonly large: boolean
  /** null: what is due by time, damaged, torn or too large must be read whole. */
  knownBy(read: ReadPage): { readonly facts: Facts; readonly held: RuleVerdicts; readonly system: string } | null
}
type Where = Omit<Parameters<typeof nextPage>[1], 'touched' | 'maxBytes'> & { readonly touched: Touched | null }
async function pageOf(db: Context['db'], { touched, ...where }: Where): Promise<Looked[]> {
  if (touched === null) return (await nextBehind(db, { ...where, touched })).map(({ uid, concerned, bytes }) => ({ uid, concerned: concerned === 1, bytes, large: false, knownBy: () => null }))
  const rows = await nextPage(db, { ...where, touched, maxBytes: Math.floor(Math.min(MAX_PAGE_BYTES / where.limit, MAX_LINE_BYTES) / where.sections.length) })
  return rows.map(({ uid, os, full, held, sections }) => {
    const from = sections?.indexOf(':') ?? 0
    const large = sections?.includes('!', from) === true
    return {
      uid, concerned: sections !== null, bytes: Number(sections?.slice(0, from) ?? 0), large,
      knownBy(read) {
        const facts = sections === null || full === 1 || held === '' || large ? null : read(sections.slice(from + 1))
        return facts === null ? null : { facts, system: os, held: verdictsOf(held, touched.ruleSets) }
      },
    }
  })
}
const verdictsOf = (lines: string | null, ruleSets: readonly string[]): RuleVerdicts => Object.fromEntries((lines?.split('\n') ?? []).map((line) => {
  const from = line.indexOf('{')
  return [ruleSets[Number(line.slice(0, from))] ?? '', JSON.parse(line.slice(from)) as RuleVerdicts[string]]
}))

/** At least one, and no more than their sections let be held at once. */
export function fitting<T extends { readonly bytes: number }>(rows: readonly T[]): T[] {
  let bytes = 0
  return rows.filter((row, index) => (bytes += row.bytes) <= MAX_PAGE_BYTES || index === 0)
}

function filterOf({ changes }: HeldRules, touched: ReadonlySet<string> | 'all'): Touched | null {
  if (touched === 'all' || touched.size > MAX_TOUCHED) return null
  return { ruleSets: [...touched], systems: [...new Set(changes.filter(({ ruleSetId }) => touched.has(ruleSetId)).flatMap(({ systems }) => systems.split(',').filter(Boolean)))] }
}

/** Stored sections that the touched rule sets read, and whoever reads a tag that they may turn; and `os`, by which the rules are chosen. */
export function sectionsRead(rules: CompiledRules, touched: ReadonlySet<string> | 'all'): string[] {
  const sets = Object.values(rules.byOs).flat().filter(({ ruleSet, tags }) => touched === 'all' || touched.has(ruleSet.id) || tags.size > 0)
  const read = new Set<SectionName>(['os', ...sets.flatMap((set) => [...set.sections])])
  // What the EMS matched itself is stored apart and is part of that fact.
  return [...read, ...read.has('vulnerabilities') ? ['matches'] : []]
}
