// What changed last, and when, by kind: the few rows by which reports, documents and rules know whether they are behind.
import { inArray, sql, type SQL } from 'drizzle-orm'
import type { BatchItem } from 'drizzle-orm/batch'
import { rulesState } from '../../schema/change-log.ts'
import type { Context } from '../context.ts'

/**
 * Rows of `rules_state`. `rules`: what rules decide. `evaluated`: the revision that every endpoint is worked out with.
 * `questions`: what agents are asked. `wording`: what rules are called and say, which decides nothing.
 */
export const states = { rules: 1, configuration: 2, authorities: 3, evaluated: 4, questions: 5, wording: 6 } as const
export type StateRow = typeof rulesState.$inferSelect

export const selectStates = ({ db }: Pick<Context, 'db'>) => db.select().from(rulesState).where(inArray(rulesState.id, Object.values(states)))
export const changedAt = (rows: readonly StateRow[], id: number): number => rows.find((row) => row.id === id)?.changedAt ?? 1
const revisionOf = (rows: readonly StateRow[], id: number): number => rows.find((row) => row.id === id)?.revision ?? 0
export const rulesRevisionOf = (rows: readonly StateRow[]): number => revisionOf(rows, states.rules)
/** The revision of the rules up to which every endpoint that has reported is worked out, whatever its own row says. */
export const evaluatedThrough = (rows: readonly StateRow[]): number => revisionOf(rows, states.evaluated)

/** Holds while the rules are of the revision that an edit was held against; null: it was held against none. */
export const stillAt = (revision: number | null): SQL => (revision === null ? sql`true` : sql`COALESCE((SELECT revision FROM rules_state WHERE id = ${states.rules}), 0) = ${revision}`)

/** Bumps one of the states; in the same batch as the change itself. @param when the batch is to change something: else nothing is bumped */
export const bumpState = ({ db }: Pick<Context, 'db'>, id: number, now: number, when: SQL = sql`true`): BatchItem<'sqlite'> =>
  db.insert(rulesState).select(sql`SELECT ${id}, 1, ${now} WHERE ${when}`).onConflictDoUpdate({ target: rulesState.id, set: { revision: sql`revision + 1`, changedAt: later(now) } })

// A clock that went back must not make a change look older than what agents hold.
const later = (now: number) => sql`max(changed_at + 1, ${now})`
