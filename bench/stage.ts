// Where the benchmarks play: the real EMS over HTTPS, a rule, real gateways that joined by a code, and a service behind them.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { conditionKey } from '../domain/tagging/condition-key.ts'
import { startGateway, type Gateway } from '../gateway/start.ts'
import { createControlClient, type ControlClient } from '../node/control-client.ts'
import { silentLog } from '../node/logging.ts'
import * as administration from '../protocol/operations/admin.ts'
import { downloadAuthorities } from '../protocol/operations/fabric.ts'
import { startEms, type LocalEms } from '../start/ems.ts'
import { until } from '../start/steps.ts'
import { enrolDevice, type Device } from './device.ts'
import { startEcho } from './echo.ts'
import { FLOOR_TABLE } from './floor/operations.ts'

const condition = { type: 'running-process', negate: false, name: 'guard' }
export const ruleSet = { name: 'guarded', tag: 'guarded', rules: { linux: { conditions: [condition] } } }
const policies = (echoPort: number) => `
services:
  - name: echo
    protocol: tcp
    match: [echo.bench]
    ports: [7000]
    upstream: 127.0.0.1:${echoPort}
policies:
  - name: guarded devices
    services: [echo]
    tags: { all: [${ruleSet.tag}] }
    action: allow
`

/** An object that wakes by itself once a minute, to say that this is all, is no part of what is counted. */
export const withoutHeartbeat = { CURRENT_EVERY_MS: '3600000' }

/** A gateway and when it said `current`: in the same tick in which it swapped its snapshot and cut what lost its right. */
export interface Gate {
  readonly gateway: Gateway
  readonly stateDirectory: string
  /** performance.now() of each, ascending. */
  readonly currents: readonly number[]
  /** Resolves at the next `current`. */
  nextCurrent(): Promise<number>
}

export interface Stage {
  readonly ems: LocalEms
  readonly administrator: ControlClient
  readonly authorityPem: string
  readonly ruleSetId: string
  /** Enrols one that has reported nothing yet. */
  enrolDevice(): Promise<Device>
  /** One that has reported everything and has its tag. */
  newDevice(): Promise<Device>
  newGate(): Promise<Gate>
  close(): Promise<void>
}

/** Starts a stage. @param metered counts instead of being timed */
export async function openStage({ metered = false }: { metered?: boolean } = {}): Promise<Stage> {
  const directory = await mkdtemp(join(tmpdir(), 'sallyport-bench-'))
  const closing: (() => Promise<void>)[] = [() => rm(directory, { recursive: true, force: true })]
  const close = async () => {
    for (const each of closing.splice(0).reverse()) await each()
  }
  try {
    const entry = fileURLToPath(new URL(`worker/${metered ? 'metered' : 'index'}.ts`, import.meta.url))
    const ems = await startEms({ directory: join(directory, 'ems'), variant: { entry, objects: { FLOOR: 'FloorObject' }, ...(metered ? { settings: withoutHeartbeat } : {}) } })
    closing.push(() => ems.close())
    await (await ems.miniflare.getD1Database('DB')).exec(FLOOR_TABLE)
    const echo = await startEcho()
    closing.push(() => echo.close())
    const log = silentLog()
    const administrator = createControlClient({ ems: ems.address, token: ems.adminToken, tlsCa: [ems.tlsCaPem], now: Date.now, log })
    closing.push(() => administrator.close())
    const { id: ruleSetId } = await administrator.call(administration.createRuleSet, { body: ruleSet })
    const { text: invitation } = await administrator.call(administration.createInvitation, { body: { name: 'bench', uses: 1_000 } })
    const authorityPem = await administrator.call(downloadAuthorities, {})
    const enrol = async () => {
      const device = await enrolDevice({ ems: ems.address, tlsCaPem: ems.tlsCaPem, invitation, conditionKey: conditionKey(condition) })
      closing.push(() => device.close())
      return device
    }
    let gates = 0
    return {
      ems, administrator, authorityPem, ruleSetId, close,
      enrolDevice: enrol,
      async newDevice() {
        const device = await enrol()
        await device.introduce()
        return device
      },
      async newGate() {
        const place = join(directory, `gate-${++gates}`)
        const policiesFile = `${place}.yaml`
        await writeFile(policiesFile, policies(echo.port))
        const { text: joinCode } = await administrator.call(administration.createJoinCode, { body: { name: `gate ${gates}` } })
        const currents: number[] = []
        let heard = Promise.withResolvers<number>()
        const gateway = await startGateway({
          stateDirectory: place, policiesFile, listen: { host: '127.0.0.1', port: 0 }, metricsPort: 0, joinCode, tlsCa: [ems.tlsCaPem], now: Date.now, log,
          onEvent({ event }) {
            if (event !== 'current') return
            const at = performance.now()
            currents.push(at)
            heard.resolve(at)
            heard = Promise.withResolvers<number>()
          },
        })
        closing.push(() => gateway.close())
        await until('a gateway that is current', () => Promise.resolve(currents.length > 0 ? true : null))
        return { gateway, stateDirectory: place, currents, nextCurrent: () => heard.promise }
      },
    }
  } catch (cause) {
    await close()
    throw cause
  }
}
