// The world of the fault tests: EMS, what stands in front of it, gateways and laptops, and the comparison of what gateways do with what is true.
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Agent, request } from 'undici'
import { conditionKey } from '../../domain/tagging/condition-key.ts'
import { createControlClient } from '../../node/control-client.ts'
import { silentLog } from '../../node/logging.ts'
import * as administration from '../../protocol/operations/admin.ts'
import { downloadAuthorities } from '../../protocol/operations/fabric.ts'
import { startEcho } from '../../bench/echo.ts'
import { openSession, type Session } from '../../bench/session.ts'
import { startEms } from '../../start/ems.ts'
import { until } from '../../start/steps.ts'
import { localTls } from '../../start/local-tls.ts'
import { startFront, type Front } from './front.ts'
import { insideGate, processGate, type Gate } from './gates.ts'
import { startLaptop, type Laptop } from './laptop.ts'

const condition = { type: 'running-process', negate: false, name: 'guard' }
const TAG = 'guarded'
/** What gateways are told to do when the EMS is away. */
export const STALE_AFTER_MS = 6_000
/** How often an object reads the head of the log. */
export const CURRENT_EVERY_MS = 2_000
const policies = (port: number) => `
services:
  - { name: echo, protocol: tcp, match: [echo.bench], ports: [7000], upstream: "127.0.0.1:${port}", stale: { after: ${STALE_AFTER_MS / 1000} } }
policies:
  - { name: guarded devices, services: [echo], tags: { all: [${TAG}] }, action: allow }
`

export interface Held { readonly gate: Gate; readonly laptop: Laptop; readonly session: Session; ended: boolean }

export interface World {
  readonly front: Front
  readonly gates: readonly Gate[]
  readonly laptops: readonly Laptop[]
  readonly held: Held[]
  /** Sets what the database and pokes do. */
  weather(next: { database?: number; databaseMs?: number; pokesLost?: boolean; crashAfterFrame?: number; crash?: string }): Promise<void>
  /** Kills the runtime where it stands. */
  killEms(): Promise<void>
  startEms(): Promise<void>
  /** Keeps a copy of all data; the EMS must not run. */
  keepCopy(): Promise<void>
  restoreCopy(): Promise<void>
  /** Each gateway and laptop whose access is not what is true. */
  mismatches(): Promise<string[]>
  /** Opens sessions where there is none and one is allowed. */
  holdSessions(): Promise<void>
  close(): Promise<void>
}

export async function startWorld({ laptops: count, random, onDefect }: { laptops: number; random: () => number; onDefect: (cause: unknown) => void }): Promise<World> {
  const root = await mkdtemp(join(tmpdir(), 'sallyport-faults-'))
  const [directory, copy] = [join(root, 'ems'), join(root, 'copy')]
  const tls = await localTls(directory, Date.now())
  const front = await startFront(tls, random)
  const address = `https://localhost:${front.port}`
  const entry = fileURLToPath(new URL('../../bench/worker/faulty.ts', import.meta.url))
  const variant = { entry, settings: { PUBLIC_ORIGIN: address, CURRENT_EVERY_MS: String(CURRENT_EVERY_MS) } }
  let ems = await startEms({ directory, variant })
  front.lead(Number(new URL(ems.address).port))
  const start = async () => {
    ems = await startEms({ directory, variant })
  }
  const echo = await startEcho()
  const log = silentLog()
  const tlsCaFile = join(root, 'tls-ca.pem')
  await writeFile(tlsCaFile, tls.caPem)
  const dispatcher = new Agent({ connect: { ca: tls.caPem } })
  const client = createControlClient({ ems: address, token: ems.adminToken, tlsCa: [tls.caPem], now: Date.now, log })
  await client.call(administration.createRuleSet, { body: { name: TAG, tag: TAG, rules: { linux: { conditions: [condition] } } } })
  const { text: invitation } = await client.call(administration.createInvitation, { body: { name: 'fleet', uses: count } })
  const authorityPem = await client.call(downloadAuthorities, {})
  const gates: Gate[] = []
  for (const [name, make] of [['gate-1', processGate], ['gate-2', insideGate]] as const) {
    const { text: joinCode } = await client.call(administration.createJoinCode, { body: { name } })
    const gate = await make({ directory: root, name, policies: policies(echo.port), joinCode, tlsCaFile, tlsCaPem: tls.caPem })
    await gate.start()
    gates.push(gate)
  }
  const laptops: Laptop[] = []
  // Laptops speak to the EMS itself: what is between it and gateways is not theirs.
  for (let n = 0; n < count; n++) laptops.push(await startLaptop({ ems: ems.address, tlsCaPem: tls.caPem, invitation, conditionKey: conditionKey(condition), onDefect }))
  await Promise.all(laptops.map((laptop) => laptop.settled()))

  const held: Held[] = []
  const door = (gate: Gate) => ({ port: gate.port, serial: gate.serial(), authorityPem })
  const world: World = {
    front, gates, laptops, held,
    async weather(next) {
      const { statusCode, body } = await request(`${ems.address}/weather`, { method: 'POST', dispatcher, body: JSON.stringify(next) })
      await body.dump()
      if (statusCode !== 200) throw new Error(`the weather could not be set: ${statusCode}`)
    },
    async killEms() {
      for (const pid of ems.runtime) process.kill(pid, 'SIGKILL')
      await ems.close()
    },
    startEms: start,
    async keepCopy() {
      await ems.close()
      await cp(join(directory, 'data'), copy, { recursive: true })
      await start()
    },
    async restoreCopy() {
      await ems.close()
      await rm(join(directory, 'data'), { recursive: true })
      await cp(copy, join(directory, 'data'), { recursive: true })
      await start()
    },
    async mismatches() {
      const all = gates.flatMap((gate) => laptops.map(async (laptop) => {
        const opening = await openSession(door(gate), laptop.device)
        const allowed = laptop.healthy()
        if (opening.open) opening.session.end()
        if (opening.open === allowed) return []
        return [`${gate.name} ${opening.open ? 'lets through' : `refuses (${/\d{3} [a-z-]+ D/.exec(opening.answer)?.[0] ?? opening.answer.slice(0, 40)})`} ${laptop.device.uid.slice(0, 8)}, which is ${allowed ? '' : 'not '}healthy`]
      }))
      return (await Promise.all(all)).flat()
    },
    async holdSessions() {
      for (const gate of gates) {
        for (const laptop of laptops) {
          if (!laptop.healthy() || held.some((each) => each.gate === gate && each.laptop === laptop && !each.ended)) continue
          const opening = await openSession(door(gate), laptop.device)
          if (!opening.open) continue
          const each: Held = { gate, laptop, session: opening.session, ended: false }
          held.push(each)
          void opening.session.closed.then(() => { each.ended = true })
        }
      }
    },
    async close() {
      for (const laptop of laptops) await laptop.close()
      for (const gate of gates) await gate.kill()
      await client.close()
      await dispatcher.close()
      await front.close()
      await ems.close()
      await echo.close()
      await rm(root, { recursive: true, force: true, maxRetries: 10 })
    },
  }
  await until('a world in which all is as it is true', async () => ((await world.mismatches()).length === 0 ? true : null), 60_000, 50)
  return world
}
