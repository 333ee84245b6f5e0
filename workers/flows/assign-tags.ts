// Sets tags on endpoints and takes them off: the same guarded commit, log and poke as a report's tags. An end by time is left to the re-evaluation.
import { endsNext, givenByRules, readAssigned, tagChanges, withAssigned } from '../../domain/tagging/assigned.ts'
import { entryOf } from '../../durable-objects/log-entry.ts'
import { Fault } from '../../protocol/faults.ts'
import type { Assignment, TagState } from '../../protocol/rules.ts'
import { bearersOf, rulesReadTags, type Bearer } from '../../schema/queries/assigned.ts'
import { concernedByAny, type ComputedEndpoint } from '../../schema/queries/guarded-many.ts'
import { logTail } from '../../schema/queries/log-tail.ts'
import type { Context } from '../context.ts'
import { newMark } from './commit-endpoint.ts'
import { commitMany } from './commit-many.ts'
import { pokeGateways } from './poke.ts'
import { rulesRevisionOf, selectStates } from './states.ts'

const ATTEMPTS = 5

/** What becomes of the settings that an endpoint bears. */
export type Resetting = (before: readonly Assignment[]) => readonly Assignment[] | 'unchanged' | 'full'
export interface Outcome { readonly changed: number; readonly unchanged: number; readonly unknown: string[]; readonly full: string[] }

/**
 * Two trips, and one object call per gateway concerned. Whoever was told `busy` says it again: what stands is not written twice, and everybody concerned is told.
 * @param uids as many as one call of the API takes
 */
export async function resetTags(context: Context, uids: readonly string[], resetting: Resetting): Promise<Outcome> {
  const { db } = context
  const asked = [...new Set(uids)]
  let changed = 0
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const [rows, states, [rules]] = await db.batch([bearersOf(db, asked), selectStates(context), rulesReadTags(db)])
    const now = context.now()
    const results = rows.map((row) => ({ row, after: resetting(readAssigned(row.assigned)) }))
    const computed = results.flatMap(({ row, after }) => (typeof after === 'string' ? [] : [computedOf(row, after, rules?.reads === 1, now)]))
    const { written, told } = await commitMany(context, computed, rulesRevisionOf(states))
    changed += written
    const due = Math.min(...computed.flatMap(({ set }) => set.nextDue ?? []))
    if (due !== Infinity) context.waitUntil(context.env.RE_EVALUATION.getByName('one').due(due))
    // Somebody else was first with some: those are looked at anew, and what was written is unchanged then.
    if (written < computed.length) continue
    if (!told) throw new Fault('busy', 'It has been taken, but not every gateway has been told yet; send it again.', { retryAfterSeconds: 1 })
    if (computed.length < rows.length) await tellAgain(context, results.flatMap(({ row, after }) => (after === 'unchanged' ? [row.uid] : [])))
    const known = new Set(rows.map(({ uid }) => uid))
    const full = results.flatMap(({ row, after }) => (after === 'full' ? [row.uid] : []))
    return { changed, unchanged: rows.length - full.length - changed, unknown: asked.filter((uid) => !known.has(uid)), full }
  }
  throw new Fault('busy', 'The endpoints are being changed by others; send it again.', { retryAfterSeconds: 1 })
}

/** @param read rules read tags: whoever bears others now is worked out anew, at once */
function computedOf(row: Bearer, assigned: readonly Assignment[], read: boolean, now: number): ComputedEndpoint {
  const before = JSON.parse(row.tags) as TagState[]
  const after = withAssigned(givenByRules(before, readAssigned(row.assigned)), assigned, now)
  const [{ put, gone }, ends, tags] = [tagChanges(before, after), endsNext(assigned, now), JSON.stringify(after)]
  // What rules still wait for is in `nextDue` too: a wake-up too early finds nothing and sets the next.
  const told = put.length + gone.length > 0
  const dues = [...read && told ? [now] : [], ...ends === null ? [] : [ends], ...row.nextDue === null ? [] : [row.nextDue]]
  const nextDue = dues.length === 0 ? null : Math.min(...dues)
  return {
    uid: row.uid, version: row.version, put, gone, damaged: [], set: { rulesRevision: row.rulesRevision, verdicts: null, tags, nextDue, assigned: JSON.stringify(assigned) },
    log: told ? { mark: newMark(), tables: 'uid_tags,tags', entry: JSON.stringify(entryOf({ ...row, tags })) } : null,
  }
}

/** The reply before may have been lost, and with it a poke. */
async function tellAgain(context: Context, uids: readonly string[]): Promise<void> {
  if (uids.length === 0) return
  const [concerned, tail] = await context.db.batch([concernedByAny(context.db, uids), logTail(context.db)])
  await pokeGateways(context, concerned, tail)
}
