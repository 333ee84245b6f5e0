// `npm run bench:gateway`: the gateway beside the haproxy and nginx that Debian ships, the same work in the same run, by CPU spent per unit of work.
import { execFile, fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { createAuthority } from '../identity/authority.ts'
import { readArguments, UsageError } from '../node/config.ts'
import { nodeFlags } from '../gateway/node-flags.ts'
import { gatewayTlsName } from '../protocol/certificates.ts'
import { table, type Figure, type Progress } from './figures.ts'
import { issue } from './issue.ts'
import { createClient, type Client, type Credentials } from './race/clients.ts'
import type { Column, RaceGateSetting } from './race/gate.ts'
import { peerNames, startPeer, type PeerFiles, type PeerName } from './race/peers.ts'
import { cpuMicros, memoryBytes } from './race/process-cost.ts'
import { memoryFigures, raceFigures, type Sample } from './race/result.ts'
import type { SourcePorts } from './race/source.ts'
import { idleTunnels, p50, p99, works, type Work } from './race/works.ts'
import { within } from './within.ts'

const SERIAL = 'SPGW0123456789AB'
const UID = '0'.repeat(32)
/** Devices that may pass, beside the one that does. */
const KNOWN = 1_000
const WARM_UPS = Math.max(...works.map(({ warmUps = 1 }) => warmUps))
const run = promisify(execFile)
const help = `Usage: npm run bench:gateway -- [--json] [--processes N] [--rounds N] [--only PART] [--column bare|full] [--memory]

Races the gateway against haproxy and nginx (Debian packages: haproxy, nginx, libnginx-mod-stream) over mutual TLS 1.3 on loopback.
Each proxy has the first core for itself while it is measured, the clients and the service behind it the second.

value is what the gateway spends (median), floor what the better peer spends, ratio the median over all rounds of ours over the better peer's in that round:
below 1 is better than both. A goal is met when the median is under it. bare: nothing is written down; full: 100 policies, posture, log, audit and metrics,
for the peers a list of 1,000 devices and their log.

  --processes N  fresh processes of each proxy; 5 unless said
  --rounds N     rounds with each; 3 unless said
  --only PART    works whose name has PART in it
  --column NAME  bare or full; both unless said
  --memory       memory of idle tunnels too (10,000 by HTTP/2, 5,000 by HTTP/1.1)
  --json         one JSON line per figure: {bench, metric, value, unit, floor?, ratio?, goal?, ok?}

Example:
  npm run bench:gateway -- --processes 1 --rounds 1 --only down

Exit code: 0 it ran, also when a goal was missed; 1 it broke; 2 wrong usage.
`

interface Pinned { readonly child: ChildProcess; readonly said: unknown; /** Settled when it has ended. */ readonly ended: Promise<unknown> }
/** Forks a module onto a core and waits for its first word. */
async function forkOn(core: number, module: string, setting?: object): Promise<Pinned> {
  const child = fork(new URL(`race/${module}.ts`, import.meta.url), { stdio: ['ignore', 'ignore', 'inherit', 'ipc'], serialization: 'json', execArgv: module === 'gate' ? [...nodeFlags] : [] })
  await run('taskset', ['-a', '-cp', String(core), String(child.pid)])
  const heard = once(child, 'message')
  if (setting !== undefined) child.send(setting)
  const ended = once(child, 'exit')
  const [said] = await within(`the first word of ${module}`, Promise.race([heard, ended.then(() => Promise.reject(new Error(`${module} ended before its first word`)))])) as [unknown]
  return { child, said, ended }
}

interface Runner { readonly name: string; readonly pid: number; readonly clients: Readonly<Record<Work['over'], Client>>; stop(): Promise<void> }

async function measure(work: Work, runner: Runner): Promise<Sample[]> {
  const ours = runner.name === 'gateway'
  const way = ours ? work.way : 'tls'
  const before = await cpuMicros(runner.pid)
  const { units, latencies } = await work.run(runner.clients[work.over], way)
  const micros = await cpuMicros(runner.pid) - before
  const sample = (work_: string, value: number): Sample => ({ work: work_, runner: runner.name, value })
  if (latencies !== undefined) return [sample(`${work.name}-p50`, p50(latencies)), sample(`${work.name}-p99`, p99(latencies))]
  return [sample(work.name, (work.unit === 'CPU-s/GiB' ? micros / 1e6 : micros) / units)]
}

async function race({ processes, rounds, only, columns, memory, progress }: { processes: number; rounds: number; only: string; columns: readonly Column[]; memory: boolean; progress: Progress }): Promise<Figure[]> {
  const directory = await mkdtemp(join(tmpdir(), 'race-'))
  const file = async (name: string, text: string) => {
    await writeFile(join(directory, name), text, { mode: 0o600 })
    return join(directory, name)
  }
  const authority = await createAuthority({ name: 'Benchmark CA', now: Date.now() })
  const [own, device] = [await issue(authority, SERIAL, 'gateway'), await issue(authority, UID, 'agent')]
  const others = Array.from({ length: KNOWN }, (_, n) => ({ uid: (n + 1).toString(16).padStart(32, '0'), serial: (n + 1).toString(16).padStart(40, '0'), notAfter: device.notAfter }))
  const files: PeerFiles = {
    directory, certificate: await file('server.pem', own.cert), key: await file('server.key', own.key), both: await file('both.pem', `${own.cert}\n${own.key}`), authority: await file('ca.pem', authority.certificatePem),
    allowed: [UID, ...others.map(({ uid }) => uid)],
  }
  const credentials: Credentials = { authority: authority.certificatePem, cert: device.cert, key: device.key, servername: gatewayTlsName(SERIAL) }
  const source = await forkOn(1, 'source')
  const ports = source.said as SourcePorts
  await run('taskset', ['-a', '-cp', '1', String(process.pid)])
  const startGate = async (column: Column): Promise<Runner> => {
    const setting: RaceGateSetting = { column, directory, serial: SERIAL, authority: authority.certificatePem, own: { certPem: own.cert, keyPem: own.key }, source: ports, devices: [{ uid: UID, serial: device.serial, notAfter: device.notAfter }, ...others] }
    const { child, said, ended } = await forkOn(0, 'gate', setting)
    const client = createClient((said as { port: number }).port, credentials)
    return { name: 'gateway', pid: child.pid ?? 0, clients: { tcp: client, https: client }, async stop() {
      child.kill('SIGKILL')
      await ended
    } }
  }
  const startOne = async (name: PeerName, column: Column): Promise<Runner> => {
    const peer = await startPeer(name, files, ports, column)
    return { name, pid: peer.pid, clients: { tcp: createClient(peer.tcp, credentials), https: createClient(peer.https, credentials) }, stop: () => peer.stop() }
  }
  /** Starts everybody, and stops them again whatever comes. */
  const withRunners = async (column: Column, use: (runners: readonly Runner[]) => Promise<void>) => {
    const runners: Runner[] = []
    try {
      for (const name of peerNames) runners.push(await startOne(name, column))
      runners.push(await startGate(column))
      await use(runners)
    } finally {
      for (const runner of runners) await runner.stop()
    }
  }
  const chosen = works.filter(({ name }) => name.includes(only))
  // Peers do not open streams on a connection: their answer to it is a new connection, measured in the same round.
  const wanted = works.filter((work) => chosen.includes(work) || chosen.some(({ against }) => against === work.name))
  const figures: Figure[] = []
  try {
    for (const column of columns) {
      const roundsOf: Sample[][] = []
      for (let n = 0; n < processes; n++) {
        await withRunners(column, async (runners) => {
          for (let round = 1 - WARM_UPS; round <= rounds; round++) {
            progress(`gateway (${column}): process ${n + 1} of ${processes}, ${round < 1 ? 'warming up' : `round ${round} of ${rounds}`}`)
            const samples: Sample[] = []
            for (const [at, work] of wanted.entries()) {
              if (round <= -(work.warmUps ?? 1)) continue
              for (let turn = 0; turn < runners.length; turn++) {
                const runner = runners[(turn + round + WARM_UPS + at) % runners.length]
                if (runner !== undefined && (runner.name === 'gateway' || work.against === undefined)) samples.push(...await measure(work, runner))
              }
            }
            if (round > 0) roundsOf.push(samples)
          }
        })
      }
      figures.push(...raceFigures(chosen, roundsOf, column))
    }
    if (memory) {
      const samples: Sample[] = []
      for (const [way, count] of [['http2', 10_000], ['http1', 5_000], ['tls', 5_000]] as const) {
        await withRunners('full', async (runners) => {
          for (const runner of runners) {
            if ((runner.name === 'gateway') === (way === 'tls')) continue
            progress(`gateway: ${count} idle tunnels by ${way}, ${runner.name}`)
            const close = await idleTunnels(runner.clients.tcp, way, 100)
            const before = await memoryBytes(runner.pid)
            const closeMore = await idleTunnels(runner.clients.tcp, way, count)
            samples.push({ work: `idle-tunnel-${way}`, runner: runner.name, value: (await memoryBytes(runner.pid) - before) / count / 1024 })
            close()
            closeMore()
          }
        })
      }
      figures.push(...memoryFigures(samples))
    }
    return figures
  } finally {
    source.child.kill()
    await rm(directory, { recursive: true, force: true })
  }
}

async function main(argv: string[]): Promise<void> {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean' } as const
  const { values } = readArguments(argv, { json: flag, help: { ...flag, short: 'h' }, memory: flag, processes: text, rounds: text, only: text, column: text })
  if (values.help === true) {
    process.stdout.write(help)
    return
  }
  const count = (name: string, given: string | undefined, otherwise: number) => {
    const read = Number(given ?? otherwise)
    if (!Number.isInteger(read) || read < 1 || read > 100) throw new UsageError(`--${name} takes a number from 1 to 100, not "${given ?? ''}"`)
    return read
  }
  const { only = '', column } = values
  if (column !== undefined && column !== 'bare' && column !== 'full') throw new UsageError(`--column takes bare or full, not "${column}"`)
  if (!works.some(({ name }) => name.includes(only))) throw new UsageError(`--only takes a part of ${works.map(({ name }) => name).join(', ')}, not "${only}"`)
  const missing = (await Promise.all(['haproxy', 'nginx', 'taskset'].map(async (name) => run('sh', ['-c', `command -v ${name}`]).then(() => [], () => [name])))).flat()
  if (missing.length > 0) throw new UsageError(`Not on this machine: ${missing.join(', ')}. Debian: apt-get install haproxy nginx libnginx-mod-stream util-linux`)
  const figures = await race({
    processes: count('processes', values.processes, 5), rounds: count('rounds', values.rounds, 3), only, columns: column === undefined ? ['bare', 'full'] : [column], memory: values.memory === true,
    progress: (sentence) => process.stderr.write(`${sentence}\n`),
  })
  process.stdout.write(values.json === true ? figures.map((figure) => `${JSON.stringify(figure)}\n`).join('') : table(figures))
}

try {
  await main(process.argv.slice(2))
} catch (cause) {
  process.exitCode = cause instanceof UsageError ? 2 : 1
  process.stderr.write(cause instanceof UsageError ? `${cause.message}\n\n${help}` : `The benchmark broke: ${cause instanceof Error ? cause.stack ?? cause.message : String(cause)}\n`)
}
