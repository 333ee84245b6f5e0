// Counts what the database is asked, and fails where production would: emulation enforces none of D1's limits.

export interface Tally { trips: number; queries: number; rowsRead: number; rowsWritten: number; /** Bytes of the values that were returned: texts and bodies as long as they are, numbers as eight. */ bytesRead: number }
const MAX_QUERIES = 40
const MAX_VALUE_BYTES = 1_000_000
const MAX_PARAMETERS = 90
const MAX_ROWS = 5_000
const bytesOf = (value: unknown): number => (value === null ? 0 : typeof value === 'string' || Array.isArray(value) ? value.length : value instanceof ArrayBuffer ? value.byteLength : 8)

/** What an isolate asks once in ten seconds, whoever comes then, is no part of what that one costs. */
const WHO_THE_EMS_IS = /^select .* from "(authorities|ems)"/

/** A database that counts. `tally` is reset by the test; the limits hold from one reset to the next. @param whole counts the look at the CAs too */
export function meter(database: D1Database, whole = false): { database: D1Database; tally: Tally; reset(): void } {
  const tally: Tally = { trips: 0, queries: 0, rowsRead: 0, rowsWritten: 0, bytesRead: 0 }
  const originals = new WeakMap<D1PreparedStatement, D1PreparedStatement>()
  const count = <T extends { meta?: { rows_read?: number; rows_written?: number }; results?: unknown[] }>(result: T): T => {
    tally.queries++
    tally.rowsRead += result.meta?.rows_read ?? 0
    tally.rowsWritten += result.meta?.rows_written ?? 0
    for (const row of result.results ?? []) for (const value of Object.values(row as object)) tally.bytesRead += bytesOf(value)
    if (tally.queries > MAX_QUERIES) throw new Error(`more than ${MAX_QUERIES} queries in one invocation`)
    if ((result.results?.length ?? 0) > MAX_ROWS) throw new Error(`more than ${MAX_ROWS} rows returned`)
    return result
  }
  const wrap = (statement: D1PreparedStatement): D1PreparedStatement => {
    const wrapped: D1PreparedStatement = Object.create(statement) as D1PreparedStatement
    wrapped.bind = (...values: unknown[]) => {
      if (values.length > MAX_PARAMETERS) throw new Error(`more than ${MAX_PARAMETERS} parameters`)
      for (const value of values) if ((typeof value === 'string' || value instanceof Uint8Array) && value.length > MAX_VALUE_BYTES) throw new Error('a value over 1 MB')
      return wrap(statement.bind(...values))
    }
    for (const name of ['run', 'all'] as const) {
      wrapped[name] = (async () => {
        tally.trips++
        return count(await statement[name]())
      }) as never
    }
    // drizzle reads single rows and arrays by `raw` and `first`, which tell no rows: ask by `all` and reshape.
    wrapped.raw = (async () => {
      tally.trips++
      return ((count(await statement.all<Record<string, unknown>>())).results).map((row) => Object.values(row))
    }) as never
    originals.set(wrapped, statement)
    return wrapped
  }
  const counted = Object.create(database) as D1Database
  counted.prepare = (sql: string) => (!whole && WHO_THE_EMS_IS.test(sql) ? database.prepare(sql) : wrap(database.prepare(sql)))
  counted.batch = (async (statements: D1PreparedStatement[]) => {
    tally.trips++
    return (await database.batch(statements.map((each) => originals.get(each) ?? each))).map(count)
  }) as never
  return { database: counted, tally, reset: () => Object.assign(tally, { trips: 0, queries: 0, rowsRead: 0, rowsWritten: 0, bytesRead: 0 }) }
}
