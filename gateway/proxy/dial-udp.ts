// Opens a UDP socket that hears and reaches one of the addresses that were checked, and no other. It sends nothing.
import { createSocket, type Socket } from 'node:dgram'

export type DialledUdp = { readonly ok: true; readonly socket: Socket } | { readonly ok: false; readonly detail: string }

const MAX_ADDRESSES = 4

function dialOne(address: string, port: number): Promise<DialledUdp> {
  const { promise, resolve } = Promise.withResolvers<DialledUdp>()
  const family = address.includes(':') ? 6 : 4
  // Resolved already: nothing may ask again.
  const socket = createSocket({ type: `udp${family}`, lookup: (_host, _options, done) => done(null, address, family) })
  const fail = (error: Error) => {
    socket.close()
    resolve({ ok: false, detail: error.message })
  }
  socket.once('error', fail)
  socket.once('connect', () => {
    socket.removeListener('error', fail)
    resolve({ ok: true, socket })
  })
  socket.connect(port, address)
  return promise
}

/** Takes the first address to which there is a way: whether anybody is there shows when something is sent. */
export async function dialUdp(addresses: readonly string[], port: number): Promise<DialledUdp> {
  let outcome: DialledUdp = { ok: false, detail: 'there is no address' }
  for (const address of addresses.slice(0, MAX_ADDRESSES)) {
    outcome = await dialOne(address, port)
    if (outcome.ok) return outcome
  }
  return outcome
}
