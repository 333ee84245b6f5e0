// A source of strangers, in a process of its own: so many bare TCP connections, or TLS handshakes without a certificate, each second, from as many addresses as loopback has.
import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls, createSecureContext } from 'node:tls'

export interface AttackSetting {
  /** `tcp`: a connection that says nothing, held until the gate ends it. `tls`: a handshake; one of ten then asks for a tunnel. */
  readonly kind: 'tcp' | 'tls'
  readonly port: number
  readonly perSecond: number
  readonly servername: string
  readonly authority: string
}
/**
 * `made`: connected, or shaken hands; the others were ended by the gate before that was seen here. `asked`, `refused` and `opened`: tunnels.
 * `late`: not begun, because as many were open as this process may have. `seconds`: how long it took.
 */
export interface AttackCounts { begun: number; made: number; asked: number; refused: number; opened: number; late: number; seconds: number }

const TICK_MS = 10
/** Below the limit of open files. */
const MOST_OPEN = 6_000
const ASKS = 10
const CONNECT = 'CONNECT echo.bench:7000 HTTP/1.1\r\nHost: echo.bench:7000\r\n\r\n'

/** One address has 28,000 ports, and a limit by address would be passed by whoever has many. */
const someAddress = (): string => `127.${1 + Math.floor(Math.random() * 30)}.${Math.floor(Math.random() * 256)}.${1 + Math.floor(Math.random() * 250)}`

/** Begins at once. @returns ends it and tells what was done */
function attack({ kind, port, perSecond, servername, authority }: AttackSetting): () => AttackCounts {
  const counts: AttackCounts = { begun: 0, made: 0, asked: 0, refused: 0, opened: 0, late: 0, seconds: 0 }
  const open = new Set<Socket>()
  const secureContext = createSecureContext({ ca: authority, minVersion: 'TLSv1.3' })
  const hold = (socket: Socket) => {
    counts.begun++
    open.add(socket)
    socket.on('error', () => socket.destroy())
    socket.once('close', () => open.delete(socket))
    socket.resume()
  }
  const one = () => {
    const to = { host: '127.0.0.1', port, localAddress: someAddress() }
    if (kind === 'tcp') {
      const socket = connectTcp(to)
      hold(socket)
      socket.once('connect', () => counts.made++)
      return
    }
    const socket = connectTls({ ...to, servername, secureContext, ALPNProtocols: ['http/1.1'] })
    hold(socket)
    socket.once('secureConnect', () => {
      counts.made++
      if (counts.made % ASKS !== 0) {
        // Not broken off: the gate would not see the end of the handshake.
        socket.end()
        return
      }
      counts.asked++
      socket.once('data', (head: Buffer) => {
        const answer = head.toString('latin1', 0, 12)
        if (answer === 'HTTP/1.1 403') counts.refused++
        if (answer === 'HTTP/1.1 200') counts.opened++
        socket.destroy()
      })
      socket.write(CONNECT)
    })
  }
  let due = 0
  const from = performance.now()
  const timer = setInterval(() => {
    for (const until = (performance.now() - from) / 1_000 * perSecond; due < until; due++) {
      if (open.size >= MOST_OPEN) counts.late++
      else one()
    }
  }, TICK_MS)
  return () => {
    clearInterval(timer)
    counts.seconds = (performance.now() - from) / 1_000
    for (const socket of open) socket.destroy()
    return counts
  }
}

if (process.send !== undefined) {
  process.once('message', (setting: AttackSetting) => {
    const stop = attack(setting)
    process.once('message', () => process.send?.(stop(), () => process.exit(0)))
  })
  process.on('disconnect', () => process.exit(0))
  process.send('ready')
}
