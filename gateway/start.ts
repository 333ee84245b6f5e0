// One gateway from start to close: joins when it has not, loads what it knew, follows the EMS, and serves. A value: the command and tests start it alike.
import { lookup } from 'node:dns/promises'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { createControlClient } from '../node/control-client.ts'
import type { Log } from '../node/logging.ts'
import { auditReader, openAudit } from './audit/audit.ts'
import { startProxyCluster, type ProxyCluster } from './cluster/start.ts'
import { readJoinCode, type JoinTarget } from './config.ts'
import { followFabric, type FabricEvent } from './fabric/follow.ts'
import { joinFabric, type Pending } from './fabric/join.ts'
import { keepSnapshot } from './fabric/keep-snapshot.ts'
import { openMembership, type Membership } from './fabric/membership.ts'
import { keepRenewed } from './fabric/renewal.ts'
import type { PollSettings } from './fabric/polling.ts'
import { createReplica, type Replica } from './fabric/replica.ts'
import { loadSnapshot } from './fabric/snapshot-file.ts'
import type { FirewallSettings } from './firewall/command-line.ts'
import { runFirewall } from './firewall/run.ts'
import { createMetrics } from './metrics/metrics.ts'
import { serveMetrics } from './metrics/serve.ts'
import { openAssertionKeys } from './proxy/assertion-keys.ts'
import { openPolicyFile } from './proxy/policy-store.ts'
import { startProxy } from './proxy/start.ts'
import { openTraces, type TraceSettings } from './traces/traces.ts'
import { systemTimers, type Timers } from '../node/timers.ts'

export type GatewayEvent = FabricEvent | { readonly event: 'pending' } & Pending | { readonly event: 'joined'; readonly serial: string }

export interface GatewayOptions {
  readonly stateDirectory: string
  /** YAML; read again when it changes. */
  readonly policiesFile: string
  readonly listen: { readonly host: string; readonly port: number }
  /** On loopback; 0 picks a free one. */
  readonly metricsPort: number
  /** How to join, one of them; needed until the state directory holds a membership. */
  readonly joinCode?: string | null
  /** Without a code: where the EMS is and the pin by which it is known; an administrator compares the fingerprint. */
  readonly pinned?: { readonly ems: string; readonly pin: string } | null
  readonly displayName?: string
  /** Packet filter and address lists by what this gateway sees; null or absent: neither. */
  readonly firewall?: FirewallSettings | null
  /** Processes that serve; 1 unless said, and then it is this one. */
  readonly workers?: number
  /** Of the log of workers. */
  readonly logLevel?: string
  /** When the EMS is asked what is new because no websocket can be had; 10 s and every 5 s unless said. */
  readonly poll?: PollSettings
  /** How long open sessions may go on when it is closed; 0 unless said. */
  readonly drainMs?: number
  /** Where traces of sessions go; null or absent: nowhere. */
  readonly traces?: TraceSettings | null
  /** TLS roots beside the system's, PEM. */
  readonly tlsCa?: readonly string[]
  readonly timers?: Timers
  /** ms. */
  readonly now: () => number
  readonly log: Log
  readonly onEvent?: (event: GatewayEvent) => void
  /** Calls off a start that waits to be authorised. */
  readonly signal?: AbortSignal
}

export interface Gateway {
  readonly serial: string
  readonly port: number
  readonly metricsPort: number
  /** Where address lists are served; null: nowhere. */
  readonly listsPort: number | null
  close(): Promise<void>
}

const identityOf = (membership: Membership) => {
  const { certificate, privateKey } = membership.member().stored
  return { certPem: certificate, keyPem: privateKey }
}

async function joinOrOpen(options: GatewayOptions, timers: Timers): Promise<Membership> {
  const { stateDirectory: directory, joinCode = null, pinned = null, onEvent, now, log } = options
  const kept = await openMembership(directory)
  if (kept !== null) return kept
  const target: JoinTarget | null = joinCode !== null ? readJoinCode(joinCode) : pinned !== null ? { ...pinned, code: null } : null
  if (target === null) throw new Error('this gateway has not joined yet: it needs a join code, or the address and the pin of its EMS')
  const membership = await joinFabric({
    directory, ...target, displayName: options.displayName ?? 'gateway', tlsCa: options.tlsCa ?? [], timers, now, log, signal: options.signal,
    onPending: (pending) => onEvent?.({ event: 'pending', ...pending }),
  })
  const { serial } = membership.member().stored
  log.info({ event: 'joined', serial }, 'This gateway is a member of the fabric.')
  onEvent?.({ event: 'joined', serial })
  return membership
}

async function replicaFromDisk(directory: string, serial: string, { now, log }: GatewayOptions): Promise<Replica> {
  const loaded = await loadSnapshot(directory, serial, now())
  if (loaded.ok) {
    const { endpoints, currentAt } = loaded.state.snapshot
    log.info({ event: 'snapshot-loaded', endpoints: endpoints.size, currentAt }, 'The snapshot on disk was loaded; it is as stale as it was.')
    return createReplica(loaded.state)
  }
  if (loaded.reason !== 'none') log.error({ event: 'snapshot-refused', reason: loaded.reason }, 'The snapshot on disk is refused; nothing is let through until the EMS has been heard.')
  return createReplica()
}

/** Starts a gateway; resolves when it listens. Until it is authorised it keeps asking. Throws when it can't join, listen, or read its policies. */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { stateDirectory: directory, now, log, onEvent = () => {}, timers = systemTimers } = options
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const policies = await openPolicyFile({ path: options.policiesFile, log })
  const closing: (() => Promise<void> | void)[] = [() => policies.close()]
  const close = async () => {
    for (const each of closing.reverse().splice(0)) await each()
  }
  try {
    const membership = await joinOrOpen(options, timers)
    const { serial, ems } = membership.member().stored
    const client = createControlClient({
      ems, now, log, tlsCa: options.tlsCa ?? [],
      identity: () => ({ privateKey: membership.member().privateKey, certificateDer: membership.member().certificate.der }),
    })
    const metrics = createMetrics()
    const { workers = 1 } = options
    let several: ProxyCluster | null = null
    const served = await serveMetrics({ metrics: { ...metrics, text: () => several?.text() ?? metrics.text() }, port: options.metricsPort, log })
    closing.push(() => served.close())
    const audit = await openAudit({ directory: join(directory, 'audit'), log, now })
    closing.push(() => audit.close())
    const replica = await replicaFromDisk(directory, serial, options)
    const keeper = keepSnapshot({ directory, serial, replica, timers, now, log })
    closing.push(() => keeper.close())

    const stopping = new AbortController()
    const renewing = keepRenewed({ directory, membership, client, timers, log, signal: stopping.signal })
      .catch((cause: Error) => log.fatal({ event: 'renewal-broken', reason: cause.message, stack: cause.stack }, 'Renewal failed inside the gateway; the certificate will run out.'))
    let emsAddresses: string[] = []
    const locateEms = () => lookup(new URL(ems).hostname.replace(/^\[|\]$/g, ''), { all: true }).then((found) => {
      emsAddresses = found.map(({ address }) => address)
      several?.share()
    }).catch((cause: Error) => log.warn({ event: 'ems-not-resolved', reason: cause.message }, 'The name of the EMS could not be resolved.'))
    metrics.heardBy('none')
    const world = followFabric({
      // Each worker keeps a record of its own, under this one's.
      ...(workers === 1 ? { findDecision: audit.find } : { findDecision: auditReader(join(directory, 'audit')).find, settled: () => several?.applied() ?? Promise.resolve() }),
      membership, client, replica, timers, now, log, onClockOffset: metrics.clockOffset, poll: options.poll,
      onEvent(event) {
        if (event.event === 'connected') void locateEms()
        if (event.event === 'mode') metrics.heardBy(event.mode)
        onEvent(event)
      },
    })
    closing.push(async () => {
      stopping.abort()
      const ended = Promise.all([renewing, world.close()])
      // Ends what is under way: an EMS that no longer answers would hold it for its whole time limit.
      await client.close()
      await ended
    })
    await locateEms()
    const firewall = options.firewall == null ? null : await runFirewall({ settings: options.firewall, directory, membership, client, world, metrics, timers, now, log })
    closing.push(() => firewall?.close())
    const assertionKeys = await openAssertionKeys({ directory, now, timers, log })
    closing.push(() => assertionKeys.close())
    const { traces: settings = null } = options
    const common = {
      world, policies, stateDirectory: directory, identity: identityOf(membership), authorities: () => membership.member().stored.authorities, listen: options.listen,
      serial, log, metrics, now, timers, alsoRefused: () => emsAddresses, onProved: firewall?.proved,
    }
    if (workers > 1) several = await startProxyCluster({ ...common, count: workers, policiesFile: options.policiesFile, logLevel: options.logLevel ?? log.level, traces: settings })
    const traces = several !== null ? null : await openTraces(settings === null ? null : { ...settings, serial, metrics, log, now })
    closing.push(() => traces?.close())
    const proxy = several ?? await startProxy({ ...common, audit, assertionKeys, traces })
    closing.push(() => proxy.close(), () => proxy.drain(options.drainMs ?? 0), membership.onChange(() => {
      proxy.updateIdentity(identityOf(membership))
      proxy.updateAuthorities()
    }))
    log.info({ event: 'serving', serial, port: proxy.port }, 'The gateway serves.')
    return { serial, port: proxy.port, metricsPort: served.port, listsPort: firewall?.listsPort ?? null, close }
  } catch (cause) {
    await close()
    throw cause
  }
}
