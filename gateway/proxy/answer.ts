// The client's answer, over HTTP/1.1 and HTTP/2 alike: written whole, begun, carried on or broken. What stands in it comes from others.
import type { ServerResponse } from 'node:http'
import { constants, type Http2ServerResponse } from 'node:http2'
import type { HeaderValues } from './headers.ts'

export type AnyResponse = ServerResponse | Http2ServerResponse

/** The stream or socket under an answer, broken: half an answer must not look whole. */
export const breakAnswer = (response: AnyResponse): void => {
  if ('stream' in response) response.stream.destroy(new Error('the answer was cut'))
  else response.socket?.destroy()
}

/** Answers a request in whole; what is left of the request is dropped. */
export function answer(response: AnyResponse, status: number, headers: Readonly<Record<string, string>>, body: string): void {
  if (response.headersSent || response.destroyed) return
  // Both kinds take the same arguments; the union of their overloads can't be called.
  if ('stream' in response) {
    const { stream } = response
    // RFC 9113 §8.1: the answer is whole, what the client still sends is not wanted. A turn later: a reset overtakes what is not yet written, and browsers take such a page for broken.
    if (!stream.endAfterHeaders) stream.once('finish', () => setImmediate(() => stream.close(constants.NGHTTP2_NO_ERROR)))
    response.writeHead(status, headers).end(body)
  } else response.writeHead(status, { ...headers, connection: 'close' }).end(body)
}

/** Begins an answer whose body follows. @throws Error when a header can't be written: the upstream's are not all fit for HTTP/2 */
export function begin(response: AnyResponse, status: number, headers: HeaderValues): void {
  if ('stream' in response) {
    response.writeHead(status, headers)
    return
  }
  response.writeHead(status, headers)
  // A first event may be long in coming; a small answer goes out with its head in one piece.
  setImmediate(() => {
    if (!response.destroyed && !response.writableEnded) response.flushHeaders()
  })
}

export const write = (response: AnyResponse, chunk: Uint8Array): boolean => ('stream' in response ? response.write(chunk) : response.write(chunk))
