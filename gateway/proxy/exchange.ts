// One request told to one upstream, and its answer given to the client. It decides nothing, and tells how it ended.
import type { IncomingHttpHeaders } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Dispatcher, Pool } from 'undici'
import { begin, breakAnswer, write, type AnyResponse } from './answer.ts'
import { responseHeaders, type HeaderValues } from './headers.ts'
import type { RequestBody } from './request-body.ts'

/**
 * `unsent`: nothing of it has reached an upstream. `unanswered`: it may have, and no answer has begun.
 * `upgraded`: the upstream speaks another protocol from here on, over its socket.
 */
export type Outcome =
  | { readonly kind: 'answered' }
  | { readonly kind: 'upgraded'; readonly headers: IncomingHttpHeaders; readonly socket: Duplex }
  | { readonly kind: 'unsent' | 'unanswered'; readonly detail: string }

export interface Exchange {
  /** Settles when the answer has begun, or it is certain that there is none. */
  readonly outcome: Promise<Outcome>
  /** Ends it at once: the upstream's connection is broken. */
  stop(): void
  /** Bytes of the answer's body given to the client. */
  carried(): number
}

interface Told { readonly method: string; readonly path: string; readonly headers: HeaderValues; readonly body: RequestBody; readonly upgrade: string | null; readonly silenceMs: number; /** There is a connection, and it is told. */ readonly onTold?: () => void }

/** Sends a request over a pool. */
export function exchange(pool: Pool, { method, path, headers, body, upgrade, silenceMs, onTold }: Told, response: AnyResponse): Exchange {
  const { promise, resolve } = Promise.withResolvers<Outcome>()
  let controller: Dispatcher.DispatchController | null = null
  let begun = false
  let stopped = false
  let ended = false
  let carried = 0
  const stop = () => {
    if (stopped || ended) return
    stopped = true
    // Still waiting for a connection: it is dropped when that comes, and nobody waits for it.
    if (controller === null) resolve({ kind: 'unsent', detail: 'the session was cut' })
    else controller.abort(new Error('the session was cut'))
  }
  const handler: Dispatcher.DispatchHandler = {
    onRequestStart(given) {
      controller = given
      onTold?.()
      if (stopped) given.abort(new Error('the session was cut'))
    },
    onRequestUpgrade(_given, _status, upgraded, socket) {
      // The pool's listeners are gone; an 'error' without one would end the gateway.
      socket.on('error', () => socket.destroy())
      if (stopped) socket.destroy()
      resolve({ kind: 'upgraded', headers: upgraded, socket })
    },
    onResponseStart(given, status, told) {
      if (status < 200) return
      begin(response, status, responseHeaders(told))
      begun = true
      response.on('drain', () => given.resume())
      resolve({ kind: 'answered' })
    },
    onResponseData(given, chunk) {
      if (stopped || response.destroyed) return
      carried += chunk.length
      if (!write(response, chunk)) given.pause()
    },
    onResponseEnd() {
      ended = true
      // The whole answer was there before the cut; whether the client gets its end is the cut's to say.
      if (!stopped) response.end()
    },
    onResponseError(_given, error) {
      ended = true
      if (begun) breakAnswer(response)
      resolve({ kind: controller === null ? 'unsent' : 'unanswered', detail: error.message })
    },
  }
  // The pool's connections know whom to verify; a name of its own for each Host would end a kept connection whenever another host is asked for.
  const asked: Dispatcher.DispatchOptions & { servername: string } = { method, path, headers, body: body.stream, upgrade: upgrade ?? undefined, servername: 'upstream', headersTimeout: silenceMs, bodyTimeout: silenceMs }
  pool.dispatch(asked, handler)
  return { outcome: promise, stop, carried: () => carried }
}
