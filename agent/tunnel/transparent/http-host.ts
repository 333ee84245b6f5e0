// The host that an HTTP/1 client asks for, read from the head of its first request. Other protocols are told apart, not understood.
import { canonicalHost } from '../target.ts'

export type HttpHead = { kind: 'more' } | { kind: 'other' } | { kind: 'malformed' } | { kind: 'request'; host: string | null }

/** A method is any token: a page's `fetch` may make one up. No browser puts a blank or a control character into a target. */
const lineSoFar = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+(?: [\x20-\x7e\x80-\xff]*)?$/
const requestLine = /^(\S+) (\S+) HTTP\/1\.\d$/
const headerLine = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*(.*?)[\t ]*$/

/** Without its port; null when it is no host. */
const hostOnly = (text: string): string | null => canonicalHost(/^(\[[^\]]*\]|[^:]*)(?::\d{0,5})?$/.exec(text)?.[1] ?? '')

/** The host of a request, where Host and an absolute target agree (RFC 9112 §3.2); null where none or more than one is named. */
function hostOf(target: string, hosts: readonly string[]): string | null {
  const [named] = hosts
  const host = hosts.length === 1 && named !== undefined ? hostOnly(named) : null
  if (target.startsWith('/') || target === '*') return host
  const absolute = /^https?:\/\/([^/?#]*)/i.exec(target)?.[1]
  return absolute !== undefined && hostOnly(absolute) === host ? host : null
}

/**
 * Reads as far as the bytes go; complete with the blank line that ends the head.
 * HTTP/2 without TLS is `other`: no browser speaks it, so no page can.
 */
export function readHttpHead(bytes: Uint8Array): HttpHead {
  const text = Buffer.from(bytes).toString('latin1')
  const lineEnd = text.indexOf('\n')
  const line = (lineEnd === -1 ? text : text.slice(0, lineEnd)).replace(/\r$/, '')
  if (!lineSoFar.test(line)) return { kind: 'other' }
  if (lineEnd === -1) return { kind: 'more' }
  const [, method = '', target = ''] = requestLine.exec(line) ?? []
  if (method === '') return { kind: 'other' }
  const end = /\r?\n\r?\n/.exec(text.slice(lineEnd))
  if (end === null) return { kind: 'more' }
  const headers = text.slice(lineEnd + 1, lineEnd + end.index).split('\n').map((each) => each.replace(/\r$/, '')).filter((each) => each !== '')
  const hosts: string[] = []
  for (const each of headers) {
    const [, name = '', value = ''] = headerLine.exec(each) ?? []
    // A folded line, a name with a blank behind it: read in two ways by two servers.
    if (name === '') return { kind: 'malformed' }
    if (name.toLowerCase() === 'host') hosts.push(value)
  }
  return { kind: 'request', host: hostOf(target, hosts) }
}
