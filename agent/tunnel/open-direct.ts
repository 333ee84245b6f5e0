// Dials a destination that no gateway protects, as the program itself would have done.
import { connect, type Socket } from 'node:net'

export type DirectOutcome = { kind: 'open'; far: Socket } | { kind: 'unreachable'; why: Unreachable; message: string }
/** Why nothing could be reached; SOCKS tells these apart. */
export type Unreachable = 'gateway' | 'refused' | 'network' | 'host' | 'failed'

const causes: Record<string, Unreachable> = {
  ECONNREFUSED: 'refused', ENETUNREACH: 'network', EHOSTUNREACH: 'host', ENOTFOUND: 'host', EAI_AGAIN: 'host', ETIMEDOUT: 'host',
}
const dialLimitMs = 30_000

/** Connects by TCP; names are resolved by the system, every address is tried (RFC 8305). */
export function openDirect({ host, port, signal }: { host: string; port: number; signal: AbortSignal }): Promise<DirectOutcome> {
  const { promise, resolve } = Promise.withResolvers<DirectOutcome>()
  const far = connect({ host, port, allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 })
  const cancel = () => far.destroy()
  const limit = setTimeout(() => far.destroy(new Error(`no connection within ${dialLimitMs} ms`)), dialLimitMs)
  const settled = () => {
    clearTimeout(limit)
    signal.removeEventListener('abort', cancel)
  }
  let failure: NodeJS.ErrnoException = new Error('the connection was closed')
  // Stays for the whole life of the socket: an 'error' without a listener ends the agent.
  far.on('error', (error) => {
    failure = error
  })
  far.once('connect', () => {
    settled()
    resolve({ kind: 'open', far })
  })
  far.once('close', () => {
    settled()
    resolve({ kind: 'unreachable', why: causes[failure.code ?? ''] ?? 'failed', message: failure.message || (failure.code ?? 'failed') })
  })
  if (signal.aborted) cancel()
  else signal.addEventListener('abort', cancel, { once: true })
  return promise
}
