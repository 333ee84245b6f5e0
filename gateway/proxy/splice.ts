// Joins the client's tunnel and the upstream socket: each direction by itself, with back-pressure and half-close. It looks at no byte.
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { Duplex } from 'node:stream'

/** The client's side: a TLS socket, or an HTTP/2 stream, which tells by `rstCode` that it was reset. */
export type Client = Duplex & { readonly rstCode?: number }

const wasReset = (client: Client): boolean => client.rstCode !== undefined && client.rstCode !== 0

/** Breaks the client's side. For HTTP/2 `destroy` with an error sends a reset alone; `close(code)` would send END_STREAM first and look complete. */
export function breakClient(client: Client): void {
  if (!client.destroyed) client.destroy(new Error('the far side of the tunnel broke'))
}

/** Ends an upstream by RST: an upload that was cut must not look complete. Over TLS the missing close_notify says so. */
export function breakUpstream(upstream: Socket): void {
  if (upstream.destroyed) return
  if (upstream instanceof TLSSocket) upstream.destroy()
  else upstream.resetAndDestroy()
}

function carry(from: Duplex, to: Duplex, mayCarry: () => boolean, count: (bytes: number) => void): void {
  from.on('data', (chunk: Uint8Array) => {
    if (!mayCarry() || to.destroyed || to.writableEnded) return
    count(chunk.length)
    if (!to.write(chunk)) from.pause()
  })
  to.on('drain', () => {
    if (mayCarry()) from.resume()
  })
}

/**
 * Carries bytes both ways until both directions have ended or one side breaks; a break of one side breaks the other.
 * 'error' listeners of both sides are set here and stay.
 * @param head bytes of the client that came with its request
 * @returns `stop`: at once, after it not a byte more is carried, the upstream is broken, and the client's side is the caller's to end
 */
export function splice(client: Client, upstream: Socket, head: Uint8Array, onEnd: () => void): { stop(): void; carried(): { up: number; down: number } } {
  let stopped = false
  let up = head.length
  let down = 0
  let clientEnded = false
  let upstreamEnded = false
  let told = false
  const tellEnd = () => {
    if (told || !client.destroyed || !upstream.destroyed) return
    told = true
    onEnd()
  }
  const dropUpstream = () => breakUpstream(upstream)
  const dropClient = () => {
    if (!stopped) breakClient(client)
  }
  client.on('error', dropUpstream)
  client.on('aborted', () => {
    if (wasReset(client)) dropUpstream()
  })
  client.on('end', () => {
    clientEnded = true
    // A reset may follow END_STREAM in the same read; only then is it known that this was no end but a break.
    setImmediate(() => {
      if (stopped || wasReset(client)) dropUpstream()
      else if (!upstream.destroyed) upstream.end()
    })
  })
  client.on('close', () => {
    if (!clientEnded || !upstreamEnded || wasReset(client)) dropUpstream()
    tellEnd()
  })
  upstream.on('error', dropClient)
  upstream.on('end', () => {
    upstreamEnded = true
    if (!stopped && !client.destroyed) client.end()
  })
  upstream.on('close', () => {
    if (!upstreamEnded) dropClient()
    tellEnd()
  })
  if (head.length > 0) upstream.write(head)
  carry(client, upstream, () => !stopped, (bytes) => {
    up += bytes
  })
  carry(upstream, client, () => !stopped, (bytes) => {
    down += bytes
  })
  if (client.destroyed) dropUpstream()
  else if (upstream.destroyed) dropClient()
  return {
    stop() {
      stopped = true
      upstream.pause()
      dropUpstream()
    },
    carried: () => ({ up, down }),
  }
}
