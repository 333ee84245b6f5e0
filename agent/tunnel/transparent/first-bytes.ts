// What a program says first on a listener of a protected name. HTTP and TLS, which are all that a web page can speak and hear, must ask for that
// name, or a page that rebinds its own name to the listener's address would get through; whatever else is spoken goes on.
import { canonicalHost } from '../target.ts'
import { readClientHello } from './client-hello.ts'
import { readHttpHead } from './http-host.ts'

/** `more`: not known yet. `foreign`: another name, none, or what is neither read nor clean. */
export type Judgement = 'more' | 'http' | 'tls' | 'other' | 'foreign'

/** More than this is read by nobody before the name is known: the agent's proxy takes heads of the same size. */
export const MAX_FIRST_BYTES = 32_768

/** Judges what has come so far. Later requests on the same connection are not looked at: a browser sends one origin's only. */
export function judge(bytes: Uint8Array, name: string): Judgement {
  if (bytes.length === 0) return 'more'
  if (bytes[0] === 22) {
    const hello = readClientHello(bytes)
    if (hello.kind === 'more') return bytes.length > MAX_FIRST_BYTES ? 'foreign' : 'more'
    return hello.kind === 'hello' && hello.serverName !== null && canonicalHost(hello.serverName) === name ? 'tls' : 'foreign'
  }
  const head = readHttpHead(bytes.subarray(0, MAX_FIRST_BYTES))
  switch (head.kind) {
    case 'more': return bytes.length >= MAX_FIRST_BYTES ? 'foreign' : 'more'
    case 'other': return 'other'
    case 'request': return head.host === name ? 'http' : 'foreign'
    default: return 'foreign'
  }
}
