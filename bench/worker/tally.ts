// Counts for the whole isolate: D1 by the tests' own meter, calls of objects, rows that objects write, frames that they send.
import { meter } from '../../test/workers/meter.ts'
import type { Tally } from '../floor/operations.ts'

const nothing = (): Tally => ({ trips: 0, objectTrips: 0, rowsRead: 0, rowsWritten: 0, objectRowsWritten: 0, objectCalls: 0, frames: 0, pulls: 0 })
let counted = nothing()
const meters = new Map<ReturnType<typeof meter>, 'trips' | 'objectTrips'>()

export const count = (what: keyof Tally, by = 1): void => { counted[what] += by }

/** What was counted since it was last taken. */
export function takeCounts(): Tally {
  for (const [{ tally, reset }, trips] of meters) {
    count(trips, tally.trips)
    count('rowsRead', tally.rowsRead)
    count('rowsWritten', tally.rowsWritten)
    reset()
  }
  const taken = counted
  counted = nothing()
  return taken
}

/** A database that counts its trips under that name. */
export function meteredDatabase(database: D1Database, trips: 'trips' | 'objectTrips'): D1Database {
  const made = meter(database)
  meters.set(made, trips)
  return made.database
}

/** Each call of an object's method, and each request to one. */
const counting = <T extends object>(namespace: T): T => new Proxy(namespace, {
  get(target, name) {
    const found: unknown = Reflect.get(target, name, target)
    if (typeof found !== 'function') return found
    return (...given: unknown[]) => {
      const made: unknown = Reflect.apply(found, target, given)
      return name === 'getByName' || name === 'get' ? countingStub(made as object) : made
    }
  },
})
const countingStub = (stub: object): object => new Proxy(stub, {
  get: (target, name) => (...given: unknown[]) => {
    count('objectCalls')
    // Called on the stub itself: a method of a stub that is passed around is another thing (a pipelined property).
    return (target as Record<string | symbol, (...args: unknown[]) => unknown>)[name]?.(...given)
  },
})

/** Every binding that is a namespace of objects. */
export const meteredNamespaces = (env: object): object => Object.fromEntries(Object.entries(env)
  .filter(([, binding]: [string, unknown]) => typeof binding === 'object' && binding !== null && 'getByName' in binding)
  .map(([name, namespace]: [string, object]) => [name, counting(namespace)]))

/** Counts what an object writes to its own SQLite; a statement that writes is done when `exec` returns. */
export function countRows({ storage: { sql } }: DurableObjectState): void {
  const exec = sql.exec.bind(sql)
  sql.exec = ((query: string, ...bindings: unknown[]) => {
    const cursor = exec(query, ...bindings)
    count('objectRowsWritten', cursor.rowsWritten)
    return cursor
  }) as typeof sql.exec
}

/** Counts every frame that leaves this isolate: only objects send any. */
export function countFrames(): void {
  const send = WebSocket.prototype.send
  WebSocket.prototype.send = function counted(this: WebSocket, frame: string | ArrayBuffer | ArrayBufferView) {
    count('frames')
    Reflect.apply(send, this, [frame])
  }
}
