// One step of re-evaluation: a page of endpoints that are behind the rules, or whose verdict falls due by time. Reports go on meanwhile: each is guarded by its endpoint's version.
import { lte, sql } from 'drizzle-orm'
import type { CompiledRules } from '../../domain/tagging/compile.ts'
import type { SectionName } from '../../protocol/facts.ts'
import { rulesState } from '../../schema/change-log.ts'
import { countBehind, due, markOf, nextBehind, nextDue, type Touched } from '../../schema/queries/behind.ts'
import { ruleChanges } from '../../schema/rules.ts'
import { logEvent, type Context } from '../context.ts'
import { announceToGateways } from './announce.ts'
import { beginRound, isFor, pass, turn, withinRound, type Round } from './round.ts'
import { rulesOf, touchedSince, type HeldRules } from './rules.ts'
import { MAX_FULL, settle, type Candidate, type Settled } from './settle.ts'
import { changedAt, evaluatedThrough, rulesRevisionOf, selectStates, states, type StateRow } from './states.ts'

/** Endpoints in one page, and rows that one query of it returns. */
export const PAGE = 1_000
export const MAX_ROWS = 4_500
/** Sections of one page, deflated. */
const MAX_PAGE_BYTES = 4_000_000
/** Pages in which no endpoint is concerned that one step passes. */
const MAX_EMPTY_PAGES = 6
/** More edited rule sets than this are not looked for in each row: every endpoint is read. */
const MAX_TOUCHED = 16
/** An endpoint that could not be settled is tried again this much later. */
const ASIDE_MS = 300_000
/** Should everything fail, only so many are remembered; the round knows that it is not done. */
const MAX_ASIDE = 5_000
const TELL_AGAIN_MS = 5_000
const MIN_PAUSE_MS = 20

/** What is remembered from step to step. */
export interface Standing {
  readonly round: Round | null
  /** UID → when an endpoint that could not be settled is tried again (ms). */
  readonly aside: Readonly<Record<string, number>>
  /** Endpoints in the next page: fewer after one that failed, so that whichever is to blame is found. */
  readonly page: number
  /** Gateways did not acknowledge: when they are told again (ms); null: they have. */
  readonly owed: number | null
  /** Takes turns, so that neither edits nor time keep the other waiting. */
  readonly dueFirst: boolean
}
export const atRest: Standing = { round: null, aside: {}, page: PAGE, owed: null, dueFirst: true }
export interface Step {
  readonly standing: Standing
  /** When to go on (ms); null: nothing is due. */
  readonly next: number | null
  /** A page was worked on: the queries that an invocation may make are used. */
  readonly busy: boolean
  /** Endpoints written, and verdicts worked out. */
  readonly written: number
  readonly evaluated: number
}
/** `behind`: the endpoints in whose midst those of the page stand. */
interface Page { readonly candidates: readonly Candidate[]; readonly sections: readonly string[] | null; readonly behind: readonly string[] }

/** @param now ms, when the step begins */
export async function reEvaluate(context: Context, before: Standing, now: number): Promise<Step> {
  const { db } = context
  const head = before.round?.finished === false ? before.round.head : null
  const [rows, marks] = await db.batch([selectStates(context), markOf(db, head?.revision ?? 0)])
  let standing: Standing = { ...before, aside: Object.fromEntries(Object.entries(before.aside).filter(([, until]) => until > now)) }
  if (head !== null && marks[0]?.mark !== head.mark) standing = { ...standing, round: null }
  if (standing.owed !== null && standing.owed <= now) standing = { ...standing, owed: await tellAgain(context) ? null : now + TELL_AGAIN_MS }
  const held = await rulesOf(context, rows)
  const through = evaluatedThrough(rows)
  // Read after `rows`, the rules may be newer: then the next step begins a round for them.
  const behind = through < rulesRevisionOf(rows) && held.rules.revision === rulesRevisionOf(rows)

  for (const kind of standing.dueFirst ? ['due', 'behind'] as const : ['behind', 'due'] as const) {
    if (kind === 'behind' && !behind) continue
    const found = kind === 'due' ? { standing, page: await duePage(context, standing, now), passed: null } : await behindPage(context, standing, rows, held, now)
    standing = { ...found.standing, dueFirst: kind === 'behind' }
    if (found.page === null) continue
    const { candidates, sections } = found.page
    const settled = await settle(context, candidates, held, sections, through).catch((cause: unknown): null => {
      logEvent('page-not-evaluated', { endpoints: candidates.length, cause: cause instanceof Error ? cause.message : String(cause) })
      return null
    })
    standing = after(standing, found.page, settled, found.passed, now)
    return { standing, busy: true, next: pauseAfter(now, context.now()), written: settled?.written ?? 0, evaluated: settled?.evaluated ?? 0 }
  }
  if (rulesRevisionOf(rows) !== held.rules.revision || (behind && standing.round?.finished !== true)) return { standing, busy: behind, next: pauseAfter(now, context.now()), written: 0, evaluated: 0 }
  const [soonest] = await nextDue(db, Object.keys(standing.aside))
  const waits = [...soonest?.at == null ? [] : [soonest.at], ...standing.owed === null ? [] : [standing.owed], ...Object.values(standing.aside)]
  return { standing, busy: false, next: waits.length === 0 ? null : Math.min(...waits), written: 0, evaluated: 0 }
}

/** As long as it took: half of the database's time is everybody else's. */
const pauseAfter = (began: number, now: number): number => now + Math.max(MIN_PAUSE_MS, now - began)

async function tellAgain(context: Context): Promise<boolean> {
  try {
    await announceToGateways(context)
    return true
  } catch (cause) {
    logEvent('gateways-not-told', { cause: cause instanceof Error ? cause.message : String(cause) })
    return false
  }
}

/** A page that failed is tried again smaller; an endpoint that failed alone is set aside. */
function after(standing: Standing, { candidates, behind }: Page, settled: Settled | null, passed: Round | null, now: number): Standing {
  const uids = candidates.map(({ uid }) => uid)
  const failed = settled?.failed ?? (uids.length === 1 ? uids : [])
  const aside = Object.fromEntries([...Object.entries(standing.aside), ...failed.map((uid) => [uid, now + ASIDE_MS] as const)].slice(-MAX_ASIDE))
  if (settled === null && uids.length > 1) return { ...standing, page: Math.max(1, Math.floor(uids.length / 4)) }
  // As many as one commit took, where they were more; then gently more again.
  const taken = settled?.settledTo == null ? standing.page * 2 : uids.filter((uid) => uid <= (settled.settledTo ?? '')).length
  const page = settled === null ? 1 : Math.min(PAGE, Math.max(1, taken))
  const round = passed === null ? standing.round : { ...roundAfter(standing.round ?? passed, passed, settled, behind), unsettled: passed.unsettled || failed.length > 0, head: settled?.head ?? passed.head }
  return { ...standing, aside, page, round, owed: settled?.told === false ? standing.owed ?? now : standing.owed }
}

/** Overtaken, it looks at the same page again: what was written is no longer behind. */
function roundAfter(before: Round, passed: Round, settled: Settled | null, behind: readonly string[]): Round {
  if (settled?.overtaken === true) return before
  const to = settled?.settledTo ?? null
  return to === null ? passed : pass(before, to, behind.filter((uid) => uid <= to).length)
}

async function duePage({ db }: Context, { aside, page }: Standing, now: number): Promise<Page | null> {
  const candidates = fitting(await due(db, now, Object.keys(aside), Math.min(page, MAX_FULL))).map(({ uid }) => ({ uid, full: true }))
  return candidates.length === 0 ? null : { candidates, sections: null, behind: [] }
}

/** The next endpoints that an edit can concern; `passed` is where the round stands once they are settled. */
async function behindPage(context: Context, standing: Standing, rows: readonly StateRow[], held: HeldRules, now: number): Promise<{ standing: Standing; page: Page | null; passed: Round | null }> {
  const { db } = context
  const revision = rulesRevisionOf(rows)
  const touched = touchedSince(held, evaluatedThrough(rows))
  const filter = filterOf(held, touched)
  const sections = sectionsRead(held.rules, touched)
  let { round } = standing
  if (round === null || !isFor(round, rows)) round = beginRound(round, rows, (await countBehind(db, revision))[0]?.count ?? 0, now)
  else if (round.finished) {
    // Not everywhere settled: once more when those that were set aside may be tried again.
    if (Object.keys(standing.aside).length > 0) return { standing, page: null, passed: null }
    round = beginRound(null, rows, round.total, now)
  }
  for (let empty = 0; empty < MAX_EMPTY_PAGES; empty++) {
    const next = withinRound(round, await nextBehind(db, { revision, after: round.at, touched: filter, sections, now, limit: Math.min(standing.page, Math.floor(MAX_ROWS / sections.length)) }))
    const last = next.at(-1)
    if (last === undefined) {
      round = turn(round)
      if (!round.finished) continue
      if (!round.unsettled) await finish(context, rows)
      break
    }
    const concerned = next.filter(({ uid, concerned: can }) => can === 1 && standing.aside[uid] === undefined)
    if (next.some(({ uid }) => standing.aside[uid] !== undefined)) round = { ...round, unsettled: true }
    const chosen = fitting(concerned)
    const until = chosen.length === concerned.length ? last.uid : chosen.at(-1)?.uid ?? last.uid
    const passed = pass(round, until, next.filter(({ uid }) => uid <= until).length)
    if (chosen.length > 0) return { standing: { ...standing, round }, page: { candidates: chosen.map(({ uid, full }) => ({ uid, full: full === 1 })), sections, behind: next.map(({ uid }) => uid) }, passed }
    round = passed
  }
  return { standing: { ...standing, round }, page: null, passed: null }
}

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

/** Every endpoint is worked out with these rules; what edits touched need not be remembered. Not so when they were edited meanwhile. */
async function finish({ db, now }: Context, rows: readonly StateRow[]): Promise<void> {
  const stillSo = sql`EXISTS (SELECT 1 FROM rules_state WHERE id = ${states.rules} AND revision = ${rulesRevisionOf(rows)} AND changed_at = ${changedAt(rows, states.rules)})`
  await db.batch([
    db.insert(rulesState).select(sql`SELECT ${states.evaluated}, ${rulesRevisionOf(rows)}, ${now()} WHERE ${stillSo}`)
      .onConflictDoUpdate({ target: rulesState.id, set: { revision: sql`excluded.revision`, changedAt: sql`excluded.changed_at` } }),
    db.delete(ruleChanges).where(lte(ruleChanges.revision, sql`COALESCE((SELECT revision FROM rules_state WHERE id = ${states.evaluated}), 0)`)),
  ])
}
