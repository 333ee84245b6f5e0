// What a user's programs do: reach services through the agent's local proxy, by HTTP and by SOCKS5. They know nothing of gateways.
import { request } from 'node:http'
import { connect, type Socket } from 'node:net'

/** GET by the HTTP proxy. Rejects when the proxy is not there. */
export function visit(httpPort: number, url: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', port: httpPort, path: url, headers: { host: new URL(url).host, connection: 'close' }, timeout: 30_000 }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk) => { text += String(chunk) })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
      response.on('error', reject)
    })
    asked.on('timeout', () => asked.destroy(new Error('the proxy does not answer')))
    asked.on('error', reject)
    asked.end()
  })
}

export type Opened =
  | { readonly ok: true; readonly greeting: string; readonly socket: Socket; /** When it was closed, ms. */ readonly closed: Promise<number> }
  /** The reply code of SOCKS5 (RFC 1928 §6): 2 is a refusal by rule. */
  | { readonly ok: false; readonly reply: number }

/** Opens a TCP session by the SOCKS5 proxy and waits for the service's first words. */
export function openSession(socksPort: number, host: string, port: number): Promise<Opened> {
  return new Promise((resolve, reject) => {
    const socket = connect(socksPort, '127.0.0.1')
    const { promise: closed, resolve: tellClosed } = Promise.withResolvers<number>()
    socket.once('close', () => {
      tellClosed(Date.now())
      reject(new Error('the proxy closed the connection before it had answered'))
    })
    socket.on('error', () => socket.destroy())
    socket.setTimeout(30_000, () => socket.destroy())
    const name = Buffer.from(host)
    socket.write(Buffer.concat([Buffer.from([5, 1, 0, 5, 1, 0, 3, name.length]), name, Buffer.from([port >> 8, port & 255])]))
    let received = Buffer.alloc(0)
    const take = (chunk: Buffer) => {
      received = Buffer.concat([received, chunk])
      // Two bytes answer the greeting, ten the request.
      if (received.length < 12) return
      const reply = received[3] ?? 1
      if (reply !== 0) {
        socket.destroy()
        return resolve({ ok: false, reply })
      }
      if (received.length === 12) return
      socket.off('data', take)
      socket.resume()
      socket.setTimeout(0)
      resolve({ ok: true, greeting: received.subarray(12).toString('utf8'), socket, closed })
    }
    socket.on('data', take)
  })
}
