// The one way to change what was computed for many endpoints: guarded batches, each endpoint whole or not at all, then every gateway concerned is told once.
import { entryOf } from '../../durable-objects/log-entry.ts'
import type { EndpointRow } from '../../schema/endpoint.ts'
import { advanceMany, concernedByAny, dropManySections, dropManyTags, forgetSignIns, insertLogs, insertManySections, newestLogs, putFabric, putManyTags, type ComputedEndpoint } from '../../schema/queries/guarded-many.ts'
import { TAIL_ROWS } from '../../schema/queries/log-tail.ts'
import { logEvent, type Context } from '../context.ts'
import { newMark } from './commit-endpoint.ts'
import { pokeGateways } from './poke.ts'
import type { WorkedOut } from './work-out.ts'

/** Bytes bound in one statement. */
export const MAX_BATCH_BYTES = 600_000
/** What one call takes: two batches of seven queries each, of the forty that an invocation may make. */
export const MAX_COMMIT_BYTES = 2 * MAX_BATCH_BYTES
/** More than this, and a poke carries the head of the log only: the objects read the rest themselves. */
const MAX_TAIL_ROWS = 60

type Row = Pick<EndpointRow, 'version' | 'verdicts'> & Parameters<typeof entryOf>[0]
/** An endpoint's row and what was worked out from it, as one commit takes it. @param fabric where it stands to the fabric, when it moved @param signedOut whoever was signed in is so no more */
export function computedOf(row: Row, worked: WorkedOut, damaged: readonly string[], { fabric, signedOut = false }: { fabric?: ComputedEndpoint['fabric']; signedOut?: boolean } = {}): ComputedEndpoint {
  const { set, put, gone } = worked
  const onFabric = fabric?.on ?? row.onFabric
  const tables = [...(onFabric === row.onFabric && !signedOut ? [] : ['sysinfo']), ...(put.length + gone.length === 0 ? [] : ['uid_tags', 'tags'])]
  return {
    uid: row.uid, version: row.version, set, put, gone, damaged: signedOut ? [...damaged, 'identity'] : damaged, ...(fabric === undefined ? {} : { fabric }), ...(signedOut ? { signedOut: true } : {}),
    log: tables.length === 0 ? null : { mark: newMark(), tables: tables.join(','), entry: JSON.stringify(entryOf({ ...row, onFabric, tags: set.tags })) },
  }
}
export const bytesOf = ({ set, log }: ComputedEndpoint): number => 200 + (set.verdicts?.length ?? 0) + set.tags.length + (set.assigned?.length ?? 0) + (log?.entry.length ?? 0)

/** Cuts a list into what one batch takes. */
function batchesOf(computed: readonly ComputedEndpoint[]): ComputedEndpoint[][] {
  const batches: ComputedEndpoint[][] = []
  let bytes = Infinity
  for (const each of computed) {
    bytes += bytesOf(each)
    if (bytes > MAX_BATCH_BYTES) {
      batches.push([])
      bytes = bytesOf(each)
    }
    batches.at(-1)?.push(each)
  }
  return batches
}

export interface CommittedMany {
  /** Endpoints written; fewer than given when somebody else was first with some: those are as they were. */
  readonly written: number
  /** Everybody concerned has acknowledged. Otherwise the log stands, and they must be told again. */
  readonly told: boolean
  /** The newest row of the log afterwards; null: nothing was written. */
  readonly head: { readonly revision: number; readonly mark: string } | null
}

/** @param revision of the rules that all was computed with */
export async function commitMany(context: Context, computed: readonly ComputedEndpoint[], revision: number): Promise<CommittedMany> {
  const at = context.now()
  let written = 0
  let last: Awaited<ReturnType<typeof commitBatch>> | null = null
  for (const batch of batchesOf(computed)) {
    last = await commitBatch(context, batch, revision, at, computed)
    written += last.written
  }
  if (last === null) return { written: 0, told: true, head: null }
  const { tail } = last
  const [newest] = tail
  const head = newest === undefined ? null : { revision: newest.revision, mark: newest.mark }
  if (!computed.some(({ log }) => log !== null)) return { written, told: true, head }
  try {
    await pokeGateways(context, last.concerned, tail)
    return { written, told: true, head }
  } catch (cause) {
    logEvent('gateways-not-told', { cause: cause instanceof Error ? cause.message : String(cause) })
    return { written, told: false, head }
  }
}

async function commitBatch({ db }: Context, batch: readonly ComputedEndpoint[], revision: number, at: number, all: readonly ComputedEndpoint[]) {
  const logged = all.filter(({ log }) => log !== null)
  const rows = logged.length + TAIL_ROWS
  const told = [
    insertLogs(db, batch, revision, at), putManyTags(db, batch, revision, at), dropManyTags(db, batch, revision), dropManySections(db, batch, revision),
    newestLogs(db, rows > MAX_TAIL_ROWS ? 1 : rows), concernedByAny(db, logged.map(({ uid }) => uid)),
  ] as const
  const moved = batch.filter(({ fabric }) => fabric !== undefined)
  const sections = moved.flatMap(({ uid, version, fabric }) => (fabric?.section == null ? [] : [{ uid, version, ...fabric.section }]))
  const fabric = [...(moved.length === 0 ? [] : [putFabric(db, moved, revision)]), ...(sections.length === 0 ? [] : insertManySections(db, sections, revision))]
  const signedOut = batch.filter((each) => each.signedOut === true)
  const results = await db.batch([...told, ...fabric, ...(signedOut.length === 0 ? [] : [forgetSignIns(db, signedOut, revision)]), advanceMany(db, batch, revision)] as const as unknown as typeof told)
  const [, , , , tail, concerned] = results
  return { tail, concerned, written: (results.at(-1) as unknown as D1Result).meta.changes }
}
