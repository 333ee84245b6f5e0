// Settles a page of endpoints: reads rows and the sections needed together, works each out, commits what is not yet stored.
import { sectionNames } from '../../protocol/facts.ts'
import { evaluatedOf, sectionsOf } from '../../schema/queries/behind.ts'
import { logEvent, type Context } from '../context.ts'
import type { ComputedEndpoint } from '../../schema/queries/guarded-many.ts'
import { noteFlapping } from './commit-endpoint.ts'
import { bytesOf, commitMany, computedOf, MAX_COMMIT_BYTES, type CommittedMany } from './commit-many.ts'
import { readSections } from './facts.ts'
import { leaveFabric } from './move-fabric.ts'
import type { HeldRules } from './rules.ts'
import { tellProfiles } from './tell-profiles.ts'
import { workOut } from './work-out.ts'

export interface Settled extends CommittedMany {
  /** Somebody else was first with some of them: those are as they were. */
  readonly overtaken: boolean
  /** The UID, in order, up to which the page could be taken; null: all of it. */
  readonly settledTo: string | null
  /** Endpoints that could not be worked out at all. */
  readonly failed: readonly string[]
  /** Verdicts of rule sets that were worked out. */
  readonly evaluated: number
}

/** Endpoints of which one query returns every section: below 5,000 rows. */
export const MAX_FULL = Math.floor(4_500 / (sectionNames.length + 1))

/**
 * @param sections the sections that the rule sets in question read; null: all, and every rule set is worked out
 * @param through revision of the rules that every endpoint holds for, whatever its row says
 */
export async function settle(context: Context, uids: readonly string[], held: HeldRules, sections: readonly string[] | null, through: number): Promise<Settled> {
  const { db } = context
  const now = context.now()
  let evaluated = 0
  // Together, and anew: what is computed from facts must be guarded by the version that the endpoint had with them.
  const [rows, some] = await db.batch([evaluatedOf(db, uids), sectionsOf(db, uids, sections)])
  const read = readAll(some)
  // What is due by time, and what misses a fact, reads more than what the edit reads.
  const needsAll = sections === null ? [] : rows.filter(({ uid, nextDue }) => (nextDue !== null && nextDue <= now) || (read.get(uid)?.damaged.length ?? 0) > 0).map(({ uid }) => uid)
  for (const [uid, all] of needsAll.length === 0 ? [] : readAll(await sectionsOf(db, needsAll.slice(0, MAX_FULL), null))) read.set(uid, all)
  const full = new Set(sections === null ? uids : needsAll)
  const failed: string[] = []
  const computed: ComputedEndpoint[] = []
  let [bytes, settledTo] = [0, '']
  for (const row of rows) {
    if (row.uid === needsAll[MAX_FULL]) break
    try {
      const { facts, damaged } = read.get(row.uid) ?? nothingKnown
      const moved = await leaveFabric(row, facts, now)
      const signedOut = row.identityUntil !== null && row.identityUntil <= now
      const endpoint = { ...row, ...(moved === null ? {} : { fabricUntil: null }), ...(signedOut ? { identityUntil: null } : {}) }
      const worked = workOut({ endpoint, held, through: Math.max(row.rulesRevision, through), facts: moved?.facts ?? facts, changed: full.has(row.uid) ? 'all' : [], now })
      evaluated += worked.evaluation.evaluated.length
      if (worked.differs || damaged.length > 0 || moved !== null || signedOut) {
        const each = computedOf(row, worked, damaged, { fabric: moved?.fabric, signedOut })
        // What does not fit any more is for the next page.
        if (computed.length > 0 && (bytes += bytesOf(each)) > MAX_COMMIT_BYTES) break
        for (const section of damaged) logEvent('section-damaged', { uid: row.uid, section })
        computed.push(each)
      }
    } catch (cause) {
      // One endpoint must not stop the others: it is set aside, shown, and tried again.
      logEvent('endpoint-not-evaluated', { uid: row.uid, cause: cause instanceof Error ? cause.message : String(cause) })
      failed.push(row.uid)
    }
    settledTo = row.uid
  }
  const committed = await commitMany(context, computed, held.rules.revision)
  tellProfiles(context, computed)
  const flapping = computed.flatMap(({ uid, set }) => (set.tagChanges === undefined ? [] : [{ uid, tagChanges: set.tagChanges }]))
  // Whom somebody else was first with was not written, and is worked out anew.
  const stored = committed.written === computed.length || flapping.length === 0 ? null : new Map((await evaluatedOf(db, flapping.map(({ uid }) => uid))).map((row) => [row.uid, row.tagChanges]))
  for (const row of rows) {
    const changed = flapping.find(({ uid }) => uid === row.uid)
    if (changed !== undefined && (stored === null || stored.get(row.uid) === changed.tagChanges)) noteFlapping(row, changed)
  }
  return { ...committed, overtaken: committed.written < computed.length, settledTo: settledTo === (rows.at(-1)?.uid ?? '') ? null : settledTo, failed, evaluated }
}

const nothingKnown: ReturnType<typeof readSections> = { facts: {}, damaged: [] }
const readAll = (rows: Awaited<ReturnType<typeof sectionsOf>>) => new Map([...Map.groupBy(rows, ({ uid }) => uid)].map(([uid, own]) => [uid, readSections(own)]))
