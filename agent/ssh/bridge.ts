// Carries a program's two streams to a destination through the agent's local proxy, which asks a gateway. It holds no policy, and decides nothing.
import { connect, type Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { readBody, readHead } from '../tunnel/answer-head.ts'
import { authorityOf, type Target } from '../tunnel/target.ts'

/** How it ended; `message`: why nothing was carried, or why it broke off, for a person. */
export type Bridged = { readonly ok: true } | { readonly ok: false; readonly message: string }

const REFUSAL_LIMIT_BYTES = 65_536
const NOT_SERVED = 'The local proxy cut the connection: it serves only the user for whom this machine was enrolled.'

/** Each direction ends by itself; a break of the far side ends both. */
function carry(socket: Socket, input: Readable, output: Writable, target: Target): Promise<Bridged> {
  const { promise, resolve } = Promise.withResolvers<Bridged>()
  let failure: NodeJS.ErrnoException | null = null
  let unwritten: NodeJS.ErrnoException | null = null
  socket.on('error', (error) => { failure = error })
  output.on('error', (error) => {
    unwritten ??= error
    socket.destroy()
  })
  input.on('error', () => socket.destroy())
  socket.once('close', () => {
    // Nobody reads any more: that is the program's own end. All else that was lost is said.
    if (unwritten?.code === 'EPIPE') resolve({ ok: true })
    else if (unwritten !== null) resolve({ ok: false, message: `What came from ${authorityOf(target)} could not be written: ${unwritten.message}.` })
    else if (failure !== null) resolve({ ok: false, message: `The session with ${authorityOf(target)} was cut (${failure.code ?? failure.message}); agent status says why, where a gateway did it.` })
    else output.end(() => resolve({ ok: true }))
  })
  socket.pipe(output)
  input.pipe(socket)
  return promise
}

/** @param input ends what is sent; what comes is read on until its own end */
export async function bridge({ proxyPort, target, input, output }: { proxyPort: number; target: Target; input: Readable; output: Writable }): Promise<Bridged> {
  const socket = connect({ host: '127.0.0.1', port: proxyPort, allowHalfOpen: true, noDelay: true })
  let failure: Error | null = null
  socket.on('error', (error) => { failure = error })
  const authority = authorityOf(target)
  socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`)
  const head = await readHead(socket)
  if (head === null) {
    socket.destroy()
    const { code = '' } = (failure ?? {}) as NodeJS.ErrnoException
    return { ok: false, message: code === 'ECONNREFUSED' ? 'The local proxy does not listen any more. Try again: agent status says where it does.' : NOT_SERVED }
  }
  if (head.status === 200) return await carry(socket, input, output, target)
  const message = (await readBody(socket, head, REFUSAL_LIMIT_BYTES)).trimEnd()
  socket.destroy()
  return { ok: false, message }
}
