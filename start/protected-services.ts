// Two services to protect: a page over HTTP and a ledger that answers lines over TCP. They listen on loopback and know nothing of Sallyport.
import { createServer as createHttpServer } from 'node:http'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'

export interface ProtectedServices {
  readonly httpPort: number
  readonly tcpPort: number
  close(): Promise<void>
}

const listen = (server: Server): Promise<number> => new Promise((resolve, reject) => {
  server.once('error', reject)
  server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port))
})

/** Starts both on free ports. */
export async function startProtectedServices(): Promise<ProtectedServices> {
  const http = createHttpServer((request, response) => {
    response.setHeader('content-type', 'text/plain; charset=utf-8')
    response.end(`intranet: you are device ${String(request.headers['sallyport-device-id'] ?? 'unknown')}\n`)
  })
  const sockets = new Set<Socket>()
  const tcp = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => socket.destroy())
    socket.write('ledger ready\n')
    socket.on('data', (line) => socket.write(Buffer.concat([Buffer.from('noted: '), line])))
  })
  const [httpPort, tcpPort] = await Promise.all([listen(http), listen(tcp)])
  return {
    httpPort, tcpPort,
    close: async () => {
      for (const socket of sockets) socket.destroy()
      http.closeAllConnections()
      await Promise.all([http, tcp].map((server) => new Promise((resolve) => server.close(resolve))))
    },
  }
}
