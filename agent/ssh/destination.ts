// Where a person wants to go by SSH, read strictly: what stands here becomes words of other programs' command lines, names of files and lines of configuration.
import { UsageError } from '../../node/config.ts'
import { canonicalHost, type Target } from '../tunnel/target.ts'

const SSH_PORT = 22
/** A name that logs in on a host; neither an option nor anything that a shell or `ssh` expands. */
const LOGIN = /^[A-Za-z0-9_][A-Za-z0-9._+@-]{0,127}$/
/** Whether a principal is what an account on a host is called; many are e-mails, which hosts map. */
export const isAccount = (principal: string): boolean => /^[A-Za-z_][A-Za-z0-9._-]{0,31}$/.test(principal)

function readPort(text: string | undefined): number {
  const port = text === undefined ? SSH_PORT : Number(text)
  if (text !== undefined && (!/^\d{1,5}$/.test(text) || port < 1 || port > 65_535)) throw new UsageError(`"${text}" is no port: a number from 1 to 65535.`)
  return port
}
function readHost(text: string): string {
  const host = canonicalHost(text)
  if (host === null) throw new UsageError(`"${text}" is neither the name of a host nor an address.`)
  return host
}

/** Reads `HOST PORT`, or one word `HOST:PORT`; the port may be left out where `isPortFree`. */
export function readTarget([first, second, ...rest]: readonly string[], isPortFree: boolean): Target {
  if (first === undefined || rest.length > 0) throw new UsageError('Name one host and its port, like wiki.corp.example:22.')
  if (second !== undefined) return { host: readHost(first), port: readPort(second) }
  // An IPv6 address without brackets has no port behind it.
  const [, host = first, port] = /^(\[[^\]]*\]|[^:]*):([^:]*)$/.exec(first) ?? []
  if (port === undefined && !isPortFree) throw new UsageError('Name the port too, like wiki.corp.example:22.')
  return { host: readHost(host), port: readPort(port) }
}

/** Reads `[user@]HOST[:port]`. */
export function readDestination(word: string | undefined): Target & { readonly user: string | null } {
  if (word === undefined) throw new UsageError('ssh needs a host, like ada@wiki.corp.example.')
  const at = word.lastIndexOf('@')
  const user = at < 0 ? null : word.slice(0, at)
  if (user !== null && !LOGIN.test(user)) throw new UsageError(`"${user}" is no name to log in by.`)
  return { ...readTarget([word.slice(at + 1)], true), user }
}
