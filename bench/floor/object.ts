// The least that an object can do to tell its listeners: hibernating websockets, and one frame a call.
import { DurableObject } from 'cloudflare:workers'
import { FLOOR_SUBPROTOCOL } from './operations.ts'

export class FloorObject extends DurableObject {
  override fetch(): Response {
    const pair = new WebSocketPair()
    this.ctx.acceptWebSocket(pair[1])
    return new Response(null, { status: 101, webSocket: pair[0], headers: { 'sec-websocket-protocol': FLOOR_SUBPROTOCOL } })
  }
  tell(frame: { at: number }): void {
    for (const socket of this.ctx.getWebSockets()) socket.send(JSON.stringify(frame))
  }
  override webSocketClose(socket: WebSocket): void { socket.close() }
}
