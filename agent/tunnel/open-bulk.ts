// Asks for one tunnel over an HTTP/1.1 connection of its own (RFC 9110 §9.3.6), and finds out why it was cut where the gateway could not say so in time.
import type { ClientHttp2Session } from 'node:http2'
import { gatewayTlsName } from '../../protocol/certificates.ts'
import { FRAMING, FRAMING_HEADER, FramedDuplex } from '../../node/framed-duplex.ts'
import type { Timers } from '../../node/timers.ts'
import { readBody, readHead, type AnswerHead } from './answer-head.ts'
import type { BulkConnection } from './bulk-connection.ts'
import { readDenial, refusalLimit, type Denial } from './denial.ts'
import { answerLimitMs, type StreamOutcome } from './open-stream.ts'

/** `marked`: the gateway says that the service carries much. */
export type BulkOutcome = Exclude<StreamOutcome, { kind: 'open' }> | { kind: 'open'; far: FramedDuplex; marked: boolean }

/**
 * Asks for a connection to `authority`; the connection is used up whatever the answer is.
 * @param onCut told when the gateway cuts the open tunnel and says why
 * @param onBroken told when it broke off without a word
 */
export async function openBulk({ connection: { socket }, authority, signal, timers, now, onCut, onBroken }: {
  connection: BulkConnection; authority: string; signal: AbortSignal; timers: Timers; now: () => number; onCut: (denial: Denial) => void; onBroken: (session: string | null) => void
}): Promise<BulkOutcome> {
  const cancel = () => socket.reset()
  let isLate = false
  const stop = timers.after(answerLimitMs, () => {
    isLate = true
    cancel()
  })
  if (signal.aborted) cancel()
  else signal.addEventListener('abort', cancel, { once: true })
  try {
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${FRAMING_HEADER}: ${FRAMING}\r\n\r\n`)
    const head = await readHead(socket)
    if (head === null) {
      socket.destroy()
      // It may have been ended while it waited: then nobody has looked at the request.
      return isLate ? { kind: 'unreachable', message: `it did not answer within ${answerLimitMs} ms` } : { kind: 'unanswered', message: 'it closed the connection without an answer' }
    }
    if (head.status === 200 && head.headers.get(FRAMING_HEADER) !== FRAMING) {
      // Without frames an upload that breaks off would look whole to the service, and a download to the program.
      socket.reset()
      return { kind: 'unanswered', message: 'it knows no frames' }
    }
    if (head.status === 200) return open(socket, head, { authority, now, onCut, onBroken })
    const body = await readBody(socket, head, refusalLimit)
    socket.destroy()
    return { kind: 'refused', denial: readDenial(body, { status: head.status, destination: authority, at: now() }) }
  } finally {
    stop()
    signal.removeEventListener('abort', cancel)
  }
}

function open(socket: BulkConnection['socket'], { headers }: AnswerHead, { authority, now, onCut, onBroken }: {
  authority: string; now: () => number; onCut: (denial: Denial) => void; onBroken: (session: string | null) => void
}): BulkOutcome {
  let wasTold = false
  const far = new FramedDuplex(socket, {
    reset: socket.reset,
    onControl(text) {
      wasTold = true
      onCut(readDenial(text, { status: 403, destination: authority, at: now() }))
    },
  })
  const session = headers.get('sallyport-session') ?? null
  // Stays for the whole life of the tunnel: an 'error' without a listener ends the agent. By a reset the gateway cuts; what the program breaks off is none.
  far.on('error', (error: NodeJS.ErrnoException) => {
    if (!wasTold && error.code === 'ECONNRESET') onBroken(session)
  })
  return { kind: 'open', far, marked: headers.get('sallyport-traffic') === 'bulk' }
}

const askLimitMs = 5_000

/**
 * Asks the gateway why it has cut a session that ran over a connection of its own.
 * @returns null when it has not cut it, or does not say
 */
export function askWhyCut({ session, serial, authority, ended, timers, now }: {
  session: ClientHttp2Session; serial: string; authority: string; ended: string; timers: Timers; now: () => number
}): Promise<Denial | null> {
  const { promise, resolve } = Promise.withResolvers<Denial | null>()
  const query = new URLSearchParams({ session: ended, destination: authority })
  const stream = session.request({ ':method': 'GET', ':path': `/.well-known/sallyport/cut?${query.toString()}`, ':scheme': 'https', ':authority': gatewayTlsName(serial) })
  const stop = timers.after(askLimitMs, () => stream.close())
  const chunks: Uint8Array[] = []
  let size = 0
  let status = 0
  stream.once('response', (headers) => {
    status = Number(headers[':status'])
  })
  stream.on('data', (chunk: Uint8Array) => {
    size += chunk.length
    if (size > refusalLimit) stream.close()
    else chunks.push(chunk)
  })
  // Nobody is waiting for it any more: the session has ended, this only explains it.
  stream.on('error', () => resolve(null))
  stream.once('close', () => {
    stop()
    resolve(status === 403 || status === 503 ? readDenial(Buffer.concat(chunks).toString('utf8'), { status, destination: authority, at: now() }) : null)
  })
  return promise
}
