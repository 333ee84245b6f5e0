// What the benchmark's Worker answers beside the real operations, declared like them so that the same client calls it.
import { z } from 'zod'
import { operation } from '../../protocol/operation.ts'

const caller = 'endpoint' as const
/** As long as the report it stands beside: reading, hashing and parsing the body is nobody's logic. */
const body = z.strictObject({ padding: z.string().max(8_192) })
/** Objects that are called, each with a socket of its own: as many as gateways are concerned. */
const objects = z.number().int().min(1).max(64).default(1)

/** A constant from a bare Hono handler. */
export const bare = operation({ id: 'bench-bare', method: 'GET', path: '/bench/bare', caller: 'nobody', summary: 'A constant.', reply: z.object({ ok: z.literal(true) }) })
/** Authentication and admission (one D1 trip), and nothing after it. */
export const signedOnly = operation({ id: 'bench-signed', method: 'POST', path: '/bench/signed', caller, summary: 'A signed request.', body, reply: z.object({ ok: z.literal(true) }) })
/** The hops of a flipped tag with nothing in between: admission, one D1 batch, one object call, one frame. */
export const floorFlip = operation({ id: 'bench-flip', method: 'POST', path: '/bench/flip', caller, summary: 'A signed write, told by a frame.', body: body.extend({ objects }), reply: z.object({ at: z.number() }) })
export const floorSocket = operation({ id: 'bench-socket', method: 'GET', path: '/bench/socket', caller: 'nobody', surface: 'socket', summary: 'Where the frames of flips go.', query: z.strictObject({ object: z.coerce.number().int().min(0).max(63).default(0) }), reply: z.undefined() })
export const FLOOR_SUBPROTOCOL = 'bench.v1'
/** The frame: ms of the EMS clock before the batch, where the report takes its own. */
export const floorFrame = z.object({ at: z.number() })

/** A plain read of a fleet's endpoints in the Worker, page by page: whole rows with all their sections, or what an increment of tags is made of. The rows stay there. */
export const plainRead = operation({
  id: 'bench-read', method: 'GET', path: '/bench/read', caller: 'nobody', summary: 'Endpoints read and counted.',
  query: z.strictObject({ what: z.enum(['records', 'tags']), after: z.string().max(32), upTo: z.string().max(32), limit: z.coerce.number().int().min(1).max(2_000) }), reply: z.object({ rows: z.number(), last: z.string().nullable() }),
})

/** Rows that a report which flips one tag writes in D1; the floor writes as many. */
export const FLOOR_ROWS = 4
export const FLOOR_TABLE = 'CREATE TABLE IF NOT EXISTS bench_floor (id INTEGER PRIMARY KEY, value TEXT NOT NULL)'

/** Forgets what the isolate believes for ten seconds, so that no operation that is counted happens to be the one that reads it again. */
export const beginCounting = operation({ id: 'bench-begin', method: 'POST', path: '/bench/begin', caller: 'nobody', summary: 'Forget the CAs that were read.', reply: z.object({ ok: z.literal(true) }) })
/** What was asked of the database and the objects since it was last asked; only the metered Worker has it. */
export const tally = z.object({
  /** D1 calls of requests, and of objects. */
  trips: z.number(), objectTrips: z.number(),
  rowsRead: z.number(), rowsWritten: z.number(),
  /** Rows of the objects' own SQLite. */
  objectRowsWritten: z.number(),
  objectCalls: z.number(), frames: z.number(),
  /** Report pages that gateways asked for. */
  pulls: z.number(),
})
export type Tally = z.infer<typeof tally>
export const takeTally = operation({ id: 'bench-tally', method: 'POST', path: '/bench/tally', caller: 'nobody', summary: 'The tally; it begins anew.', reply: tally })
