// Joins the client's tunnel and the upstream socket: each direction by itself, with back-pressure and half-close. It looks at no byte.
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { Duplex } from 'node:stream'
import type { Intake, Take } from './intake.ts'

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

/** What may wait for a client that reads slowly. Less would stop and start the upstream at every read. */
const WAITING_BYTES = 131_072

function carryDown(upstream: Socket, intake: Intake | null, client: Client, mayCarry: () => boolean, count: (bytes: number) => void): void {
  const take: Take = (piece, release) => {
    if (!mayCarry() || client.destroyed || client.writableEnded) return mayCarry()
    count(piece.length)
    // A write that failed may still be on its way below: its memory is not used again.
    const asked = !client.write(piece, (error) => {
      if (!error) release()
    })
    return !asked || client.writableLength < WAITING_BYTES
  }
  const more = () => {
    if (mayCarry()) upstream.resume()
  }
  client.on('drain', more)
  if (intake === null) {
    upstream.on('data', (chunk: Buffer) => {
      if (!take(chunk, () => {})) upstream.pause()
    })
  } else {
    intake.handTo(take)
    upstream.resume()
  }
}

function carryUp(client: Client, upstream: Socket, mayCarry: () => boolean, count: (bytes: number) => void): void {
  let gathering = false
  // TLS and HTTP/2 hand over 16 KiB at a time, several in one turn of the loop: they leave in one system call.
  const release = () => {
    gathering = false
    upstream.uncork()
  }
  client.on('data', (chunk: Uint8Array) => {
    if (!mayCarry() || upstream.destroyed || upstream.writableEnded) return
    count(chunk.length)
    if (!gathering) {
      gathering = true
      upstream.cork()
      setImmediate(release)
    }
    if (!upstream.write(chunk) && upstream.writableLength >= WAITING_BYTES) client.pause()
  })
  upstream.on('drain', () => {
    if (mayCarry()) client.resume()
  })
}

/**
 * Carries bytes both ways until both directions have ended or one side breaks; a break of one side breaks the other.
 * 'error' listeners of both sides are set here and stay.
 * @param head bytes of the client that came with its request
 * @param intake what the upstream reads, where it does not tell by 'data'
 * @returns `stop`: at once, after it not a byte more is carried, the upstream is broken, and the client's side is the caller's to end
 */
export function splice(client: Client, upstream: Socket, head: Uint8Array, onEnd: () => void, intake: Intake | null = null): { stop(): void; carried(): { up: number; down: number } } {
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
  carryUp(client, upstream, () => !stopped, (bytes) => {
    up += bytes
  })
  carryDown(upstream, intake, client, () => !stopped, (bytes) => {
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
