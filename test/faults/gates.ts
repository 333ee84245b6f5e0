// Gateways of the fault tests: one is a process of its own that can be killed, one runs in this process with a clock that can be set.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readMembership } from '../../gateway/fabric/membership.ts'
import { startGateway, type Gateway } from '../../gateway/start.ts'
import { silentLog } from '../../node/logging.ts'
import { freePort } from '../../start/free-port.ts'
import { until } from '../../start/steps.ts'

export interface Gate {
  readonly name: string
  readonly port: number
  serial(): string
  start(): Promise<void>
  /** Ends it where it stands. */
  kill(): Promise<void>
  /** ms that its clock is ahead from now on. */
  setClock(aheadMs: number): void
}
interface Where { readonly directory: string; readonly name: string; readonly policies: string; readonly joinCode: string; readonly tlsCaFile: string; readonly tlsCaPem: string }

/** When gateways ask, having no websocket. */
export const POLL = { afterMs: 2_000, everyMs: 1_000 }
const program = fileURLToPath(new URL('../../gateway/main.ts', import.meta.url))
const stateOf = ({ directory, name }: Where) => join(directory, name)
const serialIn = async (where: Where): Promise<string> => await until('the gateway to have joined', async () => (await readMembership(stateOf(where)))?.serial ?? null, 60_000)

async function files(where: Where): Promise<{ policiesFile: string; codeFile: string }> {
  const [policiesFile, codeFile] = [join(where.directory, `${where.name}.yaml`), join(where.directory, `${where.name}.code`)]
  await writeFile(policiesFile, where.policies)
  await writeFile(codeFile, where.joinCode)
  return { policiesFile, codeFile }
}

/** A gateway as its administrator runs it. */
export async function processGate(where: Where): Promise<Gate> {
  const { policiesFile, codeFile } = await files(where)
  const [port, metricsPort] = [await freePort(), await freePort()]
  let child: ChildProcess | null = null
  let serial = ''
  return {
    name: where.name, port, serial: () => serial,
    async start() {
      child = spawn(process.execPath, [program, 'run', '--state', stateOf(where), '--policies', policiesFile, '--listen', `127.0.0.1:${port}`, '--metrics-port', String(metricsPort), '--join-code-file', codeFile, '--tls-ca', where.tlsCaFile,
        '--poll-after', String(POLL.afterMs / 1_000), '--poll-every', String(POLL.everyMs / 1_000)], {
        stdio: ['ignore', 'ignore', 'ignore'],
      })
      serial = await serialIn(where)
    },
    async kill() {
      if (child === null) return
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
      child = null
    },
    setClock: () => {},
  }
}

/** A gateway in this process; killed is closed, for its memory can't be taken away. */
export async function insideGate(where: Where): Promise<Gate> {
  const { policiesFile } = await files(where)
  const port = await freePort()
  let ahead = 0
  let gateway: Gateway | null = null
  let serial = ''
  return {
    name: where.name, port, serial: () => serial,
    async start() {
      gateway = await startGateway({
        stateDirectory: stateOf(where), policiesFile, listen: { host: '127.0.0.1', port }, metricsPort: 0, joinCode: where.joinCode, tlsCa: [where.tlsCaPem], poll: POLL,
        now: () => Date.now() + ahead, log: silentLog(),
      })
      serial = gateway.serial
    },
    async kill() {
      await gateway?.close()
      gateway = null
    },
    setClock(aheadMs) { ahead = aheadMs },
  }
}
