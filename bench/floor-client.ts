// The far end of the floor's socket: when a frame came, and the EMS's instant in it.
import type { ControlClient } from '../node/control-client.ts'
import { FLOOR_SUBPROTOCOL, floorFrame, floorSocket } from './floor/operations.ts'

export interface Frame { readonly arrivedAt: number; readonly at: number }
export interface FloorClient {
  /** Resolves at the next frame; `arrivedAt` by performance.now(). */
  nextFrame(): Promise<Frame>
  close(): Promise<void>
}

/** Opens the socket; resolves when it is open. */
export async function openFloor(client: ControlClient): Promise<FloorClient> {
  const socket = await client.openSocket(floorSocket, FLOOR_SUBPROTOCOL)
  let heard = Promise.withResolvers<Frame>()
  socket.on('message', (data: Buffer) => {
    const arrivedAt = performance.now()
    heard.resolve({ arrivedAt, ...floorFrame.parse(JSON.parse(data.toString('utf8'))) })
    heard = Promise.withResolvers<Frame>()
  })
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  await new Promise<void>((resolve, reject) => {
    socket.once('open', resolve)
    socket.on('error', (cause) => {
      reject(cause)
      heard.reject(cause)
    })
  })
  return {
    nextFrame: () => heard.promise,
    async close() {
      socket.close()
      await closed
    },
  }
}
