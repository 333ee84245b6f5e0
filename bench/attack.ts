// Strangers at the rate of an attack, against the real gateway in a process of its own, while a device goes on: what it costs the device, and what the gateway's memory does.
import { execFile, fork, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { nodeFlags } from '../gateway/node-flags.ts'
import { gatewayTlsName } from '../protocol/certificates.ts'
import { createJoinCode } from '../protocol/operations/admin.ts'
import { freePort } from '../start/free-port.ts'
import { until } from '../start/steps.ts'
import { openHonest, PLACE, type HonestSetting, type HonestTimes } from './attack-honest.ts'
import type { AttackCounts, AttackSetting } from './attack-source.ts'
import { startEcho } from './echo.ts'
import { alone, beside, percentile, type Figure, type Progress } from './figures.ts'
import { cpuMicros, memoryBytes } from './race/process-cost.ts'
import { openStage, ruleSet, type Stage } from './stage.ts'
import { within } from './within.ts'

const BENCH = 'attack'
const MIB = 2 ** 20
/** The 2,048 strangers that are held at once take 100 KiB each, and the heap some more for what passes through. */
const MOST_GROWTH_MIB = 256
/** What is calm is known sooner. */
const CALM_SECONDS = 30
const QUIET_MS = 10_000
const run = promisify(execFile)

const policies = (echoPort: number) => {
  const [host, port] = PLACE.split(':')
  return `services: [{name: echo, protocol: tcp, match: [${host ?? ''}], ports: [${port ?? ''}], upstream: "127.0.0.1:${echoPort}", addresses: [127.0.0.1]}]\npolicies: [{name: guarded devices, services: [echo], tags: {all: [${ruleSet.tag}]}, action: allow}]\n`
}
/** The gateway has the first core where there are two; whoever else is in the play shares the others. */
const pin = async (pid: number, core: 'first' | 'others') => {
  const cores = availableParallelism()
  if (cores > 1) await run('taskset', ['-a', '-cp', core === 'first' ? '0' : `1-${cores - 1}`, String(pid)])
}

interface RunningGateway { readonly pid: number; readonly port: number; readonly serial: string; /** The sum of a metric's samples that have this in their labels. */ metric(name: string, label?: string): Promise<number>; stop(): Promise<void> }
/** `gateway run`, as a user starts it. */
async function startGatewayProcess(stage: Stage, directory: string, echoPort: number): Promise<RunningGateway> {
  const file = async (name: string, text: string) => {
    await writeFile(join(directory, name), text, { mode: 0o600 })
    return join(directory, name)
  }
  const { text } = await stage.administrator.call(createJoinCode, { body: { name: 'attacked' } })
  const metricsPort = await freePort()
  const child = spawn(process.execPath, [
    ...nodeFlags, fileURLToPath(new URL('../gateway/main.ts', import.meta.url)), 'run', '--state', join(directory, 'state'), '--policies', await file('policies.yaml', policies(echoPort)),
    '--listen', '127.0.0.1:0', '--metrics-port', String(metricsPort), '--join-code-file', await file('join-code', text), '--tls-ca', await file('tls-ca.pem', stage.ems.tlsCaPem), '--drain', '0',
  ], { stdio: ['ignore', 'ignore', 'pipe'] })
  const ended = once(child, 'exit')
  const serving = Promise.withResolvers<{ port: number; serial: string }>()
  createInterface({ input: child.stderr }).on('line', (line) => {
    if (line.includes('"event":"serving"')) serving.resolve(JSON.parse(line) as { port: number; serial: string })
  })
  const { port, serial } = await within('a gateway that serves', Promise.race([serving.promise, ended.then(() => Promise.reject(new Error('the gateway ended before it served')))]), 60_000)
  await pin(child.pid ?? 0, 'first')
  return {
    pid: child.pid ?? 0, port, serial,
    async metric(name, label = '') {
      const told = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text()
      return told.split('\n').filter((line) => line.startsWith(name) && line.includes(label)).reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0)
    },
    async stop() {
      child.kill('SIGTERM')
      await ended
    },
  }
}

interface Source { readonly child: ChildProcess; stop(): Promise<AttackCounts> }
async function startSource(setting: AttackSetting): Promise<Source> {
  const child = fork(new URL('attack-source.ts', import.meta.url), { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  await within('a source of strangers', once(child, 'message'))
  await pin(child.pid ?? 0, 'others')
  child.send(setting)
  return { child, async stop() {
    const told = once(child, 'message')
    child.send('stop')
    return (await within('the counts of a source', told))[0] as AttackCounts
  } }
}
const aMinute = (counts: AttackCounts, name: 'begun' | 'made'): number => counts[name] / counts.seconds * 60

/** Looks at the memory every two seconds: the kernel walks every page for it. @returns ends it, with what was seen */
function watchMemory(pid: number): () => Promise<number[]> {
  const seen: number[] = []
  const look = async () => {
    seen.push(await memoryBytes(pid))
  }
  let looking = look()
  const timer = setInterval(() => {
    looking = look()
  }, 2_000)
  return async () => {
    clearInterval(timer)
    await looking
    return seen
  }
}

/** Handshakes that were finished, and those that never were. */
const ended = (gateway: RunningGateway) => gateway.metric('sallyport_tls_handshakes_total{')
const refusals = (gateway: RunningGateway) => gateway.metric('sallyport_decisions_total', 'reason="no-certificate"')
const kinds = ['echo', 'new-tunnel', 'new-connection'] as const
const latencies = (calm: HonestTimes, attacked: HonestTimes): Figure[] => kinds.flatMap((kind) => [0.5, 0.99].map((share) =>
  beside(BENCH, `honest-${kind}-p${share * 100}`, 'ms', percentile(attacked[kind], share), percentile(calm[kind], share))))

/**
 * Calm, then both kinds of strangers at once, then quiet.
 * @param handshakes TLS handshakes a minute
 * @param connects bare TCP connections a minute
 */
export async function benchAttack({ seconds = 60, handshakes = 20_000, connects = 100_000, quietMs = QUIET_MS, progress }: { seconds?: number; handshakes?: number; connects?: number; quietMs?: number; progress: Progress }): Promise<Figure[]> {
  const directory = await mkdtemp(join(tmpdir(), 'attack-'))
  const closing: (() => Promise<unknown> | void)[] = [() => rm(directory, { recursive: true, force: true })]
  try {
    progress(`${BENCH}: an EMS, a gateway, a device`)
    await pin(process.pid, 'others')
    const echo = await startEcho()
    const stage = await openStage()
    closing.push(() => echo.close(), () => stage.close())
    const device = await stage.newDevice()
    const gateway = await startGatewayProcess(stage, directory, echo.port)
    closing.push(() => gateway.stop())
    const servername = gatewayTlsName(gateway.serial)
    const setting: HonestSetting = { port: gateway.port, authority: stage.authorityPem, cert: device.credentials.certificatePem, key: device.credentials.privateKeyPem, servername }
    const honest = await until('a tunnel of the device', () => openHonest(setting), 30_000)
    closing.push(() => honest.close())
    await honest.work(2_000)
    progress(`${BENCH}: calm`)
    const calm = await honest.work(Math.min(seconds, CALM_SECONDS) * 1_000)
    const before = await memoryBytes(gateway.pid)
    const [endedBefore, refusedBefore] = [await ended(gateway), await refusals(gateway)]

    progress(`${BENCH}: ${handshakes} handshakes and ${connects} connections a minute, for ${seconds} s`)
    const seen = watchMemory(gateway.pid)
    closing.push(seen)
    const [cpu, began] = [await cpuMicros(gateway.pid), performance.now()]
    const common = { port: gateway.port, servername, authority: stage.authorityPem }
    const [tls, tcp] = [await startSource({ kind: 'tls', perSecond: handshakes / 60, ...common }), await startSource({ kind: 'tcp', perSecond: connects / 60, ...common })]
    const attacked = await honest.work(seconds * 1_000)
    const strangers = await gateway.metric('sallyport_unproved_connections')
    const [memory, [byTls, byTcp]] = [await seen(), await Promise.all([tls.stop(), tcp.stop()])]
    const share = (await cpuMicros(gateway.pid) - cpu) / 1e3 / (performance.now() - began)

    progress(`${BENCH}: quiet`)
    await new Promise((resolve) => setTimeout(resolve, quietMs))
    const [peak, after] = [Math.max(...memory), await memoryBytes(gateway.pid)]
    const half = Math.ceil(memory.length / 2)
    const [seenByGateway, refused] = [await ended(gateway) - endedBefore, await refusals(gateway) - refusedBefore]
    const later = await honest.work(2_000)
    return [
      alone(BENCH, 'tls-begun-a-minute', 'handshakes', aMinute(byTls, 'begun')), alone(BENCH, 'tls-done-a-minute', 'handshakes', aMinute(byTls, 'made')), alone(BENCH, 'tcp-begun-a-minute', 'connections', aMinute(byTcp, 'begun')),
      alone(BENCH, 'ended-at-the-gateway-a-minute', 'connections', seenByGateway / byTcp.seconds * 60), alone(BENCH, 'strangers-not-begun', 'connections', byTls.late + byTcp.late),
      alone(BENCH, 'tunnels-asked-by-strangers', 'tunnels', byTls.asked), alone(BENCH, 'tunnels-refused-to-strangers', 'tunnels', byTls.refused), alone(BENCH, 'tunnels-opened-by-strangers', 'tunnels', byTls.opened, 0), alone(BENCH, 'decisions-no-certificate', 'decisions', refused),
      alone(BENCH, 'strangers-held-at-the-end', 'connections', strangers, 2_048),
      ...latencies(calm, attacked), alone(BENCH, 'honest-failures', 'failures', attacked.failures + later.failures, 0),
      alone(BENCH, 'gateway-cpu', 'cores', share), alone(BENCH, 'memory-calm', 'MiB', before / MIB), alone(BENCH, 'memory-most', 'MiB', peak / MIB), alone(BENCH, 'memory-growth', 'MiB', (peak - before) / MIB, MOST_GROWTH_MIB),
      beside(BENCH, 'memory-second-half', 'MiB', Math.max(...memory.slice(half - 1)) / MIB, Math.max(...memory.slice(0, half)) / MIB, 1.2), alone(BENCH, 'memory-after', 'MiB', after / MIB),
    ]
  } finally {
    for (const close of closing.reverse()) await close()
  }
}
