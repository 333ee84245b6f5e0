// The gate of the cut benchmark, in a process of its own: a real listener, log, audit and metrics; the world is held by whoever measures.
import { createWriteStream } from 'node:fs'
import type { EndpointRecord } from '../domain/access/endpoint-record.ts'
import { readPolicies } from '../domain/access/read-policies.ts'
import { emptySnapshot, nextSnapshot } from '../domain/access/snapshot.ts'
import { openAudit } from '../gateway/audit/audit.ts'
import { createMetrics } from '../gateway/metrics/metrics.ts'
import { openAssertionKeys } from '../gateway/proxy/assertion-keys.ts'
import { startProxy, type ProxyIdentity } from '../gateway/proxy/start.ts'
import { systemTimers } from '../node/timers.ts'
import type { ChangeCause, Changed } from '../gateway/world.ts'
import { createLog } from '../node/logging.ts'

export interface GateSetting {
  readonly directory: string
  readonly serial: string
  readonly authority: string
  readonly own: ProxyIdentity
  readonly port: number
  readonly devices: readonly { readonly uid: string; readonly serial: string; readonly notAfter: number }[]
}
/** `take`: these devices lose the tag. */
export type ToGate = { readonly do: 'start'; readonly setting: GateSetting } | { readonly do: 'take' | 'give'; readonly uids: readonly string[] }
/** `at`: ms on the machine's monotonic clock, when the snapshot had been replaced. */
export type FromGate = { readonly event: 'listening'; readonly port: number } | { readonly event: 'applied'; readonly at: number }

const TAG = '11111111-1111-4111-8111-111111111111'
const tell = (message: FromGate) => process.send?.(message)

async function start({ directory, serial, authority, own, port, devices }: GateSetting) {
  const read = readPolicies(`services: [{name: s, protocol: tcp, match: [127.0.0.1], ports: [${port}], addresses: [127.0.0.1], stale: {after: 86400}}]\npolicies: [{name: p, services: [s], tags: {all: [ok]}, action: allow}]`)
  if (!read.ok) throw new Error(JSON.stringify(read.errors))
  const recordOf = ({ uid, serial, notAfter }: GateSetting['devices'][number], tagged: boolean): EndpointRecord => ({
    uid, registered: true, online: true, onFabric: false, quarantined: false, hostName: '', addresses: [], macs: [], tagsKnown: true,
    certificates: [{ serial, purpose: 'agent', user: '', notAfter }], tags: new Map(tagged ? [[TAG, { validUntil: null }]] : []), unknown: new Set(), unknownUntil: null,
  })
  const byUid = new Map(devices.map((device) => [device.uid, device]))
  let snapshot = nextSnapshot(emptySnapshot, { revision: '1.x', currentAt: Date.now(), tagNames: new Map([[TAG, 'ok']]), endpoints: new Map(devices.map((device) => [device.uid, recordOf(device, true)])) })
  const listeners = new Set<(changed: Changed, cause: ChangeCause) => void>()
  const log = createLog({ name: 'gateway', destination: createWriteStream('/dev/null') })
  const proxy = await startProxy({
    world: { snapshot: () => snapshot, lookup: () => Promise.resolve(true), onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    } },
    policies: { current: () => read.policies, originOf: () => 'unknown', onChange: () => () => {} }, identity: own, authorities: () => [authority], listen: { host: '127.0.0.1', port: 0 }, serial, stateDirectory: directory, log,
    audit: await openAudit({ directory, log, now: Date.now }), metrics: createMetrics(), now: Date.now, limits: { sessions: 20_000, sessionsPerDevice: 20_000 },
    assertionKeys: await openAssertionKeys({ directory, now: Date.now, timers: systemTimers, log }),
  })
  tell({ event: 'listening', port: proxy.port })
  return (uids: readonly string[], tagged: boolean) => {
    snapshot = nextSnapshot(snapshot, { endpoints: new Map(uids.flatMap((uid) => {
      const device = byUid.get(uid)
      return device === undefined ? [] : [[uid, recordOf(device, tagged)] as const]
    })) })
    const at = Number(process.hrtime.bigint()) / 1e6
    for (const listener of listeners) listener(new Set(uids), { at: Date.now() })
    tell({ event: 'applied', at })
  }
}

let change: (uids: readonly string[], tagged: boolean) => void = () => {}
process.on('message', (message: ToGate) => {
  if (message.do !== 'start') change(message.uids, message.do === 'give')
  else {
    start(message.setting).then((made) => {
      change = made
    }, (cause: Error) => {
      process.stderr.write(`${cause.stack ?? cause.message}\n`)
      process.exit(1)
    })
  }
})
process.on('disconnect', () => process.exit(0))
