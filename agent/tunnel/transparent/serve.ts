// Serves a connection whose destination is known without the program having said it: it goes to a gateway or nowhere, never directly.
import type { Socket } from 'node:net'
import type { Timers } from '../../../node/timers.ts'
import { denialText } from '../denial.ts'
import type { Opener, Outcome } from '../opener.ts'
import { abandon, cut, splice, type Far } from '../splice.ts'
import { authorityOf, type Target } from '../target.ts'
import type { TunnelLog } from '../tunnel-log.ts'
import { judge, type Judgement } from './first-bytes.ts'

export interface TransparentServer {
  /** The program dialled the address of a name. */
  name(socket: Socket, target: Target): void
  /** The program dialled this very address. */
  address(socket: Socket, target: Target): void
}

const FIRST_BYTES_WITHIN_MS = 15_000
/** Of some protocols the server speaks first (SMTP, MySQL): then the way is opened, and what the program says is judged when it comes. */
const SERVER_FIRST_AFTER_MS = 250
/** Ports where a browser may well connect ahead and say nothing for a while, and where no server speaks first. */
const webPorts = new Set([80, 443, 8080, 8443])
const nothing = new Uint8Array()

const tell = (socket: Socket, status: string, text: string): void => {
  socket.end(`HTTP/1.1 ${status}\r\ncontent-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\ncache-control: no-store\r\ncontent-length: ${Buffer.byteLength(text)}\r\nconnection: close\r\n\r\n${text}`, () => socket.destroySoon())
  socket.resume()
}

export function createTransparentServer({ open, isProtected, timers, log }: { open: Opener; isProtected: (target: Target) => boolean; timers: Timers; log: TunnelLog }): TransparentServer {
  function refuse(socket: Socket, target: Target): void {
    log.warn({ event: 'transparent_refused', destination: authorityOf(target) }, 'Refused a connection to a protected name\'s address: it asked for another name')
    cut(socket)
  }
  /** Only HTTP has words for a refusal; what is under TLS sees a reset. */
  function explain(socket: Socket, outcome: Exclude<Outcome, { kind: 'open' }>, spoken: Judgement): void {
    if (spoken !== 'http' || !socket.writable) cut(socket)
    else if (outcome.kind === 'refused') tell(socket, '403 Forbidden', denialText(outcome.denial))
    else tell(socket, '502 Bad Gateway', `${outcome.message}\n`)
  }
  async function way(socket: Socket, target: Target, spoken: Judgement): Promise<Far | null> {
    const controller = new AbortController()
    const abort = () => controller.abort()
    socket.once('close', abort)
    // The profile may have changed since the listener was opened: what is no longer protected is not ours to carry.
    const outcome: Outcome = isProtected(target) ? await open(target, controller.signal) : { kind: 'unreachable', why: 'failed', message: `${authorityOf(target)} is no longer protected` }
    socket.off('close', abort)
    if (outcome.kind !== 'open') {
      if (!socket.destroyed) explain(socket, outcome, spoken)
      return null
    }
    if (!socket.destroyed) return outcome.far
    abandon(outcome.far)
    return null
  }

  async function join(socket: Socket, target: Target, spoken: Judgement, head: Uint8Array): Promise<void> {
    const far = await way(socket, target, spoken)
    if (far === null) return
    splice(socket, far, head)
    socket.resume()
  }
  /** The program has said nothing yet: the server may, and what the program then says goes on once it is judged. */
  async function joinUnheard(socket: Socket, target: Target): Promise<void> {
    const far = await way(socket, target, 'more')
    if (far === null) return
    let heldBack: Uint8Array = nothing
    let isJudged = false
    splice(socket, far, nothing, (chunk) => {
      if (isJudged) return chunk
      heldBack = heldBack.length === 0 ? chunk : Buffer.concat([heldBack, chunk])
      const judgement = judge(heldBack, target.host)
      if (judgement === 'more') return nothing
      if (judgement === 'foreign') {
        refuse(socket, target)
        abandon(far)
        return null
      }
      isJudged = true
      return heldBack
    })
    socket.resume()
  }

  return {
    name(socket, target) {
      let heard: Uint8Array = nothing
      const stopWaiting = timers.after(FIRST_BYTES_WITHIN_MS, () => cut(socket))
      const stopListening = webPorts.has(target.port) ? () => {} : timers.after(SERVER_FIRST_AFTER_MS, () => {
        if (heard.length > 0) return
        finish()
        joinUnheard(socket, target).catch(() => cut(socket))
      })
      function finish(): void {
        stopWaiting()
        stopListening()
        socket.pause()
        socket.off('data', take)
        socket.off('end', leave)
        socket.off('close', finish)
      }
      function leave(): void {
        socket.destroy()
      }
      function take(chunk: Uint8Array): void {
        heard = heard.length === 0 ? chunk : Buffer.concat([heard, chunk])
        const judgement = judge(heard, target.host)
        if (judgement === 'more') return
        finish()
        if (judgement === 'foreign') refuse(socket, target)
        else join(socket, target, judgement, heard).catch(() => cut(socket))
      }
      socket.on('data', take)
      socket.once('end', leave)
      socket.once('close', finish)
      socket.resume()
    },
    address(socket, target) {
      join(socket, target, 'other', nothing).catch(() => cut(socket))
    },
  }
}
