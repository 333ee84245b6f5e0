// Where a round over all endpoints stands after an edit of the rules: by UID, to the end and on from the beginning. Pure.
import type { StateRow } from './states.ts'
import { changedAt, rulesRevisionOf, states } from './states.ts'

export interface Round {
  /** The rules it is for: revision and instant, for a restored database counts the same revisions again. */
  readonly revision: number
  readonly changedAt: number
  /** It began after this UID and has come to that one. */
  readonly from: string
  readonly at: string
  /** It has been at the end and goes on from the beginning. */
  readonly wrapped: boolean
  readonly finished: boolean
  /** It passed by an endpoint that could not be settled: the rules are not evaluated everywhere. */
  readonly unsettled: boolean
  /** Endpoints that were behind when it began, and how many of them it has passed. */
  readonly total: number
  readonly done: number
  /** ms */
  readonly since: number
  /** The newest row of the log when it last wrote: gone, and the database was restored to a time before. */
  readonly head: { readonly revision: number; readonly mark: string } | null
}

/** Whether a round is for the rules as they are. */
export const isFor = (round: Round, rows: readonly StateRow[]): boolean => round.revision === rulesRevisionOf(rows) && round.changedAt === changedAt(rows, states.rules)

/**
 * A round for the rules as they are. After one that was still on its way it starts where that one stood and goes full circle,
 * so that whoever edits rules all day does not keep the last endpoints from ever being reached.
 * @param before the round before; null: begin at the beginning
 */
export const beginRound = (before: Round | null, rows: readonly StateRow[], total: number, now: number): Round => {
  const from = before === null || before.finished ? '' : before.at
  return { revision: rulesRevisionOf(rows), changedAt: changedAt(rows, states.rules), from, at: from, wrapped: false, finished: false, unsettled: false, total, done: 0, since: now, head: null }
}

/** Of the next endpoints by UID, those that this round still has to pass. */
export const withinRound = <T extends { readonly uid: string }>({ wrapped, from }: Round, rows: readonly T[]): T[] => rows.filter(({ uid }) => !wrapped || uid <= from)

/** Past an endpoint; `passed` counts those that were behind. */
export const pass = (round: Round, at: string, passed: number): Round => ({ ...round, at, done: Math.min(round.total, round.done + passed) })
/** Nothing more in this direction: on from the beginning, or at the end. */
export const turn = (round: Round): Round => (round.wrapped || round.from === '' ? { ...round, finished: true, done: round.total } : { ...round, wrapped: true, at: '' })
