// The body of a request on its way to an upstream: counted, bounded in size and time. When the upstream fails, the client's side stays whole to be answered.
import { IncomingMessage } from 'node:http'
import type { Http2ServerRequest } from 'node:http2'
import { Readable } from 'node:stream'
import type { Timers } from '../../node/timers.ts'

export type AnyRequest = IncomingMessage | Http2ServerRequest

/** Why a request could not be taken in whole. */
export type BodyFailure = 'too-large' | 'too-slow'

export interface RequestBody {
  /** null: the request has no body. */
  readonly stream: Readable | null
  /** Bytes that have come. */
  readonly size: () => number
  readonly failure: () => BodyFailure | null
  /** Whether any of it has been read: it can't be told a second time. */
  readonly begun: () => boolean
}

/** Whether a body follows the head. Node's parsers have refused what announces one in two ways. */
function hasBody(request: AnyRequest): boolean {
  if (!(request instanceof IncomingMessage)) return !request.stream.endAfterHeaders
  return request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length'] ?? 0) > 0
}

/** Whether the announced length alone is too much. */
export const announcesTooMuch = (request: AnyRequest, limitBytes: number): boolean => Number(request.headers['content-length'] ?? 0) > limitBytes

/** Takes over the request's data. */
export function takeBody(request: AnyRequest, { limitBytes, limitMs, timers }: { readonly limitBytes: number; readonly limitMs: number; readonly timers: Timers }): RequestBody {
  let size = 0
  let failure: BodyFailure | null = null
  if (!hasBody(request)) {
    request.resume()
    return { stream: null, size: () => 0, failure: () => null, begun: () => false }
  }
  let begun = false
  const stream = new Readable({
    read() {
      begun = true
      request.resume()
    },
    destroy(error, done) {
      stop()
      // What still comes is drunk and dropped, so that the answer can be read.
      request.removeListener('data', take)
      request.resume()
      done(error)
    },
  })
  const fail = (why: BodyFailure) => {
    failure ??= why
    stream.destroy(new Error(`the request is ${why}`))
  }
  const stop = Number.isFinite(limitMs) ? timers.after(limitMs, () => fail('too-slow')) : () => {}
  const take = (chunk: Uint8Array) => {
    size += chunk.length
    if (size > limitBytes) fail('too-large')
    else if (!stream.push(chunk)) request.pause()
  }
  request.pause()
  request.on('data', take)
  request.once('end', () => {
    stop()
    stream.push(null)
  })
  request.once('close', () => {
    if (!stream.readableEnded && !request.readableEnded) stream.destroy(new Error('the client went away'))
  })
  stream.on('error', () => stop())
  return { stream, size: () => size, failure: () => failure, begun: () => begun }
}
