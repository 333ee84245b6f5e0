// The EMS on local emulation: the real Worker, D1 and objects in workerd, over HTTPS, with data kept in a directory.
import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readFile, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { convertV4MiniflareOptions, Log, LogLevel, Miniflare } from 'miniflare'
import { z } from 'zod'
import { readJson, writeJson } from '../node/key-store.ts'
import { bundleWorker } from './bundle.ts'
import { freePort } from './free-port.ts'
import { childrenNamed, leash } from './leash.ts'
import { localTls } from './local-tls.ts'

const migrations = fileURLToPath(new URL('../schema/migrations/', import.meta.url))
const signals = ['SIGINT', 'SIGTERM'] as const
const secrets = z.strictObject({ adminToken: z.string(), wrappingKeys: z.string(), port: z.number().int() })

export interface LocalEms {
  /** Origin, like https://localhost:8443. */
  readonly address: string
  readonly tlsCaPem: string
  /** Certificate and key for *.sallyport.localhost, for local services that a browser opens. */
  readonly serviceTls: { readonly certificatePem: string; readonly privateKeyPem: string }
  readonly adminToken: string
  /** The database and objects, for tests and benchmarks that look behind the front door. */
  readonly miniflare: Miniflare
  /** Process ids of the runtime, for tests that kill it. */
  readonly runtime: readonly number[]
  close(): Promise<void>
}

/** The Worker with something around it, for benchmarks and tests of faults: an entry that exports all that the real one does, further objects by binding, further settings. */
export interface WorkerVariant { readonly entry?: string; readonly objects?: Readonly<Record<string, string>>; readonly settings?: Readonly<Record<string, string>> }

const toStandardError = (line: string): void => { process.stderr.write(line) }

/** Starts the EMS; resolves when it answers. Without a directory its data lives and dies with it. Port 0 picks a free one (kept with the data). What the Worker logs goes to `onLog`, else to standard error. */
export async function startEms(options: { directory?: string; port?: number; variant?: WorkerVariant; onLog?: (line: string) => void } = {}): Promise<LocalEms> {
  const directory = options.directory ?? await mkdtemp(join(tmpdir(), 'sallyport-ems-'))
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const secretsFile = join(directory, 'secrets.json')
  const kept = await readJson(secretsFile, secrets) ?? {
    adminToken: randomBytes(32).toString('base64url'), wrappingKeys: `k1:${randomBytes(32).toString('base64')}`, port: options.port || await freePort(),
  }
  const port = options.port || kept.port
  if (await freePort(port) !== port) throw new Error(`port ${port}, under which this EMS is known, is taken: another "npm start" may be running with ${directory}; --directory DIR begins another world`)
  await writeJson(secretsFile, { ...kept, port })
  const tls = await localTls(directory, Date.now())
  const address = `https://localhost:${port}`
  // Miniflare ends the process at a signal, before anybody has closed anything; closing is ours.
  const listeners = signals.map((name) => [name, new Set(process.listeners(name))] as const)
  const miniflare = new Miniflare(convertV4MiniflareOptions({
    name: 'sallyport', host: '127.0.0.1', port, httpsKey: tls.privateKeyPem, httpsCert: tls.certificatePem,
    modules: [{ type: 'ESModule', path: 'index.js', contents: await bundleWorker(options.variant?.entry) }],
    compatibilityDate: '2026-10-01', compatibilityFlags: ['nodejs_compat'],
    d1Databases: { DB: 'sallyport' }, resourcePersistencePath: join(directory, 'data'),
    durableObjects: {
      FCM_NOTIFY: { className: 'FcmNotify', useSQLite: true },
      ENDPOINT_CHANNEL: { className: 'EndpointChannel', useSQLite: true },
      RE_EVALUATION: { className: 'ReEvaluation', useSQLite: true },
      ...Object.fromEntries(Object.entries(options.variant?.objects ?? {}).map(([binding, className]) => [binding, { className, useSQLite: true }])),
    },
    bindings: { ADMIN_TOKEN: kept.adminToken, WRAPPING_KEYS: kept.wrappingKeys, PUBLIC_ORIGIN: address, ...options.variant?.settings },
    log: new Log(LogLevel.ERROR),
    // What a program prints for machines is on standard output: the Worker's log must not fall in between.
    handleStructuredLogs: ({ message }) => (options.onLog ?? toStandardError)(`${message}\n`),
  }))
  for (const [name, own] of listeners) for (const listener of process.listeners(name)) if (!own.has(listener)) process.off(name, listener)
  await miniflare.ready
  const runtime = childrenNamed('workerd', `=127.0.0.1:${port}\0`)
  const unleash = leash(runtime, 'workerd')
  await migrate(miniflare)
  return {
    address, tlsCaPem: tls.caPem, serviceTls: tls, adminToken: kept.adminToken, miniflare, runtime,
    close: async () => {
      await miniflare.dispose()
      unleash()
      if (options.directory === undefined) await rm(directory, { recursive: true, force: true })
    },
  }
}

/** Applies the migrations that this database has not seen, each in one transaction. */
async function migrate(miniflare: Miniflare): Promise<void> {
  const database = await miniflare.getD1Database('DB')
  await database.prepare('CREATE TABLE IF NOT EXISTS d1_migrations (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)').run()
  const done = new Set((await database.prepare('SELECT name FROM d1_migrations').all<{ name: string }>()).results.map((row) => row.name))
  for (const name of (await readdir(migrations)).filter((file) => file.endsWith('.sql')).sort()) {
    if (done.has(name)) continue
    const statements = (await readFile(join(migrations, name), 'utf8')).split('--> statement-breakpoint')
    await database.batch([...statements.map((sql) => database.prepare(sql)), database.prepare('INSERT INTO d1_migrations (name) VALUES (?)').bind(name)])
  }
}
