// Reads the head of one HTTP/1.1 answer from a socket and leaves everything behind it there. The far side is known: a gateway that has proved itself, or this machine's own proxy.
import type { Socket } from 'node:net'

export interface AnswerHead { readonly status: number; readonly headers: ReadonlyMap<string, string> }

const headLimitBytes = 16_384

function parse(text: string): AnswerHead | null {
  const [first = '', ...lines] = text.split('\r\n')
  const status = /^HTTP\/1\.1 (\d{3})(?: |$)/.exec(first)?.[1]
  if (status === undefined) return null
  return { status: Number(status), headers: new Map(lines.flatMap((line): [string, string][] => {
    const colon = line.indexOf(':')
    return colon < 1 ? [] : [[line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]]
  })) }
}

/** @returns null when the connection ended before an answer was whole, or what came is none. The socket is paused afterwards. */
export function readHead(socket: Socket): Promise<AnswerHead | null> {
  const { promise, resolve } = Promise.withResolvers<AnswerHead | null>()
  let held: Uint8Array = new Uint8Array()
  const finish = (head: AnswerHead | null) => {
    socket.pause()
    socket.off('data', take)
    socket.off('end', fail)
    socket.off('close', fail)
    resolve(head)
  }
  const fail = () => finish(null)
  const take = (chunk: Uint8Array) => {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk])
    const end = Buffer.from(held.buffer, held.byteOffset, held.length).indexOf('\r\n\r\n')
    if (end === -1) return held.length > headLimitBytes ? fail() : undefined
    finish(parse(Buffer.from(held.subarray(0, end)).toString('latin1')))
    const rest = held.subarray(end + 4)
    if (rest.length > 0) socket.unshift(rest)
  }
  socket.on('data', take)
  socket.once('end', fail)
  socket.once('close', fail)
  socket.resume()
  return promise
}

/** Reads a body of at most `limit` bytes: as long as the answer says, else to the end. What is longer, or breaks off, reads as far as it came. */
export function readBody(socket: Socket, { headers }: AnswerHead, limit: number): Promise<string> {
  const wanted = Math.min(limit, Number(headers.get('content-length') ?? limit) || 0)
  const { promise, resolve } = Promise.withResolvers<string>()
  const chunks: Uint8Array[] = []
  let size = 0
  const finish = () => {
    socket.pause()
    socket.off('data', take)
    socket.off('end', finish)
    socket.off('close', finish)
    resolve(Buffer.concat(chunks).subarray(0, wanted).toString('utf8'))
  }
  const take = (chunk: Uint8Array) => {
    chunks.push(chunk)
    size += chunk.length
    if (size >= wanted) finish()
  }
  if (wanted === 0) return Promise.resolve('')
  socket.on('data', take)
  socket.once('end', finish)
  socket.once('close', finish)
  socket.resume()
  return promise
}
