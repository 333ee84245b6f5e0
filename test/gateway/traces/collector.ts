// A collector that takes OTLP over HTTP as JSON, and keeps what it was told.
import { createServer, type Server } from 'node:http'
import { later, listen } from '../proxy/gate-under-test.ts'

interface Span { readonly traceId: string; readonly spanId: string; readonly parentSpanId?: string; readonly name: string; readonly startTimeUnixNano: string; readonly endTimeUnixNano: string; readonly attributes: readonly { key: string; value: Record<string, unknown> }[] }
interface Otlp { readonly resourceSpans: readonly { resource: { attributes: Span['attributes'] }; scopeSpans: readonly { spans: Span[] }[] }[] }
export const valueOf = ({ attributes }: Pick<Span, 'attributes'>, key: string) => Object.values(attributes.find((each) => each.key === key)?.value ?? {})[0]

/** @param answers a status; 0: none at all */
export async function startCollector(answers: () => number = () => 200) {
  const spans: Span[] = []
  const requests: { url: string; type: string; service: unknown }[] = []
  const server: Server = createServer((request, response) => {
    const pieces: Buffer[] = []
    request.on('data', (piece: Buffer) => pieces.push(piece)).on('end', () => {
      const status = answers()
      if (status === 0) return
      const told = JSON.parse(Buffer.concat(pieces).toString()) as Otlp
      requests.push({ url: request.url ?? '', type: request.headers['content-type'] ?? '', service: valueOf(told.resourceSpans[0]?.resource ?? { attributes: [] }, 'service.instance.id') })
      if (status === 200) spans.push(...told.resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((each) => each.spans)))
      response.writeHead(status, { 'content-type': 'application/json' }).end('{}')
    })
  })
  const port = await listen(server)
  later(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://127.0.0.1:${port}/v1/traces`, spans, requests, roots: () => spans.filter(({ name }) => /^(tcp|udp|https)/.test(name)), server }
}
