// One step of re-evaluation: endpoints that are behind the rules, or whose verdict falls due by time. Reports go on meanwhile: each is guarded by its endpoint's version.
import { lte, sql } from 'drizzle-orm'
import { rulesState } from '../../schema/change-log.ts'
import { due, markOf, nextDue } from '../../schema/queries/behind.ts'
import { ruleChanges } from '../../schema/rules.ts'
import { logEvent, type Context } from '../context.ts'
import { announceToGateways } from './announce.ts'
import { fitting, nextToSettle, PAGE, type Page } from './behind.ts'
import { nothingRead, pauseAfter, type Quiet } from './pause.ts'
import { pass, type Round } from './round.ts'
import { rulesOf } from './rules.ts'
import { MAX_FULL, settle, type Settled } from './settle.ts'
import { changedAt, evaluatedThrough, rulesRevisionOf, selectStates, states, type StateRow } from './states.ts'

/** An endpoint that could not be settled is tried again this much later. */
const ASIDE_MS = 300_000
/** Should everything fail, only so many are remembered; the round knows that it is not done. */
const MAX_ASIDE = 5_000
const TELL_AGAIN_MS = 5_000
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
  readonly quiet?: Quiet
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

/** @param now ms, when the step begins */
export async function reEvaluate(context: Context, before: Standing, now: number): Promise<Step> {
  const { db } = context
  const head = before.round?.finished === false ? before.round.head : null
  const asked = context.now()
  const [rows, marks] = await db.batch([selectStates(context), markOf(db, head?.revision ?? 0)])
  const tripMs = context.now() - asked
  let read = nothingRead
  let standing: Standing = { ...before, aside: Object.fromEntries(Object.entries(before.aside).filter(([, until]) => until > now)) }
  const stepOf = (busy: boolean, written: number, evaluated: number): Step => {
    const { pauseMs, quiet } = pauseAfter({ quiet: before.quiet, tripMs, read, tookMs: context.now() - now })
    return { standing: { ...standing, quiet }, busy, written, evaluated, next: context.now() + pauseMs }
  }
  if (head !== null && marks[0]?.mark !== head.mark) standing = { ...standing, round: null }
  if (standing.owed !== null && standing.owed <= now) standing = { ...standing, owed: await tellAgain(context) ? null : now + TELL_AGAIN_MS }
  const held = await rulesOf(context, rows)
  const through = evaluatedThrough(rows)
  // Read after `rows`, the rules may be newer: then the next step begins a round for them.
  const behind = through < rulesRevisionOf(rows) && held.rules.revision === rulesRevisionOf(rows)

  let evaluated = 0
  for (const kind of standing.dueFirst ? ['due', 'behind'] as const : ['behind', 'due'] as const) {
    if (kind === 'behind' && !behind) continue
    standing = { ...standing, dueFirst: kind === 'behind' }
    let [page, passed]: [Page | null, Round | null] = [null, null]
    if (kind === 'due') page = await duePage(context, standing, now)
    else {
      const looked = await nextToSettle(context, { round: standing.round, aside: new Set(Object.keys(standing.aside)), limit: standing.page, rows, held, now })
      ;({ page, passed } = looked)
      standing = { ...standing, round: looked.round, page: page === null ? Math.min(PAGE, looked.limit * 2) : looked.limit }
      ;({ read } = looked)
      evaluated += looked.evaluated
      if (looked.finished) await finish(context, rows)
    }
    if (page === null) continue
    const settled = await settle(context, page.uids, held, page.sections, through).catch((cause: unknown): null => {
      logEvent('page-not-evaluated', { endpoints: page.uids.length, cause: cause instanceof Error ? cause.message : String(cause) })
      return null
    })
    standing = after(standing, page, settled, passed, now)
    return stepOf(true, settled?.written ?? 0, evaluated + (settled?.evaluated ?? 0))
  }
  if (rulesRevisionOf(rows) !== held.rules.revision || (behind && standing.round?.finished !== true)) return stepOf(behind, 0, evaluated)
  const [soonest] = await nextDue(db, Object.keys(standing.aside))
  const waits = [...soonest?.at == null ? [] : [soonest.at], ...standing.owed === null ? [] : [standing.owed], ...Object.values(standing.aside)]
  return { standing, busy: false, next: waits.length === 0 ? null : Math.min(...waits), written: 0, evaluated }
}

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
function after(standing: Standing, { uids, behind }: Page, settled: Settled | null, passed: Round | null, now: number): Standing {
  const failed = settled?.failed ?? (uids.length === 1 ? uids : [])
  const aside = Object.fromEntries([...Object.entries(standing.aside), ...failed.map((uid) => [uid, now + ASIDE_MS] as const)].slice(-MAX_ASIDE))
  if (settled === null && uids.length > 1) return { ...standing, page: Math.max(1, Math.floor(uids.length / 4)) }
  // As many as one commit took, where they were more; then gently more again.
  const to = settled?.settledTo ?? null
  const taken = to === null ? standing.page * 2 : (behind.length === 0 ? uids : behind).filter((uid) => uid <= to).length
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
  const uids = fitting(await due(db, now, Object.keys(aside), Math.min(page, MAX_FULL))).map(({ uid }) => uid)
  return uids.length === 0 ? null : { uids, sections: null, behind: [] }
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
