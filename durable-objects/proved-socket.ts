// A websocket that proves itself before anything is said: 32 random bytes that must come back signed. The state rides in the socket's attachment, so it survives hibernation.
import { fromBase64 } from '../identity/encoding.ts'
import { newChallenge, verifyAnswer } from '../identity/socket-challenge.ts'
import type { Purpose } from '../protocol/certificates.ts'

/** Who holds the socket, as the Worker admitted it. */
export interface Attachment {
  readonly name: string
  readonly serial: string
  /** SPKI of the certificate's key, base64. */
  readonly key: string
  /** The challenge that is open; null once it was answered. */
  readonly challenge: string | null
  readonly openedAt: number
  /** The protocol that it said hello with; nothing is told before. */
  readonly protocol?: string
  /** The watermark up to which it was told. */
  readonly told?: string
}

/** Accepts the upgrade with hibernation and returns the challenge to send. */
export function acceptChallenged(context: DurableObjectState, request: Request, subprotocol: string): { response: Response; socket: WebSocket; challenge: string } {
  const pair = new WebSocketPair()
  const [client, socket] = [pair[0], pair[1]]
  const name = request.headers.get('x-uid') ?? request.headers.get('x-gateway') ?? ''
  const challenge = newChallenge()
  const attachment: Attachment = { name, serial: request.headers.get('x-serial') ?? '', key: request.headers.get('x-key') ?? '', challenge, openedAt: Date.now() }
  context.acceptWebSocket(socket, [name])
  socket.serializeAttachment(attachment)
  return { response: new Response(null, { status: 101, webSocket: client, headers: { 'sec-websocket-protocol': subprotocol } }), socket, challenge }
}

export const attachmentOf = (socket: WebSocket): Attachment => socket.deserializeAttachment() as Attachment
export const isProved = (socket: WebSocket): boolean => attachmentOf(socket).challenge === null

/** Checks the answer; a proved socket stays proved, a wrong answer is final. */
export async function proveSocket(socket: WebSocket, signature: string, purpose: Purpose): Promise<boolean> {
  const attachment = attachmentOf(socket)
  const spki = fromBase64(attachment.key)
  if (attachment.challenge === null || spki === null || !await verifyAnswer(spki, attachment.challenge, purpose, signature)) return false
  socket.serializeAttachment({ ...attachment, challenge: null })
  return true
}

/** Parses a frame; null when it is too large, not text, or not JSON. */
export function readFrame(frame: string | ArrayBuffer, maxBytes: number): unknown {
  if (typeof frame !== 'string' || frame.length > maxBytes) return null
  try {
    return JSON.parse(frame)
  } catch {
    return null // not JSON: the caller closes the socket with `bad-message`
  }
}
