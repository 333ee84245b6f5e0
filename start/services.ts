// Two services that only the gateway reaches: one speaks HTTP, one plain TCP. They stand for what an organisation protects.
import { createServer as createHttpServer } from 'node:http'
import { createServer as createTcpServer, type Server, type Socket } from 'node:net'

export interface ProtectedServices { close(): Promise<void> }

const INTRANET_PAGE = 'The intranet: you are here because this machine is healthy.\n'
/** What the TCP service says first; then it says back whatever it hears. */
export const LEDGER_GREETING = 'ledger ready\n'

/** Starts both on loopback. Throws when a port can't be had. */
export async function startServices(ports: { http: number; tcp: number }): Promise<ProtectedServices> {
  const sockets = new Set<Socket>()
  const keep = (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    socket.on('error', () => socket.destroy())
  }
  const http = createHttpServer((_, response) => response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' }).end(INTRANET_PAGE))
  const tcp = createTcpServer((socket) => {
    socket.write(LEDGER_GREETING)
    socket.pipe(socket)
  })
  for (const server of [http, tcp]) server.on('connection', keep)
  const listen = (server: Server, port: number) => new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
  await Promise.all([listen(http, ports.http), listen(tcp, ports.tcp)])
  return {
    async close() {
      const closed = [http, tcp].map((server) => new Promise((resolve) => server.close(resolve)))
      for (const socket of sockets) socket.destroy()
      await Promise.all(closed)
    },
  }
}
