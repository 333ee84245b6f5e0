// What the gateway counts and times, for Prometheus. The names here are the only ones; serving them is done beside it.
import { AggregatorRegistry, Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client'
import type { Reason } from '../../protocol/decisions.ts'

export interface Metrics {
  decided(reason: Reason, event: 'decide' | 'recheck'): void
  sessionsOpen(count: number): void
  /** An SSH user certificate was issued. */
  sshCertificateIssued(): void
  /** Bytes and datagrams carried since the start, of open sessions too. Asked when metrics are read. */
  readCarried(total: () => Carried): void
  /** Connections that have proved nothing. */
  strangers(count: number): void
  /** A TLS handshake has ended. */
  handshake(kind: 'full' | 'resumed' | 'failed'): void
  /** ms since the EMS last said `current`; null: never. Asked when metrics are read. */
  readSnapshotAge(age: () => number | null): void
  /** ms from the EMS accepting a change to the snapshot being replaced. */
  propagated(ms: number): void
  /** ms from the EMS accepting a change to a session being cut by it. */
  cut(ms: number): void
  /** ms from the EMS accepting a change to the packet filter holding it. */
  filtered(ms: number): void
  /** Addresses and MACs in the packet filter's sets. */
  filterElements(count: number): void
  /** The sets were not as they had been left. */
  filterMended(): void
  /** What became of spans. */
  traced(outcome: 'exported' | 'failed' | 'dropped', spans: number): void
  /** How the EMS is heard from now on. */
  heardBy(mode: 'socket' | 'polling' | 'none'): void
  /** EMS clock minus ours, ms. */
  clockOffset(ms: number): void
  /** Everything, in the form that {@link summedText} takes. */
  json(): Promise<readonly object[]>
  readonly contentType: string
  text(): Promise<string>
}

/** `dropped`: datagrams for which there was no room, or which were too long for the way. */
interface Carried { readonly up: number; readonly down: number; readonly datagrams: { readonly up: number; readonly down: number; readonly dropped: number } }

const buckets = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60]

/** The text of several processes' metrics, summed; of ages the greatest. */
export const summedText = (all: readonly (readonly object[])[]): Promise<string> => AggregatorRegistry.aggregate(all.map((each) => [...each])).metrics()

/** Makes the gateway's metrics, in a registry of their own. */
export function createMetrics(): Metrics {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  const decisions = new Counter({ name: 'sallyport_decisions_total', help: 'Access decisions by reason.', labelNames: ['reason', 'event'], registers })
  const handshakes = new Counter({ name: 'sallyport_tls_handshakes_total', help: 'TLS handshakes by how they ended.', labelNames: ['kind'], registers })
  const strangers = new Gauge({ name: 'sallyport_unproved_connections', help: 'Connections over which no device has proved itself.', registers })
  const sessions = new Gauge({ name: 'sallyport_open_sessions', help: 'Sessions that are open now.', registers })
  const sshCertificates = new Counter({ name: 'sallyport_ssh_certificates_total', help: 'SSH user certificates issued.', registers })
  const propagation = new Histogram({ name: 'sallyport_propagation_seconds', help: 'From the EMS accepting a change to this gateway applying it.', buckets, registers })
  const cuts = new Histogram({ name: 'sallyport_cut_seconds', help: 'From the EMS accepting a change to a session being cut by it.', buckets, registers })
  const filtering = new Histogram({ name: 'sallyport_filter_seconds', help: 'From the EMS accepting a change to the packet filter holding it.', buckets, registers })
  const elements = new Gauge({ name: 'sallyport_filter_elements', help: 'Addresses and MACs in the packet filter.', registers })
  const mended = new Counter({ name: 'sallyport_filter_mended_total', help: 'Times that the sets of the packet filter were not as this gateway had left them.', registers })
  const spans = new Counter({ name: 'sallyport_trace_spans_total', help: 'Spans by what became of them: taken by the collector, refused or not reached by it, or dropped because too many waited.', labelNames: ['outcome'], registers })
  const offset = new Gauge({ name: 'sallyport_clock_offset_seconds', help: 'Clock of the EMS minus the clock of this gateway.', registers })
  const modes = new Gauge({ name: 'sallyport_ems_heard_by', help: '1 at the way in which the EMS is heard: it tells by websocket, or it is asked because none can be had, or none of both.', labelNames: ['mode'], registers })
  let age: () => number | null = () => null
  const snapshotAge = new Gauge({
    name: 'sallyport_snapshot_age_seconds', help: 'Since the EMS last said that all is told; +Inf: never.', registers: [], aggregator: 'max',
    collect(this: Gauge) {
      this.set((age() ?? Infinity) / 1000)
    },
  })
  registry.registerMetric(snapshotAge)
  let carried: () => Carried = () => ({ up: 0, down: 0, datagrams: { up: 0, down: 0, dropped: 0 } })
  registry.registerMetric(new Counter({
    name: 'sallyport_bytes_total', help: 'Bytes carried, up from clients and down to them.', labelNames: ['direction'], registers: [],
    collect(this: Counter) {
      const { up, down } = carried()
      this.reset()
      this.inc({ direction: 'up' }, up)
      this.inc({ direction: 'down' }, down)
    },
  }))
  registry.registerMetric(new Counter({
    name: 'sallyport_datagrams_total', help: 'UDP datagrams carried up from clients and down to them, and dropped.', labelNames: ['way'], registers: [],
    collect(this: Counter) {
      this.reset()
      for (const [way, count] of Object.entries(carried().datagrams)) this.inc({ way }, count)
    },
  }))
  return {
    decided: (reason, event) => decisions.inc({ reason, event }),
    sessionsOpen: (count) => sessions.set(count),
    sshCertificateIssued: () => sshCertificates.inc(),
    readCarried: (read) => {
      carried = read
    },
    strangers: (count) => strangers.set(count),
    handshake: (kind) => handshakes.inc({ kind }),
    readSnapshotAge: (read) => {
      age = read
    },
    // Clocks differ by milliseconds: a negative duration would lower the sum for ever.
    propagated: (ms) => propagation.observe(Math.max(0, ms) / 1000),
    cut: (ms) => cuts.observe(Math.max(0, ms) / 1000),
    filtered: (ms) => filtering.observe(Math.max(0, ms) / 1000),
    filterElements: (count) => elements.set(count),
    filterMended: () => mended.inc(),
    traced: (outcome, count) => spans.inc({ outcome }, count),
    heardBy: (mode) => {
      for (const each of ['socket', 'polling', 'none'] as const) modes.set({ mode: each }, each === mode ? 1 : 0)
    },
    clockOffset: (ms) => offset.set(ms / 1000),
    json: () => registry.getMetricsAsJSON(),
    contentType: registry.contentType,
    text: () => registry.metrics(),
  }
}
