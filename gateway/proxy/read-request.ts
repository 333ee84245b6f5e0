// What a request says of itself, read strictly: everything is decided by it, and the upstream must read the same. It decides nothing.
import type { IncomingMessage } from 'node:http'
import { Http2ServerRequest } from 'node:http2'
import { readAuthority, type Authority } from './authority.ts'

export type RequestHead =
  | { readonly ok: true; /** As named, port and all. */ readonly host: string; readonly authority: Authority; /** Origin-form. */ readonly target: string }
  | { readonly ok: false; readonly status: 400 | 405; readonly why: string }

/** RFC 3986: visible ASCII; a fragment is the browser's own. */
const originForm = /^\/[\x21\x22\x24-\x7e]*$/

/** Every value under which a request names its host: two could be read as two hosts. */
function hostsOf({ rawHeaders }: IncomingMessage | Http2ServerRequest): Set<string> {
  const hosts = new Set<string>()
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]?.toLowerCase()
    if (name === 'host' || name === ':authority') hosts.add(rawHeaders[at + 1] ?? '')
  }
  return hosts
}

/** Reads the head of a request for a declared service. */
export function readRequest(request: IncomingMessage | Http2ServerRequest): RequestHead {
  const refuse = (why: string): RequestHead => ({ ok: false, status: 400, why })
  const [host, ...others] = hostsOf(request)
  const authority = readAuthority(host, 443)
  if (host === undefined || others.length > 0 || authority === null) return refuse('The request must name one host.')
  const target = request.url ?? ''
  if (!originForm.test(target)) return refuse('The request must name a path, without spaces, control characters or a fragment.')
  if (request instanceof Http2ServerRequest && request.scheme !== 'https') return refuse('The scheme must be https.')
  // Its answer would show what the gateway tells upstreams alone.
  return request.method === 'TRACE' ? { ok: false, status: 405, why: 'TRACE is not passed on.' } : { ok: true, host, authority, target }
}
