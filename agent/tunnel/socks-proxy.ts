// The SOCKS5 dialect (RFC 1928): no authentication (the peer's owner is known already), CONNECT and UDP ASSOCIATE; BIND is refused.
import type { Socket } from 'node:net'
import type { Opener, Outcome } from './opener.ts'
import { readSocksAddress } from './socks-address.ts'
import { splice } from './splice.ts'
import type { Target } from './target.ts'
import type { Associate } from './udp-association.ts'
import type { Timers } from '../../node/timers.ts'

const handshakeLimitMs = 15_000
/** Version, up to 255 methods; then at most 4 + 1 + 255 + 2. What a program pipelines behind it waits in the socket. */
const handshakeLimitBytes = 65_536

const replies = { succeeded: 0, failed: 1, notAllowed: 2, networkUnreachable: 3, hostUnreachable: 4, connectionRefused: 5, commandUnsupported: 7, addressUnsupported: 8 } as const
const replyOf = { gateway: replies.connectionRefused, refused: replies.connectionRefused, network: replies.networkUnreachable, host: replies.hostUnreachable, failed: replies.failed } as const

/** A reply (§6). The bound address is not ours to tell, hence zeros. */
const reply = (code: number): Uint8Array => Uint8Array.of(5, code, 0, 1, 0, 0, 0, 0, 0, 0)
/** Where the datagrams of an association are to be sent. */
const associated = (port: number): Uint8Array => Uint8Array.of(5, replies.succeeded, 0, 1, 127, 0, 0, 1, port >> 8, port & 255)
const replyTo = (outcome: Exclude<Outcome, { kind: 'open' }>): number => (outcome.kind === 'refused' ? replies.notAllowed : replyOf[outcome.why])

type Step<Value> = { kind: 'more' } | { kind: 'done'; value: Value; used: number } | { kind: 'wrong'; answer: Uint8Array | null }

/** Reads the greeting (§3): version, number of methods, methods. */
export function readGreeting(bytes: Uint8Array): Step<null> {
  if (bytes.length > 0 && bytes[0] !== 5) return { kind: 'wrong', answer: null }
  const used = 2 + (bytes[1] ?? 0)
  if (bytes.length < 2 || bytes.length < used) return { kind: 'more' }
  return bytes.subarray(2, used).includes(0) ? { kind: 'done', value: null, used } : { kind: 'wrong', answer: Uint8Array.of(5, 0xff) }
}

/** `expected`: the port that datagrams will come from; 0: it is not said. */
type Request = { command: 'connect'; target: Target } | { command: 'associate'; expected: number }

/** Reads the request (§4): version, command, 0, address type, address, port. */
export function readRequest(bytes: Uint8Array): Step<Request> {
  if (bytes.length > 0 && bytes[0] !== 5) return { kind: 'wrong', answer: null }
  const address = readSocksAddress(bytes, 3)
  if (address.kind === 'more') return address
  if (address.kind === 'unknown-type') return { kind: 'wrong', answer: reply(replies.addressUnsupported) }
  const { target, port, end: used } = address
  if (bytes[1] === 3) return { kind: 'done', value: { command: 'associate', expected: port }, used }
  if (bytes[1] !== 1) return { kind: 'wrong', answer: reply(replies.commandUnsupported) }
  return target === null ? { kind: 'wrong', answer: reply(replies.failed) } : { kind: 'done', value: { command: 'connect', target }, used }
}

/**
 * Makes the SOCKS side of the proxy.
 * @returns a function that serves one admitted, paused socket
 */
export function createSocksProxy({ open, associate, timers }: { open: Opener; associate: Associate; timers: Timers }): (socket: Socket) => void {
  return (socket) => {
    let held: Uint8Array = new Uint8Array()
    let greeted = false
    const controller = new AbortController()
    const stopWaiting = timers.after(handshakeLimitMs, () => socket.destroy())
    socket.once('close', () => {
      stopWaiting()
      controller.abort()
    })

    function refuse(answer: Uint8Array | null): void {
      finish()
      if (!answer || !socket.writable) {
        socket.destroy()
        return
      }
      socket.end(answer, () => socket.destroySoon())
      socket.resume()
    }
    function finish(): void {
      stopWaiting()
      socket.pause()
      socket.off('data', take)
      socket.off('end', abandon)
    }
    async function connect(target: Target, head: Uint8Array): Promise<void> {
      finish()
      const outcome = await open(target, controller.signal)
      if (outcome.kind !== 'open') return refuse(reply(replyTo(outcome)))
      socket.write(reply(replies.succeeded))
      splice(socket, outcome.far, head)
      socket.resume()
    }
    async function beginAssociation(expected: number): Promise<void> {
      finish()
      const association = await associate(expected)
      // It ends with this connection, however that ends (§7). What else is said here has no meaning.
      socket.once('close', association.close)
      socket.once('end', abandon)
      if (socket.destroyed) association.close()
      else socket.write(associated(association.port))
      socket.resume()
    }
    function abandon(): void {
      socket.destroy()
    }
    function take(chunk: Uint8Array): void {
      held = held.length === 0 ? chunk : Buffer.concat([held, chunk])
      if (held.length > handshakeLimitBytes * 2) return abandon()
      if (!greeted) {
        const greeting = readGreeting(held)
        if (greeting.kind === 'wrong') return refuse(greeting.answer)
        if (greeting.kind === 'more') return
        greeted = true
        held = held.subarray(greeting.used)
        socket.write(Uint8Array.of(5, 0))
      }
      const request = readRequest(held)
      if (request.kind === 'wrong') return refuse(request.answer)
      if (request.kind !== 'done') return
      const { value, used } = request
      const done = value.command === 'connect' ? connect(value.target, held.subarray(used)) : beginAssociation(value.expected)
      done.catch(() => refuse(reply(replies.failed)))
    }
    socket.on('data', take)
    socket.once('end', abandon)
    socket.resume()
  }
}
