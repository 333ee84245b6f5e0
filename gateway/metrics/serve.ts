// Serves the metrics on loopback, on a port of their own: they are for the machine's collector, never for those who come through the gate.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Log } from '../../node/logging.ts'
import type { Metrics } from './metrics.ts'

/** Answers `GET /metrics` on 127.0.0.1. @param port 0 picks a free one */
export async function serveMetrics({ metrics, port, log }: { metrics: Metrics; port: number; log: Log }): Promise<{ port: number; close(): Promise<void> }> {
  const server = createServer({ headersTimeout: 5_000, requestTimeout: 5_000, maxHeaderSize: 8_192 }, (request, response) => {
    if (request.url !== '/metrics' || request.method !== 'GET') {
      response.writeHead(404).end()
      return
    }
    metrics.text().then((text) => response.writeHead(200, { 'content-type': metrics.contentType }).end(text), (error: Error) => {
      log.error({ event: 'metrics_failed', cause: error.message }, 'Metrics could not be gathered')
      response.writeHead(500).end()
    })
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
  server.on('error', (error) => log.error({ event: 'metrics_server_failed', cause: error.message }, 'The metrics server failed'))
  return {
    port: (server.address() as AddressInfo).port,
    close: () => new Promise((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    }),
  }
}
