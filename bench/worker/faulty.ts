// The Worker with a database and pokes that fail on demand. For tests of faults only: the switch is a path that no deployment has.
import real, { EndpointChannel as Channel, FcmNotify as Notify, ReEvaluation as Due } from '../../workers/index.ts'
import type { Env } from '../../workers/env.ts'

/** What goes wrong now. Objects of one Worker share its isolate here, so one switch rules them all. */
interface Weather {
  /** Share of D1 calls that fail, half of them after they were done: 0 to 1. */
  database: number
  /** ms that each D1 call takes longer. */
  databaseMs: number
  /** Pokes are answered as if told, and never told. */
  pokesLost: boolean
  /** Share of rows of an object's journal at which the object ends instead of writing it: its gateway may have been told already. */
  crashAfterFrame: number
}
const weather: Weather = { database: 0, databaseMs: 0, pokesLost: false, crashAfterFrame: 0 }

async function faulty<T>(work: () => Promise<T>): Promise<T> {
  if (weather.databaseMs > 0) await new Promise((resolve) => setTimeout(resolve, weather.databaseMs))
  const fails = Math.random() < weather.database
  const afterwards = Math.random() < 0.5
  if (fails && !afterwards) throw new Error('D1_ERROR: injected before')
  const result = await work()
  if (fails) throw new Error('D1_ERROR: injected after')
  return result
}

const originals = new WeakMap<object, D1PreparedStatement>()
function faultyStatement(statement: D1PreparedStatement): D1PreparedStatement {
  const wrapped = Object.create(statement) as D1PreparedStatement
  wrapped.bind = (...values: unknown[]) => faultyStatement(statement.bind(...values))
  for (const name of ['run', 'all', 'raw', 'first'] as const) {
    const real: (...given: never[]) => Promise<unknown> = statement[name]
    wrapped[name] = ((...given: never[]) => faulty(() => real.apply(statement, given))) as never
  }
  originals.set(wrapped, statement)
  return wrapped
}
function faultyDatabase(database: D1Database): D1Database {
  const wrapped = Object.create(database) as D1Database
  wrapped.prepare = (text: string) => faultyStatement(database.prepare(text))
  wrapped.batch = ((statements: D1PreparedStatement[]) => faulty(() => database.batch(statements.map((each) => originals.get(each) ?? each)))) as never
  return wrapped
}
const lossyNamespace = (namespace: Env['FCM_NOTIFY']): Env['FCM_NOTIFY'] => new Proxy(namespace, {
  get(target, name) {
    const found: unknown = Reflect.get(target, name, target)
    if (name !== 'getByName' || typeof found !== 'function') return typeof found === 'function' ? found.bind(target) as unknown : found
    return (serial: string) => {
      const stub = target.getByName(serial)
      return new Proxy(stub, {
        get(object, method) {
          if (method === 'poke' && weather.pokesLost) return () => Promise.resolve()
          return (...given: unknown[]) => Reflect.apply(Reflect.get(object, method, object) as (...all: unknown[]) => unknown, object, given)
        },
      })
    }
  },
})
const withFaults = (env: Env): Env => ({ ...env, DB: faultyDatabase(env.DB), FCM_NOTIFY: lossyNamespace(env.FCM_NOTIFY) })

export class FcmNotify extends Notify {
  constructor(state: DurableObjectState, env: Env) {
    super(state, withFaults(env))
    const { sql } = state.storage
    const exec = sql.exec.bind(sql)
    sql.exec = ((query: string, ...bound: unknown[]) => {
      if (!query.startsWith('INSERT INTO journal') || Math.random() >= weather.crashAfterFrame) return exec(query, ...bound)
      this.crash()
      throw new Error('crashed by the test')
    }) as typeof sql.exec
  }
  /** Ends this object where it stands, as a crash does. */
  crash(): void { this.ctx.abort('crashed by the test') }
}
export class EndpointChannel extends Channel {
  constructor(state: DurableObjectState, env: Env) { super(state, withFaults(env)) }
}
export class ReEvaluation extends Due {
  constructor(state: DurableObjectState, env: Env) { super(state, withFaults(env)) }
}

export default {
  async fetch(request, env, context) {
    const url = new URL(request.url)
    if (url.pathname !== '/weather') return await real.fetch(request, withFaults(env), context)
    const { crash, ...next } = await request.json<Partial<Weather> & { crash?: string }>()
    Object.assign(weather, next)
    // The call ends with the object: that it failed is what was asked for.
    if (crash !== undefined) await (env.FCM_NOTIFY.getByName(crash) as unknown as { crash(): Promise<void> }).crash().catch(() => undefined)
    return Response.json(weather)
  },
  scheduled: real.scheduled,
} satisfies ExportedHandler<Env>
