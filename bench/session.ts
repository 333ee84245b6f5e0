// One session through the gate: a raw CONNECT over mutual TLS that has carried bytes both ways, and the instant of its end.
import { connect } from 'node:tls'
import { gatewayTlsName } from '../protocol/certificates.ts'
import type { Device } from './device.ts'

export interface Session {
  /** performance.now() when the client saw the session end. */
  readonly closed: Promise<number>
  /** performance.now() when its first bytes had come back. */
  readonly openedAt: number
  /** Ends it from the client's side. */
  end(): void
}
export type Opening = { readonly open: true; readonly session: Session } | { readonly open: false; readonly answer: string }

const AUTHORITY = 'echo.bench:7000'
const HELLO = 'hello'
const LIMIT_MS = 10_000

interface Door { readonly port: number; readonly serial: string; readonly authorityPem: string }

/** Asks to be let in. Resolves with the gate's refusal, or when an echo has come back through it. */
export function openSession({ port, serial, authorityPem }: Door, { credentials }: Device): Promise<Opening> {
  const opened = Promise.withResolvers<Opening>()
  const closed = Promise.withResolvers<number>()
  const socket = connect({
    host: '127.0.0.1', port, servername: gatewayTlsName(serial), ca: authorityPem, cert: credentials.certificatePem, key: credentials.privateKeyPem, ALPNProtocols: ['http/1.1'],
  })
  let text = ''
  // A cut is a break: it may be seen as an error, an end or a close, whichever comes first.
  const ended = () => {
    const at = performance.now()
    closed.resolve(at)
    opened.resolve({ open: false, answer: text })
    socket.destroy()
  }
  socket.setNoDelay(true)
  socket.setTimeout(LIMIT_MS, () => socket.destroy(new Error('nothing came through the gate')))
  socket.on('secureConnect', () => socket.write(`CONNECT ${AUTHORITY} HTTP/1.1\r\nHost: ${AUTHORITY}\r\n\r\n`))
  socket.on('data', (chunk: Buffer) => {
    const before = text
    text += chunk.toString('latin1')
    if (!before.includes('\r\n\r\n') && /^HTTP\/1\.1 200[^]*\r\n\r\n/.test(text)) socket.write(HELLO)
    else if (text.startsWith('HTTP/1.1 200') && text.endsWith(HELLO)) {
      socket.setTimeout(0)
      opened.resolve({ open: true, session: { closed: closed.promise, openedAt: performance.now(), end: () => { socket.destroy() } } })
    }
  })
  for (const event of ['end', 'error', 'close'] as const) socket.on(event, ended)
  return opened.promise
}
