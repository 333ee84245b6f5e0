// The one way to change an endpoint: a guarded batch that writes everything or nothing, then the gateways concerned are told.
import type { SQL } from 'drizzle-orm'
import type { BatchItem } from 'drizzle-orm/batch'
import { readTagChanges } from '../../domain/tagging/flapping.ts'
import { claimedMacs } from '../../domain/access/device-address.ts'
import { toHex } from '../../identity/encoding.ts'
import { entryOf } from '../../durable-objects/log-entry.ts'
import type { SysinfoRecord, TableName } from '../../protocol/fabric/tables.ts'
import type { EndpointRow } from '../../schema/endpoint.ts'
import { advance, insertLog, unchanged, type Guard } from '../../schema/queries/guarded.ts'
import type { Concerned } from '../../schema/queries/interest.ts'
import { dropMacs, putMacs } from '../../schema/queries/claimed-macs.ts'
import { logTail } from '../../schema/queries/log-tail.ts'
import { logEvent, sourceOf, type Context } from '../context.ts'
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
  /** What else must still hold when it is written. */
  readonly when?: SQL
  /** The endpoint's full record where the caller has it: gateways then need no pull. */
  readonly sysinfo?: SysinfoRecord | null
}
/** `conflict`: somebody else was first and nothing was written; load and compute anew. */
export type Committed = { readonly ok: true; readonly endpoint: EndpointRow } | { readonly ok: false; readonly reason: 'conflict' }

export const newMark = (): string => toHex(crypto.getRandomValues(new Uint8Array(8)))

/** One D1 trip, then one object call per gateway concerned. */
export async function commitEndpoint(context: Context, commit: Commit): Promise<Committed> {
  const { endpoint, rulesRevision } = commit
  const moved = commit.set.addresses !== undefined && commit.set.addresses !== endpoint.addresses
  const publicIp = publicIpOf(context) ?? endpoint.publicIp
  const set = { ...commit.set, publicIp }
  const tables: readonly TableName[] = moved && !commit.tables.includes('tags') ? [...commit.tables, 'tags'] : commit.tables
  const guard: Guard = { uid: endpoint.uid, version: endpoint.version, rulesRevision, ...(commit.when === undefined ? {} : { when: commit.when }) }
  const after: EndpointRow = { ...endpoint, ...set, version: endpoint.version + 1 }
  const row = { mark: newMark(), at: context.now(), uid: endpoint.uid, tables: tables.join(','), entry: JSON.stringify(entryOf(after)) }
  const { db } = context
  const also = [...commit.also?.(guard) ?? [], ...(moved || after.registered !== endpoint.registered ? claims(context, guard, endpoint, after) : [])]
  if (tables.length === 0) {
    const results = await db.batch([...also, advance(db, guard, set)] as unknown as [ReturnType<typeof advance>])
    return results.at(-1)?.meta.changes === 0 ? { ok: false, reason: 'conflict' } : { ok: true, endpoint: after }
  }
  const results = await db.batch([logTailAfter(context, guard, row), logTail(db), ...also, advance(db, guard, set)] as const as [ReturnType<typeof insertLog>, ReturnType<typeof logTail>, ReturnType<typeof advance>])
  const [, tail] = results
  const advanced = results.at(-1) as unknown as D1Result
  if (advanced.meta.changes === 0) return { ok: false, reason: 'conflict' }
  noteFlapping(endpoint, commit.set)
  await pokeGateways(context, commit.concerned, tail, commit.sysinfo === undefined || commit.sysinfo === null ? {} : { [endpoint.uid]: { ...commit.sysinfo, public_ip: publicIp } })
  return { ok: true, endpoint: after }
}

/** Said once: when an endpoint begins to flap. */
export function noteFlapping(before: Pick<EndpointRow, 'uid' | 'tagChanges'>, { tagChanges }: { readonly tagChanges?: string }): void {
  if (tagChanges === undefined) return
  const { at, flappingSince } = readTagChanges(tagChanges)
  if (flappingSince !== null && flappingSince !== readTagChanges(before.tagChanges).flappingSince) logEvent('endpoint-flapping', { uid: before.uid, changes: at.length, since: new Date(at[0] ?? flappingSince).toISOString() })
}

const macsOf = ({ addresses, registered }: EndpointRow): string[] => (registered ? claimedMacs((JSON.parse(addresses) as { macs: string[] }).macs) : [])
/** Which MACs the endpoint says are its own, for whoever sees one. MACs seldom change: most moves cost no row. */
function claims({ db }: Context, guard: Guard, before: EndpointRow, after: EndpointRow): BatchItem<'sqlite'>[] {
  const [had, has] = [macsOf(before), macsOf(after)]
  const [come, gone] = [has.filter((mac) => !had.includes(mac)), had.filter((mac) => !has.includes(mac))]
  return [...(come.length === 0 ? [] : [putMacs(db, guard, come)]), ...(gone.length === 0 ? [] : [dropMacs(db, guard, gone)])]
}
/** Where the endpoint itself calls from, as the platform tells; undefined when it is somebody else who changes it. */
const publicIpOf = ({ caller, request }: Context): string | undefined => (caller.kind === 'endpoint' ? sourceOf(request) ?? undefined : undefined)

const logTailAfter = ({ db }: Context, guard: Guard, row: Parameters<typeof insertLog>[1]) => insertLog(db, row, unchanged(guard))
