// Headers that pass the reverse proxy and those that do not. What says who is asking comes from the gateway alone.
import type { Vouched } from './assertions.ts'
import { headerText } from './header-text.ts'

type Incoming = Readonly<Record<string, string | string[] | undefined>>
export type HeaderValues = Record<string, string | string[]>

const hopByHop = new Set(['connection', 'keep-alive', 'proxy-connection', 'proxy-authenticate', 'proxy-authorization', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'http2-settings', 'expect', 'host'])
/** By which upstreams are told who is there: a client's copy would be believed. */
const identity = /^(sallyport-|x-forwarded-|forwarded$|client-cert|x-client-|x-ssl-|ssl-client|x-real-ip$|x-remote-|remote-user$|x-auth-request-|x-authenticated-|cf-)/

const namedByConnection = (value: string | string[] | undefined): Set<string> =>
  new Set([value ?? []].flat().flatMap((part) => part.split(',')).map((name) => name.trim().toLowerCase()))

function endToEnd(headers: Incoming, passes: (name: string) => boolean): HeaderValues {
  const connection = headers['connection']
  // The two that nearly every connection says name no header.
  const named = connection === undefined || connection === 'keep-alive' || connection === 'close' ? null : namedByConnection(connection)
  const kept: HeaderValues = {}
  for (const name in headers) {
    const value = headers[name]
    if (value === undefined || name.startsWith(':') || hopByHop.has(name) || !passes(name)) continue
    // A body's length is told by what frames it; `connection` may not take it away from one side alone.
    if (named?.has(name) === true && name !== 'content-length') continue
    kept[name] = value
  }
  return kept
}

/** What a client may tell an upstream. Underscores are compared as hyphens: many upstreams read both as one name. */
function mayTell(name: string): boolean {
  if (!name.includes('_')) return !identity.test(name)
  const read = name.replaceAll('_', '-')
  return !identity.test(read) && !hopByHop.has(read) && read !== 'content-length'
}

/** What goes to the upstream. @param vouched null: there is no device */
export function requestHeaders(headers: Incoming, { host, source, vouched, decision, traceparent }: { readonly host: string; readonly source: string; readonly vouched: Vouched | null; readonly decision: string; readonly traceparent?: string }): HeaderValues {
  const kept = endToEnd(headers, mayTell)
  kept['host'] = host
  kept['x-forwarded-for'] = source
  kept['x-forwarded-proto'] = 'https'
  kept['x-forwarded-host'] = host
  kept['sallyport-decision'] = decision
  if (traceparent !== undefined) kept['traceparent'] = traceparent
  if (vouched !== null) {
    kept['sallyport-device-id'] = vouched.uid
    kept['sallyport-device-tags'] = vouched.tags.map(encodeURIComponent).join(',')
    kept['sallyport-assertion'] = vouched.assertion
    const { user } = vouched
    // A subject that reads like an e-mail may have been chosen to: nobody verified it as one. The assertion tells it as what it is.
    const name = user?.email ?? (user?.sub.includes('@') === true ? undefined : user?.sub)
    if (name !== undefined) kept['sallyport-user'] = headerText(name)
    if (user?.groups !== undefined) kept['sallyport-user-groups'] = user.groups.map(headerText).join(',')
  }
  return kept
}

/** What comes back to the client. */
export const responseHeaders = (headers: Incoming): HeaderValues => endToEnd(headers, () => true)
