// The push channel of agents: one hibernating websocket each, a sixteenth of all agents per object. It decides nothing about endpoints.
import { DurableObject } from 'cloudflare:workers'
import { CHANNEL_PING, CHANNEL_PONG, CHANNEL_SUBPROTOCOL, fromAgent, MAX_AGENT_FRAME_BYTES, type ToAgent } from '../protocol/channel.ts'
import type { Env } from '../workers/env.ts'
import { acceptChallenged, attachmentOf, isProved, proveSocket, readFrame } from './proved-socket.ts'

type Goodbye = Extract<ToAgent, { type: 'bye' }>['reason']

export class EndpointChannel extends DurableObject<Env> {
  constructor(context: DurableObjectState, env: Env) {
    super(context, env)
    // Pings are answered by the platform: an idle laptop wakes nobody and costs nothing.
    context.setWebSocketAutoResponse(new WebSocketRequestResponsePair(CHANNEL_PING, CHANNEL_PONG))
  }

  override fetch(request: Request): Response {
    const { response, socket, challenge } = acceptChallenged(this.ctx, request, CHANNEL_SUBPROTOCOL)
    send(socket, { type: 'challenge', challenge })
    return response
  }

  override async webSocketMessage(socket: WebSocket, frame: string | ArrayBuffer): Promise<void> {
    const message = fromAgent.safeParse(readFrame(frame, MAX_AGENT_FRAME_BYTES))
    if (!message.success) return bye(socket, 'bad-message')
    if (message.data.type === 'answer') {
      if (!await proveSocket(socket, message.data.signature, 'agent')) return bye(socket, 'bad-challenge')
      for (const other of this.ctx.getWebSockets(attachmentOf(socket).name)) if (other !== socket && isProved(other)) bye(other, 'replaced')
      return send(socket, { type: 'welcome', at: Date.now() })
    }
    if (!isProved(socket)) bye(socket, 'bad-challenge')
  }

  override webSocketClose(socket: WebSocket, code: number): void {
    // Always reciprocated: without it the client waits for its own time-out.
    socket.close(code === 1005 || code === 1006 ? 1000 : code)
  }

  /** Sends a message to an agent; false when it is not connected here. A hint: what must happen is also found by asking. */
  push(uid: string, message: ToAgent): boolean {
    const sockets = this.ctx.getWebSockets(uid).filter(isProved)
    for (const socket of sockets) send(socket, message)
    return sockets.length > 0
  }

  /** Sends a message to every agent of this shard. */
  broadcast(message: ToAgent): number {
    const sockets = this.ctx.getWebSockets().filter(isProved)
    for (const socket of sockets) send(socket, message)
    return sockets.length
  }

  /** Closes an agent's sockets; with a serial, only those opened by that certificate. */
  end(uid: string, serial: string | null, reason: Goodbye): void {
    for (const socket of this.ctx.getWebSockets(uid)) if (serial === null || attachmentOf(socket).serial === serial) bye(socket, reason)
  }

  /** Whether an agent's socket is open and proved. */
  connected(uid: string): boolean {
    return this.ctx.getWebSockets(uid).some(isProved)
  }
}

function send(socket: WebSocket, message: ToAgent): void {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message))
}
function bye(socket: WebSocket, reason: Goodbye): void {
  send(socket, { type: 'bye', reason })
  socket.close(4000, reason)
}
