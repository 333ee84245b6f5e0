// Headers that pass the reverse proxy and those that do not. What says who is asking comes from the gateway alone.

export type HeaderList = [name: string, value: string | string[]][]

const hopByHop = new Set(['connection', 'keep-alive', 'proxy-connection', 'proxy-authenticate', 'proxy-authorization', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'http2-settings', 'expect', 'host'])
/** By which upstreams are told who is there: a client's copy would be believed. */
const identity = /^(sallyport-|x-forwarded-|forwarded$|client-cert|x-client-|x-ssl-|ssl-client|x-real-ip$|x-remote-|remote-user$|x-auth-request-|x-authenticated-|cf-)/

const namedByConnection = (value: string | string[] | undefined): Set<string> =>
  new Set([value ?? []].flat().flatMap((part) => part.split(',')).map((name) => name.trim().toLowerCase()))

type Incoming = Readonly<Record<string, string | string[] | undefined>>

function endToEnd(headers: Incoming): HeaderList {
  const named = namedByConnection(headers['connection'])
  return Object.entries(headers).flatMap(([name, value]): HeaderList => value === undefined || name.startsWith(':') || hopByHop.has(name) || named.has(name) ? [] : [[name, value]])
}

/** What goes to the upstream. Underscores are compared as hyphens: many upstreams read both as one name. */
export function requestHeaders(headers: Incoming, { uid, host, source }: { uid: string; host: string; source: string }): Record<string, string | string[]> {
  const kept = endToEnd(headers).filter(([name]) => !identity.test(name.toLowerCase().replaceAll('_', '-')))
  return {
    ...Object.fromEntries(kept), 'host': host,
    'sallyport-device-id': uid, 'x-forwarded-for': source, 'x-forwarded-proto': 'https', 'x-forwarded-host': host,
  }
}

/** What comes back to the client. */
export const responseHeaders = (headers: Incoming): Record<string, string | string[]> => Object.fromEntries(endToEnd(headers))
