// Our runner in the race, in a process of its own: the gateway's real proxy over a world of devices that stays as it is. The benchmark measures the process from outside.
import { createWriteStream } from 'node:fs'
import { join } from 'node:path'
import type { EndpointRecord } from '../../domain/access/endpoint-record.ts'
import { readPolicies } from '../../domain/access/read-policies.ts'
import { emptySnapshot, nextSnapshot } from '../../domain/access/snapshot.ts'
import { openAudit, type Audit } from '../../gateway/audit/audit.ts'
import { createMetrics } from '../../gateway/metrics/metrics.ts'
import { openAssertionKeys } from '../../gateway/proxy/assertion-keys.ts'
import { startProxy, type ProxyIdentity } from '../../gateway/proxy/start.ts'
import { createLog } from '../../node/logging.ts'
import { systemTimers } from '../../node/timers.ts'
import type { SourcePorts } from './source.ts'

/** `bare`: one policy without posture, and nothing is written down. `full`: as a user runs it. */
export type Column = 'bare' | 'full'
export const HTTP_HOST = 'app.race.test'
export const TCP_HOST = 'tcp.race.test'

export interface RaceGateSetting {
  readonly column: Column
  readonly directory: string
  readonly serial: string
  readonly authority: string
  readonly own: ProxyIdentity
  readonly source: SourcePorts
  readonly devices: readonly { readonly uid: string; readonly serial: string; readonly notAfter: number }[]
}

const TAG = '11111111-1111-4111-8111-111111111111'
/** Policies that come before the one that matches, in the full column. */
const OTHERS = 99

const others = (column: Column): number[] => (column === 'bare' ? [] : Array.from({ length: OTHERS }, (_, n) => n))

function policyText({ column, source }: RaceGateSetting): string {
  const stale = 'stale: {after: 86400}'
  return [
    'services:',
    `  - {name: tcp, protocol: tcp, match: [${TCP_HOST}], ports: [7], upstream: "127.0.0.1:${source.tcp}", addresses: [127.0.0.1], ${stale}}`,
    `  - {name: app, protocol: https, match: [${HTTP_HOST}], upstream: "http://127.0.0.1:${source.http}", addresses: [127.0.0.1], ${stale}}`,
    'policies:',
    ...others(column).map((n) => `  - {name: other-${n}, services: [${n % 2 === 0 ? 'tcp' : 'app'}], tags: {all: [race, other-${n}]}, action: allow}`),
    column === 'bare' ? '  - {name: all, services: [tcp, app], action: allow}' : '  - {name: tagged, services: [tcp, app], tags: {all: [race], none: [bad]}, action: allow}',
  ].join('\n')
}

const silent: Audit = { record() {}, ended() {}, find: () => Promise.resolve(null), close: () => Promise.resolve() }

async function start(setting: RaceGateSetting): Promise<number> {
  const { column, directory, serial, authority, own, devices } = setting
  const read = readPolicies(policyText(setting))
  if (!read.ok) throw new Error(JSON.stringify(read.errors))
  const endpoints = new Map(devices.map((device): [string, EndpointRecord] => [device.uid, {
    uid: device.uid, registered: true, online: true, onFabric: false, quarantined: false, hostName: 'laptop', addresses: [], macs: [], tagsKnown: true,
    certificates: [{ serial: device.serial, purpose: 'agent', user: '', notAfter: device.notAfter }], tags: new Map([[TAG, { validUntil: null }]]), unknown: new Set(), unknownUntil: null,
  }]))
  const snapshot = nextSnapshot(emptySnapshot, { revision: '1.x', currentAt: Date.now(), tagNames: new Map([[TAG, 'race'], ...[...others(column).map((n) => `other-${n}`), 'bad'].map((name, n): [string, string] => [TAG.slice(0, -4) + String(n).padStart(4, '0'), name])]), endpoints })
  const log = createLog({ name: 'gateway', destination: createWriteStream(column === 'bare' ? '/dev/null' : join(directory, 'gateway.log')) })
  const proxy = await startProxy({
    world: { snapshot: () => snapshot, lookup: () => Promise.resolve(true), onChange: () => () => {} },
    policies: { current: () => read.policies, originOf: () => 'unknown', onChange: () => () => {} }, identity: own, authorities: () => [authority], listen: { host: '127.0.0.1', port: 0 }, serial, stateDirectory: directory, log,
    audit: column === 'bare' ? silent : await openAudit({ directory, log, now: Date.now }), metrics: createMetrics(), now: Date.now,
    limits: { connections: 20_000, perDevice: 20_000, sessions: 20_000, sessionsPerDevice: 20_000 }, assertionKeys: await openAssertionKeys({ directory, now: Date.now, timers: systemTimers, log }),
  })
  return proxy.port
}

if (process.send !== undefined) {
  process.once('message', (setting: RaceGateSetting) => {
    start(setting).then((port) => process.send?.({ port }), (cause: Error) => {
      process.stderr.write(`${cause.stack ?? cause.message}\n`)
      process.exit(1)
    })
  })
  process.on('disconnect', () => process.exit(0))
}
