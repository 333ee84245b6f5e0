// The gate on several cores: this process follows the fabric and keeps what all have in common, workers serve. To whoever starts it, it is one gate.
import type { Proved } from '../../domain/access/identify.ts'
import type { Log } from '../../node/logging.ts'
import { summedText, type Metrics } from '../metrics/metrics.ts'
import { createAcme } from '../proxy/acme.ts'
import { bounds } from '../proxy/listen.ts'
import type { PolicyStore } from '../proxy/policy-store.ts'
import type { Proxy, ProxyIdentity, ProxyOptions } from '../proxy/start.ts'
import { createTickets } from '../proxy/tickets.ts'
import type { Timers } from '../../node/timers.ts'
import type { TraceSettings } from '../traces/traces.ts'
import type { World } from '../world.ts'
import { startWorkers } from './workers.ts'

interface Options {
  readonly count: number
  readonly world: World
  readonly policies: PolicyStore
  /** Each worker reads it for itself. */
  readonly policiesFile: string
  readonly identity: ProxyIdentity
  readonly authorities: () => readonly string[]
  readonly listen: { readonly host: string; readonly port: number }
  readonly serial: string
  readonly stateDirectory: string
  readonly log: Log
  readonly logLevel: string
  readonly metrics: Metrics
  readonly timers: Timers
  /** ms. */
  readonly now: () => number
  readonly alsoRefused: () => readonly string[]
  readonly onProved?: (peer: Proved, address: string) => () => void
  readonly limits?: ProxyOptions['limits']
  readonly traces?: TraceSettings | null
}
export interface ProxyCluster extends Proxy {
  /** Resolves when every worker has applied what the world says now. */
  applied(): Promise<void>
  /** Tells the workers that {@link Options.alsoRefused} has changed. */
  share(): void
  /** The metrics of this process and of its workers, summed. */
  text(): Promise<string>
}

/** What one of so many workers may take of what the gate may. */
function shareOf(limits: NonNullable<ProxyOptions['limits']>, count: number): NonNullable<ProxyOptions['limits']> {
  const all = { ...bounds, sessions: 10_000, sessionsPerDevice: 2_000, ...limits }
  const part = (limit: number) => Math.ceil(limit / count)
  return { ...all, sessions: part(all.sessions), sessionsPerDevice: part(all.sessionsPerDevice), connections: part(all.connections), strangers: part(all.strangers), perDevice: part(all.perDevice) }
}

/** Starts the workers and resolves when each listens. */
export async function startProxyCluster(options: Options): Promise<ProxyCluster> {
  const { count, world, policies, policiesFile, authorities, listen, serial, stateDirectory, log, logLevel, metrics, timers, now, alsoRefused, onProved, limits = {}, traces = null } = options
  let { identity } = options
  const tickets = createTickets(timers)
  const acme = createAcme({ directory: stateDirectory, timers, now, log })
  await acme.follow(policies.current().listener.acme)
  metrics.readSnapshotAge(() => {
    const { currentAt } = world.snapshot()
    return currentAt === null ? null : now() - currentAt
  })
  const workers = await startWorkers({
    count, world, timers, log, onProved,
    setting: { serial, stateDirectory, policiesFile, listen, limits: shareOf(limits, count), logLevel, traces },
    shared: () => ({ identity, authorities: authorities(), tickets: tickets.keys(), publicCertificate: acme.current(), alsoRefused: alsoRefused() }),
  })
  let believed = authorities().join()
  const leaves = [
    tickets.onChange(workers.share), acme.onChange(workers.share),
    policies.onChange(() => {
      acme.follow(policies.current().listener.acme).catch((cause: Error) => log.error({ event: 'acme-not-followed', reason: cause.message }, 'What the policies say of ACME could not be taken over.'))
    }),
  ]
  return {
    port: workers.port,
    applied: workers.applied,
    share: workers.share,
    text: async () => summedText([await metrics.json(), ...await workers.measure()]),
    updateAuthorities() {
      const next = authorities().join()
      if (next !== believed) tickets.renew()
      believed = next
      workers.share()
    },
    updateIdentity(next) {
      identity = next
      workers.share()
    },
    drain: workers.drain,
    async close() {
      for (const leave of leaves) leave()
      tickets.close()
      acme.close()
      await workers.close()
    },
  }
}
