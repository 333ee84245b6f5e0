// Finds a port on loopback that nobody listens on, and that nobody is given before it is used.
import { randomInt } from 'node:crypto'
import { createServer } from 'node:net'

/** Below what systems hand out to whoever connects or asks for any port (Linux: from 32768): such a one may be somebody's a moment later, or at the next start. */
const CHOSEN = { from: 20_000, below: 32_000 }
const TRIES = 50

/** Resolves with the port when it can be had, else with null. */
const tryPort = (wanted: number, host: string) => new Promise<number | null>((resolve, reject) => {
  const server = createServer()
  server.once('error', (error: NodeJS.ErrnoException) => (wanted !== 0 && (error.code === 'EADDRINUSE' || error.code === 'EACCES') ? resolve(null) : reject(error)))
  server.listen({ port: wanted, host, exclusive: true }, () => {
    const address = server.address()
    server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : null))
  })
})

/** @param wanted taken if it is free; 0 or taken: another one */
export async function freePort(wanted = 0, host = '127.0.0.1'): Promise<number> {
  let port = wanted === 0 ? null : await tryPort(wanted, host)
  for (let tries = 0; port === null && tries < TRIES; tries++) port = await tryPort(randomInt(CHOSEN.from, CHOSEN.below), host)
  port ??= await tryPort(0, host)
  if (port === null) throw new Error(`no port can be had on ${host}`)
  return port
}
