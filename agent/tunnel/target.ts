// A host and port that a local program asks for, in one canonical spelling. It resolves nothing.
import ipaddr from 'ipaddr.js'
import { hostName } from '../../protocol/text.ts'

export interface Target {
  /** Lower-case name without final dot, or a canonical address without brackets. */
  host: string
  port: number
}

/**
 * Canonical host. `10.1`, `0x0a000001` and `::ffff:10.0.0.1` are all spellings that a resolver takes for 10.0.0.1:
 * left as they are, they would slip past a CIDR destination.
 * @returns null when it is neither a host name nor an address
 */
export function canonicalHost(raw: string): string | null {
  const host = raw.toLowerCase().replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '')
  if (host.includes('%')) return null
  if (ipaddr.isValid(host)) return ipaddr.process(host).toString()
  return hostName.safeParse(host.replaceAll('_', 'x')).success ? host : null
}

/** Reads `host:port` or `[v6]:port` (authority-form, RFC 9112 §3.2.3); the port is required. */
export function parseAuthority(text: string): Target | null {
  const match = /^(\[[^\]]{2,64}\]|[^:[\]]{1,255}):(\d{1,5})$/.exec(text)
  const host = canonicalHost(match?.[1] ?? '')
  const port = Number(match?.[2])
  return host === null || port < 1 || port > 65_535 ? null : { host, port }
}

/** `host:port`, with brackets round an IPv6 address. */
export const authorityOf = ({ host, port }: Target): string => `${host.includes(':') ? `[${host}]` : host}:${port}`
