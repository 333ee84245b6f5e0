// What stands behind the proxies of the race, in a process of its own: one TCP port that echoes, sends or drinks as its first bytes say, and one HTTP port.
import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'

/** The first byte of a connection; `down` and `up` are followed by a count of bytes (8 bytes, big-endian). */
export const orders = { echo: 1, down: 2, up: 3 } as const
export const ORDER_BYTES = 9
export interface SourcePorts { readonly tcp: number; readonly http: number }
export const BODY = 'hello from behind the gate\n'

const CHUNK = Buffer.alloc(65_536, 'x')

function send(socket: Socket, bytes: number): void {
  let left = bytes
  const more = () => {
    while (left > 0) {
      const part = left >= CHUNK.length ? CHUNK : CHUNK.subarray(0, left)
      left -= part.length
      if (!socket.write(part)) return
    }
  }
  socket.on('drain', more)
  more()
}

function serve(socket: Socket): void {
  socket.setNoDelay(true)
  socket.on('error', () => socket.destroy())
  let head = Buffer.alloc(0)
  let left = 0
  const drink = (chunk: Uint8Array) => {
    left -= chunk.length
    if (left === 0) socket.write('.')
  }
  const read = (chunk: Buffer) => {
    head = Buffer.concat([head, chunk])
    if (head[0] === orders.echo) {
      socket.off('data', read)
      if (head.length > 1) socket.write(head.subarray(1))
      socket.on('data', (bytes) => socket.write(bytes))
    } else if (head.length >= ORDER_BYTES) {
      socket.off('data', read)
      const bytes = Number(head.readBigUInt64BE(1))
      if (head[0] === orders.down) {
        socket.on('data', () => {})
        send(socket, bytes)
      } else {
        left = bytes
        socket.on('data', drink)
        drink(head.subarray(ORDER_BYTES))
      }
    }
  }
  socket.on('data', read)
}

const listen = async (server: Server): Promise<number> => {
  server.listen({ port: 0, host: '127.0.0.1', backlog: 4_096 })
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

if (process.send !== undefined) {
  const http = createHttpServer({ keepAliveTimeout: 600_000 }, (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/plain', 'content-length': BODY.length })
    response.end(BODY)
  })
  const ports: SourcePorts = { tcp: await listen(createServer(serve)), http: await listen(http) }
  process.send(ports)
  process.on('disconnect', () => process.exit(0))
}
