// Settles a page of endpoints: reads rows and the sections needed together, works each out, commits what is not yet stored.
import { evaluatedOf, sectionsOf } from '../../schema/queries/behind.ts'
import { logEvent, type Context } from '../context.ts'
import { batchesOf, commitMany, computedOf, MAX_BATCHES, type CommittedMany } from './commit-many.ts'
import { readSections } from './facts.ts'
import type { HeldRules } from './rules.ts'
import { workOut } from './work-out.ts'

export interface Settled extends CommittedMany {
  /** Nobody was first with any of them, and all fitted: the page is done with. */
  readonly whole: boolean
  /** Endpoints that could not be worked out at all. */
  readonly failed: readonly string[]
  /** Verdicts of rule sets that were worked out. */
  readonly evaluated: number
}

/**
 * @param sections the sections that the rule sets in question read; null: all, and every rule set is worked out
 * @param through revision of the rules that every endpoint holds for, whatever its row says
 */
export async function settle(context: Context, uids: readonly string[], held: HeldRules, sections: readonly string[] | null, through: number): Promise<Settled> {
  const { db } = context
  const now = context.now()
  const [rows, some] = await db.batch([evaluatedOf(db, uids), sectionsOf(db, uids, sections)])
  const read = readAll(some)
  // What is due by time, and what misses a fact, reads more than what the edit reads.
  const needsAll = sections === null ? [] : rows.filter(({ uid, nextDue }) => (nextDue !== null && nextDue <= now) || (read.get(uid)?.damaged.length ?? 0) > 0).map(({ uid }) => uid)
  if (needsAll.length > 0) for (const [uid, all] of readAll(await sectionsOf(db, needsAll, null))) read.set(uid, all)
  const full = new Set(sections === null ? uids : needsAll)
  const failed: string[] = []
  let evaluated = 0
  const computed = rows.flatMap((row) => {
    try {
      const { facts, damaged } = read.get(row.uid) ?? { facts: {}, damaged: [] }
      for (const section of damaged) logEvent('section-damaged', { uid: row.uid, section })
      const worked = workOut({ endpoint: row, held, through: Math.max(row.rulesRevision, through), facts, changed: full.has(row.uid) ? 'all' : [], now })
      evaluated += worked.evaluation.evaluated.length
      return worked.differs || damaged.length > 0 ? [computedOf(row, worked, damaged)] : []
    } catch (cause) {
      // One endpoint must not stop the others: it is set aside, shown, and tried again.
      logEvent('endpoint-not-evaluated', { uid: row.uid, cause: cause instanceof Error ? cause.message : String(cause) })
      failed.push(row.uid)
      return []
    }
  })
  const fitting = batchesOf(computed).slice(0, MAX_BATCHES).flat()
  const committed = await commitMany(context, fitting, held.rules.revision)
  return { ...committed, whole: fitting.length === computed.length && committed.written === fitting.length, failed, evaluated }
}

const readAll = (rows: Awaited<ReturnType<typeof sectionsOf>>) => new Map([...Map.groupBy(rows, ({ uid }) => uid)].map(([uid, own]) => [uid, readSections(own)]))
