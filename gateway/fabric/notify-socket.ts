// One websocket to FcmNotify, from opening to end: the proof, hello, frames, and the ping that notices a line gone dead. What messages mean is decided elsewhere.
import type { IncomingMessage } from 'node:http'
import type { RawData } from 'ws'
import { answerChallenge } from '../../identity/socket-challenge.ts'
import type { ControlClient } from '../../node/control-client.ts'
import { faultCode, type FaultCode } from '../../protocol/faults.ts'
import { NOTIFY_PING, NOTIFY_PONG, NOTIFY_SUBPROTOCOL, serverFrame, type FromGateway, type ToGateway } from '../../protocol/fabric/notify.ts'
import { notify } from '../../protocol/operations/fabric.ts'
import type { Timers } from '../../node/timers.ts'

export type SocketEnd =
  | { readonly kind: 'closed' | 'silent' | 'unreadable' | 'unreachable' | 'stopped'; readonly detail: string }
  /** The upgrade was refused, and by what code when the EMS said one. */
  | { readonly kind: 'refused'; readonly code: FaultCode | null; readonly detail: string }

interface Options {
  readonly client: ControlClient
  readonly privateKey: CryptoKey
  readonly timers: Timers
  /** The challenge has been answered: from here on `send` works. */
  readonly onProved: (send: (message: FromGateway) => void) => void
  /** The messages of one frame. */
  readonly onMessages: (messages: readonly ToGateway[]) => void
  readonly signal: AbortSignal
}

export const PING_EVERY_MS = 15_000
/** How long after a ping something must have come. */
export const PONG_WITHIN_MS = 10_000
const MAX_REFUSAL_BYTES = 65_536

const readFrame = (text: string) => {
  try {
    return serverFrame.safeParse(JSON.parse(text)).data ?? null
  } catch {
    return null // not JSON: the caller ends the socket
  }
}

const textOf = (data: RawData): string => (Array.isArray(data) ? Buffer.concat(data) : data instanceof ArrayBuffer ? Buffer.from(data) : data).toString('utf8')

/** The fault code in the body of a refused upgrade; null when a proxy in between answered. */
async function refusalOf(response: IncomingMessage): Promise<FaultCode | null> {
  let text = ''
  for await (const chunk of response) {
    text += String(chunk)
    if (text.length > MAX_REFUSAL_BYTES) return null
  }
  try {
    const json = JSON.parse(text) as { code?: unknown; problem?: { code?: unknown } } | null
    return faultCode.safeParse(json?.problem?.code ?? json?.code).data ?? null
  } catch {
    return null // no JSON: not the EMS's own refusal
  }
}

/** Opens the socket and serves it; resolves with how it ended. It never rejects for what the far side does. */
export async function holdNotifySocket(options: Options): Promise<SocketEnd> {
  const { client, timers, signal } = options
  if (signal.aborted) return { kind: 'stopped', detail: 'stopped' }
  const socket = await client.openSocket(notify, NOTIFY_SUBPROTOCOL)
  return await new Promise((resolve) => {
    let cancelTimer = () => {}
    let challenged = false
    const end = (how: SocketEnd) => {
      cancelTimer()
      signal.removeEventListener('abort', stop)
      socket.terminate()
      resolve(how)
    }
    const stop = () => end({ kind: 'stopped', detail: 'stopped' })
    signal.addEventListener('abort', stop)

    const watchLine = () => {
      cancelTimer()
      cancelTimer = timers.after(PING_EVERY_MS, () => {
        if (socket.readyState !== socket.OPEN) return
        socket.send(NOTIFY_PING)
        cancelTimer = timers.after(PONG_WITHIN_MS, () => end({ kind: 'silent', detail: 'nothing came after a ping' }))
      })
    }
    const send = (message: FromGateway) => {
      if (socket.readyState === socket.OPEN) socket.send(JSON.stringify(message))
    }
    const prove = (challenge: string) => {
      answerChallenge(options.privateKey, challenge, 'gateway').then((signature) => {
        send({ type: 'answer', signature })
        options.onProved(send)
      }).catch((cause: Error) => end({ kind: 'unreadable', detail: cause.message }))
    }

    socket.on('open', watchLine)
    socket.on('message', (data: RawData, isBinary: boolean) => {
      watchLine()
      const text = textOf(data)
      if (text === NOTIFY_PONG) return
      const messages = isBinary ? null : readFrame(text)
      if (messages === null) return end({ kind: 'unreadable', detail: 'a frame that this program does not know' })
      const challenge = messages.find((message) => message.type === 'challenge')
      if (challenge !== undefined) {
        // One proof for one socket: nobody gets a second signature out of it.
        if (challenged) return end({ kind: 'unreadable', detail: 'a second challenge' })
        challenged = true
        prove(challenge.challenge)
      }
      const others = messages.filter((message) => message.type !== 'challenge')
      try {
        if (others.length > 0) options.onMessages(others)
      } catch (cause) {
        end({ kind: 'unreadable', detail: cause instanceof Error ? cause.message : String(cause) })
      }
    })
    socket.on('unexpected-response', (_request, response: IncomingMessage) => {
      refusalOf(response).then((code) => end({ kind: 'refused', code, detail: `the EMS answered ${response.statusCode ?? 0}` }), (cause: Error) => end({ kind: 'unreachable', detail: cause.message }))
    })
    socket.on('error', (cause: Error) => end({ kind: 'unreachable', detail: cause.message }))
    socket.on('close', (code: number) => end({ kind: 'closed', detail: `closed with ${code}` }))
  })
}
