// Traces of sessions for an OpenTelemetry collector, where the administrator names one. Without one nothing of it is loaded.
import type { Decision } from '../../protocol/decisions.ts'
import type { Log } from '../../node/logging.ts'
import type { Metrics } from '../metrics/metrics.ts'
import type { Question } from '../proxy/judge.ts'

export interface TraceSettings {
  /** Where OTLP is taken, by HTTP as JSON. */
  readonly url: string
  /** Of the sessions, from 0 to 1. */
  readonly share: number
}

/** One session. It decides, resolves, dials and carries, one after the other. */
export interface SessionTrace {
  /** The context that the upstream is told (W3C `traceparent`). */
  readonly traceparent: string
  /** Ends the stage before and begins this one; `decide` has begun already. */
  next(stage: 'resolve' | 'dial' | 'carry'): void
  /** It was let in by this decision. */
  admitted(decision: Decision): void
  /** Nothing came of it. The end; a later one is none. */
  refused(decision: Decision): void
  /** The end. @param cutBy the decision that ended it; null: it ended by itself */
  ended(carried: { readonly up: number; readonly down: number }, cutBy: Decision | null): void
}
export interface Traces {
  /** @param traceparent what the client says it belongs to; believed of proved devices alone */
  begin(question: Question, traceparent?: string): SessionTrace
  /** Hands over what waits, for as long as that may take. */
  close(): Promise<void>
}
export interface TracesOptions extends TraceSettings { readonly serial: string; readonly metrics: Metrics; readonly log: Log; readonly now: () => number }

/** @param options null: no traces */
export async function openTraces(options: TracesOptions | null): Promise<Traces | null> {
  if (options === null) return null
  const { startTraces } = await import('./session-traces.ts')
  return startTraces(options)
}
