// Bindings under test: replaced one by one, with something done between two trips to the database, or with its answer lost.
import { listDurableObjectIds, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { makeContext, type Context } from '../../workers/context.ts'
import { readConfig, type Env } from '../../workers/env.ts'
import { forgetAuthorities, trustedAuthorities } from '../../workers/flows/authority.ts'
import { admin, ORIGIN, reportBody, sendTo, signatureOf, type Answer, type Endpoint } from './ems.ts'

export const real = env as unknown as Env
/** The bindings with some replaced. */
export const envWith = (changes: Partial<Env>): Env => ({
  DB: real.DB, FCM_NOTIFY: real.FCM_NOTIFY, ENDPOINT_CHANNEL: real.ENDPOINT_CHANNEL, RE_EVALUATION: real.RE_EVALUATION,
  ADMIN_TOKEN: real.ADMIN_TOKEN ?? '', WRAPPING_KEYS: real.WRAPPING_KEYS ?? '', PUBLIC_ORIGIN: real.PUBLIC_ORIGIN ?? '', ...changes,
})
export const contextOf = (bindings: Env): Context => makeContext(bindings, readConfig(bindings), new Request(ORIGIN), { waitUntil: (promise) => { void promise } })

/** A report to the EMS with those bindings. */
export async function reportTo(bindings: Env, endpoint: Endpoint, sequence: number, sections: Parameters<typeof reportBody>[1]): Promise<Answer> {
  const path = '/api/v1/endpoint/report'
  const body = await reportBody(sequence, sections)
  return await sendTo(bindings, 'POST', path, { body, headers: await signatureOf(endpoint, 'POST', path, body) })
}

export interface Trip { readonly sql: readonly string[]; readonly rowsWritten: number }
/** A database that tells of each trip: `before` it is made, and `after` it was. What is thrown after it is an answer that was lost. */
export function interposed(database: D1Database, tell: { before?(sql: readonly string[]): Promise<void> | void; after?(trip: Trip): Promise<void> | void }): D1Database {
  const originals = new WeakMap<D1PreparedStatement, { statement: D1PreparedStatement; sql: string }>()
  const written = (results: readonly { meta?: { rows_written?: number } }[]) => results.reduce((sum, { meta }) => sum + (meta?.rows_written ?? 0), 0)
  const wrap = (statement: D1PreparedStatement, sql: string): D1PreparedStatement => {
    const wrapped = Object.create(statement) as D1PreparedStatement
    wrapped.bind = (...values: unknown[]) => wrap(statement.bind(...values), sql)
    const trip = async () => {
      await tell.before?.([sql])
      const result = await statement.all<Record<string, unknown>>()
      await tell.after?.({ sql: [sql], rowsWritten: written([result]) })
      return result
    }
    wrapped.run = trip as never
    wrapped.all = trip as never
    wrapped.raw = (async () => (await trip()).results.map((row) => Object.values(row))) as never
    originals.set(wrapped, { statement, sql })
    return wrapped
  }
  const told = Object.create(database) as D1Database
  told.prepare = (sql: string) => wrap(database.prepare(sql), sql)
  told.batch = (async (statements: D1PreparedStatement[]) => {
    const inner = statements.map((each) => originals.get(each) ?? { statement: each, sql: '' })
    await tell.before?.(inner.map(({ sql }) => sql))
    const results = await database.batch(inner.map(({ statement }) => statement))
    await tell.after?.({ sql: inner.map(({ sql }) => sql), rowsWritten: written(results) })
    return results
  }) as never
  return told
}

/** Until every endpoint is evaluated with the rules as they are. */
export async function reEvaluated(): Promise<void> {
  for (let step = 0; step < 200; step++) {
    if ((await admin('GET', '/re-evaluation')).json.running === false) return
    await runDurableObjectAlarm(real.RE_EVALUATION.getByName('one'))
  }
  throw new Error('the re-evaluation does not end')
}
/** The isolate has just read who the CAs are: for ten seconds no request asks that, and it is in no count. */
export async function casAreKnown(): Promise<void> {
  forgetAuthorities()
  await trustedAuthorities(contextOf(real))
}
/** What works by itself has ended and wakes no more: for tests that count what the database is asked, or come between two of its answers. */
export async function still(): Promise<void> {
  await reEvaluated()
  const asleep = async <T extends Rpc.DurableObjectBranded>(namespace: DurableObjectNamespace<T>) => {
    for (const id of await listDurableObjectIds(namespace)) await runInDurableObject(namespace.get(id), (_, { storage }) => storage.deleteAlarm())
  }
  await asleep(real.RE_EVALUATION)
  await asleep(real.FCM_NOTIFY)
  await asleep(real.ENDPOINT_CHANNEL)
}
