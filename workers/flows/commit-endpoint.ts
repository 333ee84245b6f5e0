// The one way to change an endpoint: a guarded batch that writes everything or nothing, then the gateways concerned are told.
import type { BatchItem } from 'drizzle-orm/batch'
import { toHex } from '../../identity/encoding.ts'
import { entryOf } from '../../durable-objects/log-entry.ts'
import type { SysinfoRecord, TableName } from '../../protocol/fabric/tables.ts'
import type { EndpointRow } from '../../schema/endpoint.ts'
import { advance, insertLog, unchanged, type Guard } from '../../schema/queries/guarded.ts'
import type { Concerned } from '../../schema/queries/interest.ts'
import { logTail } from '../../schema/queries/log-tail.ts'
import type { Context } from '../context.ts'
import { pokeGateways } from './poke.ts'

export interface Commit {
  readonly endpoint: EndpointRow
  /** Revision of the rules that the change was computed with. */
  readonly rulesRevision: number
  readonly set: Partial<EndpointRow>
  /** Further statements, guarded alike. */
  readonly also?: (guard: Guard) => BatchItem<'sqlite'>[]
  /** Fabric tables that this changes; none: nobody is told and no row of the log is written. */
  readonly tables: readonly TableName[]
  readonly concerned: readonly Concerned[]
  /** The endpoint's full record where the caller has it: gateways then need no pull. */
  readonly sysinfo?: SysinfoRecord | null
}
/** `conflict`: somebody else was first and nothing was written; load and compute anew. */
export type Committed = { readonly ok: true; readonly endpoint: EndpointRow } | { readonly ok: false; readonly reason: 'conflict' }

export const newMark = (): string => toHex(crypto.getRandomValues(new Uint8Array(8)))

/** One D1 trip, then one object call per gateway concerned. */
export async function commitEndpoint(context: Context, commit: Commit): Promise<Committed> {
  const { endpoint, rulesRevision, set, tables } = commit
  const guard: Guard = { uid: endpoint.uid, version: endpoint.version, rulesRevision }
  const after: EndpointRow = { ...endpoint, ...set, version: endpoint.version + 1 }
  const row = { mark: newMark(), at: context.now(), uid: endpoint.uid, tables: tables.join(','), entry: JSON.stringify(entryOf(after)) }
  const also = commit.also?.(guard) ?? []
  const { db } = context
  if (tables.length === 0) {
    const results = await db.batch([...also, advance(db, guard, set)] as unknown as [ReturnType<typeof advance>])
    return results.at(-1)?.meta.changes === 0 ? { ok: false, reason: 'conflict' } : { ok: true, endpoint: after }
  }
  const results = await db.batch([logTailAfter(context, guard, row), logTail(db), ...also, advance(db, guard, set)] as const as [ReturnType<typeof insertLog>, ReturnType<typeof logTail>, ReturnType<typeof advance>])
  const [, tail] = results
  const advanced = results.at(-1) as unknown as D1Result
  if (advanced.meta.changes === 0) return { ok: false, reason: 'conflict' }
  await pokeGateways(context, commit.concerned, tail, commit.sysinfo === undefined || commit.sysinfo === null ? {} : { [endpoint.uid]: commit.sysinfo })
  return { ok: true, endpoint: after }
}

const logTailAfter = ({ db }: Context, guard: Guard, row: Parameters<typeof insertLog>[1]) => insertLog(db, row, unchanged(guard))
