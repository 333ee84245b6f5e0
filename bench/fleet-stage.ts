// Where the fleet plays: the EMS in a directory, gateways that have joined, one real device whose tag flips, and everybody else written straight into D1.
import { join } from 'node:path'
import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { WebSocket } from 'ws'
import { conditionKey } from '../domain/tagging/condition-key.ts'
import { createControlClient, type ControlClient } from '../node/control-client.ts'
import { silentLog } from '../node/logging.ts'
import * as administration from '../protocol/operations/admin.ts'
import { updateGateway } from '../protocol/operations/fabric.ts'
import { startEms, type LocalEms } from '../start/ems.ts'
import { until } from '../start/steps.ts'
import { enrolDevice, type Device } from './device.ts'
import { joinFleet } from './fleet-ear.ts'
import { fleetUids, NEW, OLD, seedFleet } from './fleet-seed.ts'
import type { Progress } from './figures.ts'
import { withoutHeartbeat } from './stage.ts'
import { FLOOR_SUBPROTOCOL, FLOOR_TABLE, floorSocket } from './floor/operations.ts'

const SETTLED_WITHIN_MS = 300_000
const condition = { type: 'running-process', negate: false, name: 'guard' }
const policies = `
services:
  - name: echo
    protocol: tcp
    match: [echo.bench]
    ports: [7000]
    upstream: 127.0.0.1:7
policies:
  - name: guarded devices
    services: [echo]
    tags: { all: [guarded] }
    action: allow
`
/** Which systems have the tag `recent`. */
const recentFrom = (version: string) => ({ name: 'recent', tag: 'recent', rules: { windows: { conditions: [{ type: 'os-version', negate: false, comparator: '>=', version }] } } })

export interface Place { readonly directory: string; readonly serial: string }
export interface Fleet {
  readonly ems: LocalEms
  readonly administrator: ControlClient
  readonly device: Device
  readonly places: readonly Place[]
  /** Ascending; the first `edit` have the old system. */
  readonly uids: readonly string[]
  readonly policiesFile: string
  readonly guarded: string
  readonly recent: string
  /** Writes the fleet into D1, and has each object load it. @returns ms of each load */
  seed(): Promise<number[]>
  /** The edit that gives the tag to the old systems too, or takes it back. */
  editRule(everybody: boolean): Promise<void>
  /** Resolves when every endpoint is worked out with the rules as they are. */
  settled(): Promise<void>
  close(): Promise<void>
}

/** Also of the run before the metered one: what it set an alarm for would come while that one counts. */
export const emsOf = (directory: string, metered: boolean): Promise<LocalEms> =>
  startEms({ directory: join(directory, 'ems'), variant: { entry: fileURLToPath(new URL(`worker/${metered ? 'metered' : 'index'}.ts`, import.meta.url)), objects: { FLOOR: 'FloorObject' }, settings: withoutHeartbeat } })
export const administratorOf = ({ address, adminToken, tlsCaPem }: LocalEms): ControlClient =>
  createControlClient({ ems: address, token: adminToken, tlsCa: [tlsCaPem], now: Date.now, log: silentLog(), timeoutMs: 120_000 })

/** Starts it, with an empty fleet. */
export async function openFleet(directory: string, { endpoints, gateways, edit, progress }: { endpoints: number; gateways: number; edit: number; progress: Progress }): Promise<Fleet> {
  const ems = await emsOf(directory, false)
  const database = await ems.miniflare.getD1Database('DB')
  await database.exec(FLOOR_TABLE)
  const administrator = administratorOf(ems)
  const { tagUid: guarded } = await administrator.call(administration.createRuleSet, { body: { name: 'guarded', tag: 'guarded', rules: { linux: { conditions: [condition] } } } })
  const { id, tagUid: recent } = await administrator.call(administration.createRuleSet, { body: recentFrom(NEW) })
  const { text: invitation } = await administrator.call(administration.createInvitation, { body: { name: 'bench', uses: 10 } })
  const device = await enrolDevice({ ems: ems.address, tlsCaPem: ems.tlsCaPem, invitation, conditionKey: conditionKey(condition) })
  await device.introduce()
  const settled = async () => {
    await until('rules that hold everywhere', async () => {
      const { revision, evaluatedRevision } = await administrator.call(administration.reEvaluation)
      return revision === evaluatedRevision ? true : null
    }, SETTLED_WITHIN_MS)
  }
  await settled()
  const places: Place[] = []
  for (let n = 0; n < gateways; n++) {
    const { text: joinCode } = await administrator.call(administration.createJoinCode, { body: { name: `gate ${n}` } })
    const place = join(directory, `gate-${n}`)
    places.push({ directory: place, serial: await joinFleet({ ems: ems.address, tlsCaPem: ems.tlsCaPem, directory: place, joinCode }) })
  }
  const policiesFile = join(directory, 'policies.yaml')
  await writeFile(policiesFile, policies)
  const uids = fleetUids(endpoints)
  return {
    ems, administrator, device, places, uids, policiesFile, guarded, recent, settled,
    async seed() {
      progress(`fleet: ${endpoints} endpoints written into D1`)
      const { items } = await administrator.call(administration.listRuleSets, { query: {} })
      await seedFleet(database, { uids, edit, ruleSets: items, now: Date.now() })
      progress(`fleet: ${gateways} objects load them`)
      const loads: number[] = []
      for (const { serial } of places) {
        const began = performance.now()
        await administrator.call(updateGateway, { params: { sn: serial }, body: { share_mode: 1 } })
        loads.push(performance.now() - began)
      }
      return loads
    },
    editRule: async (everybody) => { await administrator.call(administration.replaceRuleSet, { params: { id }, body: recentFrom(everybody ? OLD : NEW) }) },
    async close() {
      await device.close()
      await administrator.close()
      await ems.close()
    },
  }
}

/** Sockets of the floor, one an object. */
export async function openFloorFan({ address, tlsCaPem }: LocalEms, count: number) {
  let waiting: { left: number; readonly ats: number[]; readonly done: (ats: number[]) => void } | null = null
  const sockets = await Promise.all(Array.from({ length: count }, (_, object) => new Promise<WebSocket>((resolve, reject) => {
    const socket = new WebSocket(`${address.replace(/^https/, 'wss')}${floorSocket.path}?object=${object}`, FLOOR_SUBPROTOCOL, { ca: tlsCaPem, perMessageDeflate: false })
    socket.once('open', () => { resolve(socket) })
    socket.on('error', reject)
    socket.on('message', () => {
      if (waiting === null) return
      waiting.ats.push(performance.now())
      if (--waiting.left === 0) waiting.done(waiting.ats)
    })
  })))
  return {
    /** performance.now() at which each of the first `left` sockets heard the next frame. */
    next: (left: number) => new Promise<number[]>((resolve) => { waiting = { left, ats: [], done: resolve } }),
    close() { for (const socket of sockets) socket.close() },
  }
}
