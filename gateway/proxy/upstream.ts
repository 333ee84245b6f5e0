// Connections to the upstreams of HTTPS services: pooled per service, and only to addresses that were checked.
import { Agent as HttpAgent, request as httpRequest, type ClientRequest, type RequestOptions } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { Upstream } from '../../domain/access/service.ts'

const POOL = { keepAlive: true, maxFreeSockets: 32, timeout: 60_000 }

/** Opens requests to upstreams. Addresses are part of the pool's key, so a connection to one that is no longer right is not reused. */
export function createUpstreams() {
  const plain = new HttpAgent(POOL)
  const secure = new Map<string, HttpsAgent>()
  const secureAgent = (ca: string | null): HttpsAgent => {
    const key = ca ?? ''
    const agent = secure.get(key) ?? new HttpsAgent(ca === null ? POOL : { ...POOL, ca })
    secure.set(key, agent)
    return agent
  }
  return {
    /** @param address one that was checked for this service */
    open(upstream: Upstream, ca: string | null, address: string, options: Pick<RequestOptions, 'method' | 'path' | 'headers'>): ClientRequest {
      const to = { ...options, host: address, port: upstream.port, setHost: false }
      return upstream.secure
        ? httpsRequest({ ...to, agent: secureAgent(ca), servername: /^[\d.]+$|:/.test(upstream.host) ? '' : upstream.host })
        : httpRequest({ ...to, agent: plain })
    },
    close(): void {
      plain.destroy()
      for (const agent of secure.values()) agent.destroy()
    },
  }
}
export type Upstreams = ReturnType<typeof createUpstreams>
