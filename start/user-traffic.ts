// What a user's programs do: open a TCP session through the agent's proxy, and an HTTPS page at the gateway with the browser's certificate.
import { connect, type Socket } from 'node:net'
import { request } from 'node:https'

export interface Refusal { readonly status: number; readonly decision: string; readonly body: string }
export type Opened = { readonly ok: true; readonly socket: Socket; readonly closed: Promise<number> } | { readonly ok: false; readonly refusal: Refusal }

/** CONNECT through the agent's local proxy. `closed` resolves with performance.now() when the session ends. */
export function openThroughProxy(proxyPort: number, destination: string): Promise<Opened> {
  return new Promise((resolve, reject) => {
    const socket = connect(proxyPort, '127.0.0.1')
    const closed = new Promise<number>((done) => socket.once('close', () => done(performance.now())))
    let head = Buffer.alloc(0)
    socket.once('error', reject)
    socket.once('connect', () => socket.write(`CONNECT ${destination} HTTP/1.1\r\nHost: ${destination}\r\n\r\n`))
    const onData = (chunk: Buffer) => {
      head = Buffer.concat([head, chunk])
      const end = head.indexOf('\r\n\r\n')
      if (end < 0) return
      const text = head.toString('latin1')
      const status = Number(text.split(' ')[1])
      if (status !== 200) {
        const length = Number(/content-length: *(\d+)/i.exec(text)?.[1] ?? 0)
        if (head.length < end + 4 + length) return
        socket.off('data', onData)
        socket.destroy()
        const body = head.subarray(end + 4, end + 4 + length).toString('utf8')
        resolve({ ok: false, refusal: { status, decision: /D[0-9A-F]{12}-[0-9A-Z]{16}/.exec(body)?.[0] ?? '', body } })
        return
      }
      socket.off('data', onData)
      socket.off('error', reject)
      // A cut arrives as a reset; `closed` tells when, which is all the caller asks.
      socket.on('error', () => socket.destroy())
      socket.pause()
      const rest = head.subarray(end + 4)
      if (rest.length > 0) socket.unshift(rest)
      resolve({ ok: true, socket, closed })
    }
    socket.on('data', onData)
  })
}

/** Writes a line and waits for the answer to it. */
export function exchange(socket: Socket, line: string, timeoutMs = 5_000): Promise<string> {
  return new Promise((resolve, reject) => {
    let seen = ''
    const timer = setTimeout(() => finish(() => reject(new Error(`no answer to "${line}" within ${timeoutMs} ms`))), timeoutMs)
    const onClose = () => finish(() => reject(new Error('the session was closed')))
    const onData = (chunk: Buffer) => {
      seen += chunk.toString('utf8')
      if (seen.includes(`noted: ${line}\n`)) finish(() => resolve(seen))
    }
    const finish = (end: () => void) => {
      clearTimeout(timer)
      socket.off('data', onData)
      socket.off('close', onClose)
      end()
    }
    socket.on('data', onData)
    socket.once('close', onClose)
    socket.resume()
    socket.write(`${line}\n`)
  })
}

export interface BrowserIdentity { readonly certificatePem: string; readonly privateKeyPem: string }

/** GET https://<host>/ at the gateway as a browser would: name from the address bar, client certificate from its store. */
export function openPage(options: { gatewayPort: number; host: string; ca: string[]; identity: BrowserIdentity; servername?: string }): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const asked = request({
      host: '127.0.0.1', port: options.gatewayPort, servername: options.servername ?? options.host, path: '/', agent: false, ca: options.ca,
      cert: options.identity.certificatePem, key: options.identity.privateKeyPem, headers: { host: options.host, accept: 'text/html' },
    }, (response) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => { body += chunk })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }))
      response.on('error', reject)
    })
    asked.setTimeout(5_000, () => asked.destroy(new Error('the gateway did not answer within 5 s')))
    asked.on('error', reject)
    asked.end()
  })
}
