// Finds a port on loopback that nobody listens on.
import { createServer } from 'node:net'

/** @param wanted taken if it is free; 0 or taken: the system picks one */
export async function freePort(wanted = 0): Promise<number> {
  const server = createServer()
  const tryPort = (port: number) => new Promise<number | null>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => (port !== 0 && (error.code === 'EADDRINUSE' || error.code === 'EACCES') ? resolve(null) : reject(error)))
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => {
      const address = server.address()
      resolve(typeof address === 'object' && address !== null ? address.port : null)
    })
  })
  const port = await tryPort(wanted) ?? await tryPort(0)
  if (port === null) throw new Error('no port can be had on 127.0.0.1')
  await new Promise((resolve) => server.close(resolve))
  return port
}
