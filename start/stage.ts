// Everything on this machine, started in order and closed in the opposite one: EMS, services, gateway, configuration, agent.
import { createWriteStream } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { enrolAgent } from '../agent/enrol.ts'
import { readIdentity } from '../agent/certificates/identity-store.ts'
import { startAgent, type AgentEvent, type RunningAgent } from '../agent/start.ts'
import { readMembership } from '../gateway/fabric/membership.ts'
import { startGateway, type Gateway } from '../gateway/start.ts'
import { createControlClient, type ControlClient } from '../node/control-client.ts'
import { readPrivateFile } from '../node/key-store.ts'
import { createLog, type Log } from '../node/logging.ts'
import { createInvitation, createJoinCode } from '../protocol/operations/admin.ts'
import { configure, GROUP, isGenerated, policiesText } from './configuration.ts'
import { startEms, type LocalEms } from './ems.ts'
import { startServices } from './services.ts'
import { choosePorts, type Ports } from './settings.ts'
import type { Steps } from './steps.ts'

export interface Stage {
  readonly ems: LocalEms
  readonly client: ControlClient
  readonly gateway: Gateway
  readonly agent: RunningAgent
  readonly ports: Ports
  readonly files: Files
  /** Tells of each event of the agent; returns how to stop listening. */
  onAgentEvent(listener: (event: AgentEvent) => void): () => void
  close(): Promise<void>
}

const filesIn = (directory: string) => ({
  directory, agent: join(directory, 'agent'), gateway: join(directory, 'gateway'), policies: join(directory, 'policies.yaml'),
  /** The file that stands for "protection is on": what the loop takes away and puts back. */
  watched: join(directory, 'protection-is-on'),
})
type Files = ReturnType<typeof filesIn>

/** One file for each program, of this start only. */
function logFile(directory: string, name: string, closing: (() => Promise<void>)[]): { write(line: string): void } {
  const stream = createWriteStream(join(directory, `${name}.log`), { flags: 'w', mode: 0o600 })
  stream.on('error', (error) => process.stderr.write(`the log of ${name} can not be written: ${error.message}\n`))
  closing.push(() => new Promise((resolve) => { stream.end(resolve) }))
  // A connection may end, and say so, after the program that held it has closed.
  return { write(line) { if (!stream.writableEnded) stream.write(line) } }
}
const logTo = (directory: string, name: string, closing: (() => Promise<void>)[]): Log => createLog({ name, destination: logFile(directory, name, closing) })

const settled = async (event: Promise<unknown>, sentence: string, limitMs: number): Promise<void> => {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error(sentence)), limitMs)
  await Promise.race([event, promise]).finally(() => clearTimeout(timer))
}

/** Starts all of it. What was started is closed again when a later part fails or `stopping` is aborted. */
export async function startStage({ directory, port, steps: { step }, stopping }: { directory: string; port: number; steps: Steps; stopping: AbortSignal }): Promise<Stage> {
  const files = filesIn(directory)
  const closing: (() => Promise<void>)[] = []
  const close = async () => {
    for (const each of closing.splice(0).reverse()) await each()
  }
  const now = Date.now
  const go = () => stopping.throwIfAborted()
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 })
    const emsLog = logFile(directory, 'ems', closing)
    const ems = await step('ems', 'the EMS answers over HTTPS', () => startEms({ directory, port, onLog: emsLog.write }), ({ address }) => address)
    closing.push(() => ems.close())
    const log = logTo(directory, 'start', closing)
    const client = createControlClient({ ems: ems.address, token: ems.adminToken, tlsCa: [ems.tlsCaPem], now, log })
    closing.push(() => client.close())
    go()

    const ports = await choosePorts(directory)
    const services = await step('services', 'two services run that only the gateway reaches', () => startServices({ http: ports.intranet, tcp: ports.ledger }), () => `HTTP and TCP`)
    closing.push(() => services.close())
    if (isGenerated(await readPrivateFile(files.policies))) await writeFile(files.policies, policiesText(ports), { mode: 0o600 })
    go()

    const current = Promise.withResolvers<void>()
    const gateway = await step('gateway', 'the gateway is a member of the fabric and follows FcmNotify', async () => {
      const joined = await readMembership(files.gateway) !== null
      const joinCode = joined ? null : (await client.call(createJoinCode, { body: { name: 'this machine' } })).text
      const started = await startGateway({
        stateDirectory: files.gateway, policiesFile: files.policies, listen: { host: '127.0.0.1', port: ports.gateway }, metricsPort: ports.metrics,
        joinCode, displayName: 'this machine', tlsCa: [ems.tlsCaPem], now, log: logTo(directory, 'gateway', closing),
        onEvent: ({ event }) => { if (event === 'current') current.resolve() },
      })
      closing.push(() => started.close())
      await settled(current.promise, `the EMS does not speak to the gateway; ${directory}/gateway.log may say why`, 15_000)
      return started
    }, ({ serial, port: at }) => `${serial}, 127.0.0.1:${at}`)
    go()

    await writeFile(files.watched, 'Take this file away, and this machine is healthy no longer.\n')
    await step('configuration', 'a tagging rule, a profile and an endpoint policy are set', () => configure(client, {
      watchedFile: files.watched, gateway: { serial: gateway.serial, port: gateway.port }, proxy: { httpPort: ports.httpProxy, socksPort: ports.socksProxy },
    }))
    go()

    const listeners = new Set<(event: AgentEvent) => void>()
    const agentLog = logTo(directory, 'agent', closing)
    const run = async () => {
      if (await readIdentity(files.agent) === null) {
        const { text } = await client.call(createInvitation, { body: { name: 'this machine', group: GROUP } })
        await enrolAgent({ invitation: text, stateDirectory: files.agent, tlsCa: [ems.tlsCaPem], ownerUid: process.getuid?.() ?? 0, now, log: agentLog })
      }
      const started = await startAgent({ stateDirectory: files.agent, log: agentLog, now, onEvent: (event) => { for (const listener of listeners) listener(event) } })
      closing.push(() => started.close())
      return started
    }
    const agent = await step('agent', 'this machine is enrolled and its agent runs', run, ({ uid }) => uid)
    return {
      ems, client, gateway, agent, ports, files, close,
      onAgentEvent(listener) {
        listeners.add(listener)
        return () => { listeners.delete(listener) }
      },
    }
  } catch (cause) {
    await close()
    throw cause
  }
}
