// A stream that hands on bytes only, between node:http and an HTTP/2 stream. Seen in Node 24.21: a POST whose header string and body
// node:http wrote straight to the HTTP/2 stream arrived with zeros for its first bytes; written as bytes it arrives whole.
import { Duplex } from 'node:stream'
import type { Far } from './splice.ts'

/** Wraps `inner`; strings become bytes before it sees them, back-pressure and half-close are kept. */
export function byteDuplex(inner: Far): Duplex {
  const outer = new Duplex({
    read: () => {
      inner.resume()
    },
    write: (chunk: Uint8Array, _encoding, done) => {
      inner.onCarried?.(chunk.length)
      inner.write(chunk, done)
    },
    final: (done) => {
      inner.end(done)
    },
    destroy: (error, done) => {
      inner.destroy(error ?? undefined)
      done(error)
    },
  })
  inner.on('data', (chunk: Uint8Array) => {
    inner.onCarried?.(chunk.length)
    if (!outer.push(chunk)) inner.pause()
  })
  inner.on('end', () => outer.push(null))
  inner.on('error', (error) => outer.destroy(error))
  inner.on('aborted', () => outer.destroy(new Error('the gateway cut the session')))
  inner.on('close', () => {
    if (!inner.readableEnded) outer.destroy(new Error('the connection was closed'))
  })
  return outer
}
