// Which of a service's upstreams takes a request: the least busy of those that are well, asked in turn whether they are. Connections are the pool's.
import type { Pool } from 'undici'
import type { Policies } from '../../domain/access/policies.ts'
import type { Service, Upstream } from '../../domain/access/service.ts'
import type { Log } from '../../node/logging.ts'
import type { KeyPair, KeyPairs } from './key-pairs.ts'
import type { Resolution, Resolver } from './resolve.ts'
import type { Timers } from '../../node/timers.ts'
import { openPool } from './upstream-pool.ts'

/** One upstream of one service. */
export interface Target {
  readonly upstream: Upstream
  /** Requests that are under way. */
  open: number
  /** Why it is passed over; null: it is well. */
  ill: string | null
  readonly pools: Map<string, Pool>
}
interface Placed { readonly service: Service; readonly targets: readonly Target[]; client: KeyPair | null; readonly stop: () => void }

/** An upstream that refused a connection is passed over for this long when nobody asks it whether it is well. */
const REST_MS = 5_000
const MAX_ADDRESSES = 8

interface UpstreamsOptions { readonly resolver: Resolver; readonly keyPairs: KeyPairs; readonly timers: Timers; readonly log: Log; readonly connectLimitMs: number }

/** The upstreams of one gateway's HTTPS services. */
export function createUpstreams({ resolver, keyPairs, timers, log, connectLimitMs }: UpstreamsOptions) {
  let placed = new Map<string, Placed>()
  let turn = 0

  const drop = ({ targets, stop }: Placed) => {
    stop()
    // Requests under way end first; `close` can't fail for a pool that was opened here.
    for (const { pools } of targets) for (const pool of pools.values()) void pool.close()
  }
  const clientOf = ({ tls }: Service): KeyPair | null => (tls.client === null ? null : keyPairs.get(tls.client) ?? null)
  const judge = (service: Service, target: Target, ill: string | null) => {
    if ((ill === null) === (target.ill === null)) return
    target.ill = ill
    const { host, port } = target.upstream
    log.warn({ event: ill === null ? 'upstream-well' : 'upstream-ill', service: service.name, upstream: `${host}:${port}`, reason: ill }, ill === null ? 'An upstream answers again.' : 'An upstream is passed over.')
  }

  function poolOf(service: Service, target: Target, address: string): Pool {
    const kept = target.pools.get(address)
    if (kept !== undefined) return kept
    const oldest = target.pools.keys().next().value
    // A name whose addresses change leaves pools behind.
    if (oldest !== undefined && target.pools.size >= MAX_ADDRESSES) {
      void target.pools.get(oldest)?.close()
      target.pools.delete(oldest)
    }
    const pool = openPool({ upstream: target.upstream, address, tls: service.tls, client: clientOf(service), connectLimitMs, timers })
    target.pools.set(address, pool)
    return pool
  }

  async function ask(service: Service, target: Target, { path, withinMs }: NonNullable<Service['health']>): Promise<string | null> {
    const found = await resolver(service, target.upstream.host)
    if (!found.ok) return found.detail
    const late = new AbortController()
    const stop = timers.after(withinMs, () => late.abort())
    try {
      const { statusCode, body } = await poolOf(service, target, found.addresses[0] ?? '').request({
        path, method: 'GET', headers: { host: `${target.upstream.host}:${target.upstream.port}`, 'user-agent': 'sallyport-health' }, signal: late.signal, headersTimeout: withinMs, bodyTimeout: withinMs,
      })
      await body.dump()
      return statusCode >= 200 && statusCode < 400 ? null : `it answered ${statusCode}`
    } catch (cause) {
      return late.signal.aborted ? `no answer within ${withinMs} ms` : cause instanceof Error ? cause.message : String(cause)
    } finally {
      stop()
    }
  }

  /** Asks again and again whether a target is well. @returns ends it */
  function keepAsking(service: Service, target: Target): () => void {
    const { health } = service
    if (health === null) return () => {}
    let stopped = false
    let stop = () => {}
    const round = () => {
      ask(service, target, health).then((ill) => {
        if (stopped) return
        judge(service, target, ill)
        stop = timers.after(health.everyMs, round)
      }, (cause: Error) => log.fatal({ event: 'health-broken', service: service.name, reason: cause.message }, 'An upstream is no longer asked whether it is well.'))
    }
    round()
    return () => {
      stopped = true
      stop()
    }
  }

  function place(service: Service): Placed {
    const targets = service.upstreams.map((upstream): Target => ({ upstream, open: 0, ill: null, pools: new Map() }))
    const stops = targets.map((target) => keepAsking(service, target))
    return { service, targets, client: clientOf(service), stop: () => stops.forEach((stop) => stop()) }
  }
  const leaveKeyPairs = keyPairs.onChange(() => {
    for (const [name, each] of placed) {
      if (each.client === clientOf(each.service)) continue
      drop(each)
      placed.set(name, place(each.service))
    }
  })

  return {
    /** Takes over other policies: services that did not change keep their connections. */
    follow(policies: Policies): void {
      const before = placed
      placed = new Map(policies.services.filter(({ protocol }) => protocol === 'https').map((service) => {
        const kept = before.get(service.name)
        if (kept === undefined || !sameConnections(kept.service, service)) return [service.name, place(service)]
        before.delete(service.name)
        return [service.name, kept]
      }))
      for (const each of before.values()) drop(each)
    },
    /** Targets in the order in which they are to be tried: the well before the ill, the least busy first. */
    order(service: Service): readonly Target[] {
      const targets = placed.get(service.name)?.targets ?? []
      if (targets.length < 2) return targets
      // Equally busy ones take turns: sorting leaves them in the order in which they stand.
      const from = turn++ % targets.length
      return [...targets.slice(from), ...targets.slice(0, from)].sort((a, b) => Number(a.ill !== null) - Number(b.ill !== null) || a.open - b.open)
    },
    resolve: (service: Service, target: Target): Promise<Resolution> => resolver(service, target.upstream.host),
    poolOf,
    /** A connection to a target could not be had. */
    failed(service: Service, target: Target, detail: string): void {
      judge(service, target, detail)
      if (service.health === null) timers.after(REST_MS, () => judge(service, target, null))
    },
    close(): void {
      leaveKeyPairs()
      for (const each of placed.values()) {
        each.stop()
        for (const { pools } of each.targets) for (const pool of pools.values()) void pool.destroy()
      }
      placed.clear()
    },
  }
}
export type Upstreams = ReturnType<typeof createUpstreams>

const sameConnections = (a: Service, b: Service): boolean =>
  JSON.stringify([a.upstreams, a.tls, a.health, [...a.addresses]]) === JSON.stringify([b.upstreams, b.tls, b.health, [...b.addresses]])
