// Joins a local socket and the far side, each direction by itself, with back-pressure and half-close. It looks at no byte itself.
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

/** The far side: a TCP socket, frames over a TLS socket, or an HTTP/2 stream, which tells by `rstCode` that it was reset. */
export type Far = Duplex & {
  readonly rstCode?: number
  /** Told of each piece that is carried, either way. */
  onCarried?: (bytes: number) => void
}

const wasReset = (far: Far): boolean => far.rstCode !== undefined && far.rstCode !== 0

/** Ends a local socket by RST: a cut session must not look like a complete answer to the program that reads it. */
export function cut(client: Socket): void {
  if (!client.destroyed) client.resetAndDestroy()
}

/**
 * Gives up the far side. Never by HTTP/2's `close(code)`: Node sends END_STREAM ahead of that reset, and half an upload would
 * look whole; `destroy` with an error sends the reset alone.
 */
export function abandon(far: Far): void {
  if (far instanceof Socket) far.resetAndDestroy()
  else far.destroy(new Error('the local program went away'))
}

/** What of a piece may go on now, the empty piece while that is not known; null: none, both sides have been cut. */
export type Pass = (chunk: Uint8Array) => Uint8Array | null
const all: Pass = (chunk) => chunk

function carry(from: Duplex, to: Duplex, far: Far, pass: Pass): void {
  from.on('data', (piece: Uint8Array) => {
    const chunk = pass(piece)
    if (chunk === null || chunk.length === 0) return
    far.onCarried?.(chunk.length)
    if (!to.destroyed && !to.write(chunk)) from.pause()
  })
  to.on('drain', () => from.resume())
}

/**
 * Carries bytes both ways until both directions have ended or one side breaks; a break of one side resets the other.
 * @param client the local program's socket, with `allowHalfOpen`
 * @param head bytes that the program had sent before the far side was open
 * @param pass looks at what the program sends before it goes on; nobody does unless said
 */
export function splice(client: Socket, far: Far, head: Uint8Array, pass: Pass = all): void {
  let clientEnded = false
  let farEnded = false
  const cutClient = () => cut(client)
  // HTTP/2 raises 'aborted' the moment a reset comes, before the data that is still queued has been read.
  far.on('aborted', () => {
    if (wasReset(far)) cutClient()
  })
  far.on('error', cutClient)
  client.on('error', () => abandon(far))
  far.on('end', () => {
    farEnded = true
    // A reset may follow END_STREAM in the same read; only then is it known that this was no end but a cut.
    setImmediate(() => {
      if (wasReset(far)) cutClient()
      else client.end()
    })
  })
  client.on('end', () => {
    clientEnded = true
    far.end()
  })
  far.on('close', () => {
    if (!farEnded || wasReset(far)) cutClient()
    else setImmediate(() => client.destroySoon())
  })
  client.on('close', () => {
    // The program went away without saying that it had finished: neither has the far side anyone to talk to.
    if (!clientEnded || !farEnded) abandon(far)
  })
  if (head.length > 0) far.write(head)
  carry(client, far, far, pass)
  carry(far, client, far, all)
  if (client.destroyed) abandon(far)
  else if (far.destroyed) cutClient()
}
