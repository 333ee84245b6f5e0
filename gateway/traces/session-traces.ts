// Spans of sessions, by OpenTelemetry's own SDK. Loaded only where traces are asked for; a collector that is slow or away holds up nobody.
import { ROOT_CONTEXT, SpanKind, SpanStatusCode, isSpanContextValid, trace, type Attributes, type Context, type Tracer } from '@opentelemetry/api'
import { ExportResultCode } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { BatchSpanProcessor, TraceIdRatioBasedSampler, TracerProvider, type SpanExporter } from '@opentelemetry/sdk-trace'
import type { Decision } from '../../protocol/decisions.ts'
import { reasonTexts } from '../proxy/reason-texts.ts'
import type { SessionTrace, Traces, TracesOptions } from './traces.ts'
import type { Question } from '../proxy/judge.ts'

/** Spans that may wait; a session whose spans find no room leaves none. */
export const MOST_WAITING = 8_192
const SPANS_A_SESSION = 5
const BATCH = 512
const EXPORT_LIMIT_MS = 5_000

/** W3C trace context, version 00. Its `sampled` is the caller's wish, not ours: the share decides. */
function parentOf(header: string | undefined, { certificate }: Question): Context {
  const [, traceId = '', spanId = ''] = (certificate.status === 'proved' ? /^00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$/.exec(header ?? '') : null) ?? []
  const parent = { traceId, spanId, traceFlags: 1, isRemote: true }
  return isSpanContextValid(parent) ? trace.setSpanContext(ROOT_CONTEXT, parent) : ROOT_CONTEXT
}

function asked({ protocol, host, port, source }: Question): Attributes {
  const at = source.lastIndexOf(':')
  return {
    'client.address': source.slice(0, at), 'client.port': Number(source.slice(at + 1)), 'server.address': host.slice(0, 256), 'server.port': port,
    'network.transport': protocol === 'udp' ? 'udp' : 'tcp', ...(protocol === 'https' ? { 'network.protocol.name': 'http' } : {}),
  }
}
const decided = ({ id, allowed, reason, code, uid, certificateSerial, user, service, policy, tags, revision, country }: Decision): Attributes => ({
  'sallyport.decision.id': id, 'sallyport.decision.allowed': allowed, 'sallyport.decision.reason': reason, 'sallyport.decision.code': code, 'sallyport.snapshot.revision': revision,
  'sallyport.endpoint.uid': uid ?? undefined, 'sallyport.certificate.serial': certificateSerial ?? undefined, 'sallyport.service': service ?? undefined, 'sallyport.policy': policy ?? undefined,
  'sallyport.tags': tags.map(({ name, state }) => `${name}:${state}`), 'geo.country.iso_code': country,
  'enduser.id': user?.name, 'sallyport.user.issuer': user?.issuer,
})

/** What was handed over, and said once when that begins to fail and once when it is mended. */
function watched(inner: SpanExporter, { metrics, log, url }: TracesOptions, done: (spans: number) => void): SpanExporter {
  let failing = false
  return {
    export(spans, answer) {
      inner.export(spans, ({ code, error }) => {
        const failed = code !== ExportResultCode.SUCCESS
        done(spans.length)
        metrics.traced(failed ? 'failed' : 'exported', spans.length)
        if (failed && !failing) log.warn({ event: 'traces-not-taken', url, reason: error?.message }, 'The collector takes no traces; until it does they are lost.')
        if (!failed && failing) log.info({ event: 'traces-taken', url }, 'The collector takes traces again.')
        failing = failed
        // Told and counted: the SDK would say it to standard error, for every batch.
        answer({ code: ExportResultCode.SUCCESS })
      })
    },
    shutdown: () => inner.shutdown(),
  }
}

export function startTraces(options: TracesOptions): Traces {
  const { url, share, serial, metrics, now } = options
  let waiting = 0
  const exporter = watched(new OTLPTraceExporter({ url, timeoutMillis: EXPORT_LIMIT_MS }), options, (spans) => {
    waiting -= spans
  })
  const provider = new TracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'sallyport-gateway', 'service.instance.id': serial }), sampler: new TraceIdRatioBasedSampler(share),
    spanProcessors: [new BatchSpanProcessor({ exporter, maxQueueSize: MOST_WAITING, maxExportBatchSize: BATCH, exportTimeoutMillis: 2 * EXPORT_LIMIT_MS })],
  })
  const tracer = provider.getTracer('sallyport')
  const room = (spans: number): boolean => {
    if (waiting + spans <= MOST_WAITING) {
      waiting += spans
      return true
    }
    metrics.traced('dropped', spans)
    return false
  }
  return {
    begin: (question, traceparent) => beginSession(tracer, question, parentOf(traceparent, question), { now, room }),
    close: () => provider.shutdown(),
  }
}

/** Stages are kept as instants and become spans at the end: until then nothing is known of how it ends, and strangers who are refused leave none. */
function beginSession(tracer: Tracer, question: Question, parent: Context, { now, room }: { readonly now: () => number; readonly room: (spans: number) => boolean }): SessionTrace {
  const [began, from] = [now(), performance.now()]
  const at = () => began + performance.now() - from
  const root = tracer.startSpan(question.protocol, { kind: SpanKind.SERVER, startTime: began, attributes: asked(question) }, parent)
  const { traceId, spanId, traceFlags } = root.spanContext()
  const stages: { readonly name: string; readonly began: number }[] = [{ name: 'decide', began }]
  let admittedBy: Decision | null = null
  let over = !root.isRecording()

  function end(decision: Decision | null, more: Attributes): void {
    if (over) return
    over = true
    const ended = at()
    const service = (admittedBy ?? decision)?.service
    if ((decision !== null && !decision.allowed && decision.uid === null && admittedBy === null) || !room(stages.length + 1)) return
    const failed = decision !== null && reasonTexts[decision.reason].status >= 500
    root.updateName(service == null ? question.protocol : `${question.protocol} ${service}`)
    root.setAttributes({ ...(admittedBy === null ? {} : decided(admittedBy)), ...more })
    if (failed) root.setStatus({ code: SpanStatusCode.ERROR, message: decision.reason })
    const within = trace.setSpan(ROOT_CONTEXT, root)
    stages.forEach(({ name, began: start }, index) => tracer.startSpan(name, { kind: name === 'dial' ? SpanKind.CLIENT : SpanKind.INTERNAL, startTime: start }, within).end(stages[index + 1]?.began ?? ended))
    root.end(ended)
  }
  return {
    traceparent: `00-${traceId}-${spanId}-0${traceFlags & 1}`,
    next(stage) {
      // An upstream may be dialled many times over; what is said is bounded.
      if (!over && stages.length < SPANS_A_SESSION && stages.at(-1)?.name !== stage) stages.push({ name: stage, began: at() })
    },
    admitted(decision) {
      admittedBy = decision
    },
    refused: (decision) => end(decision, admittedBy === null ? decided(decision) : { 'sallyport.end.id': decision.id, 'sallyport.end.reason': decision.reason, 'sallyport.end.code': decision.code }),
    ended: ({ up, down }, cutBy) => end(cutBy, {
      'sallyport.bytes.up': up, 'sallyport.bytes.down': down, ...(cutBy === null ? {} : { 'sallyport.end.id': cutBy.id, 'sallyport.end.reason': cutBy.reason, 'sallyport.end.code': cutBy.code }),
    }),
  }
}
