// Opens one CONNECT stream at a gateway (RFC 9113 §8.5) and reads the gateway's answer. It carries no traffic.
import { constants, type ClientHttp2Session, type ClientHttp2Stream, type OutgoingHttpHeaders } from 'node:http2'
import { readCut, readDenial, refusalLimit, type Denial } from './denial.ts'
import type { Far } from './splice.ts'
import type { Timers } from '../../node/timers.ts'

export type StreamOutcome =
  /** `marked`: the gateway says that the service carries much. */
  | { kind: 'open'; far: ClientHttp2Stream & Far; marked: boolean }
  | { kind: 'refused'; denial: Denial }
  | { kind: 'unreachable'; message: string }
  /** The connection ended or declined before the gateway had looked at the request: it may be asked again. */
  | { kind: 'unanswered'; message: string }

// The gateway may look the endpoint up, resolve a name and dial before it answers.
export const answerLimitMs = 20_000

/** Collects the body of an answer; empty where it is longer than `limitBytes`. */
export function readBody(stream: ClientHttp2Stream, limitBytes: number): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  const chunks: Uint8Array[] = []
  let size = 0
  const finish = () => resolve(size > limitBytes ? '' : Buffer.concat(chunks).toString('utf8'))
  stream.on('data', (chunk: Uint8Array) => {
    size += chunk.length
    if (size > limitBytes) stream.close(constants.NGHTTP2_CANCEL)
    else chunks.push(chunk)
  })
  stream.once('end', finish)
  stream.once('close', finish)
  return promise
}

/**
 * Asks the gateway for a connection to `authority`.
 * @param request what is asked instead of a plain CONNECT
 * @param signal the local program has gone away: the stream is cancelled
 * @param onCut told when the gateway cuts the open stream and says why (trailers)
 */
export function openStream({ session, authority, request = { ':method': 'CONNECT', ':authority': authority }, signal, timers, now, onCut }: {
  session: ClientHttp2Session; authority: string; request?: OutgoingHttpHeaders | undefined; signal: AbortSignal; timers: Timers; now: () => number; onCut: (denial: Denial) => void
}): Promise<StreamOutcome> {
  const { promise, resolve } = Promise.withResolvers<StreamOutcome>()
  let stream: ClientHttp2Stream
  try {
    stream = session.request(request, { endStream: false })
  } catch (error) {
    return Promise.resolve({ kind: 'unanswered', message: error instanceof Error ? error.message : String(error) })
  }
  const cancel = () => stream.close(constants.NGHTTP2_CANCEL)
  const stopWaiting = timers.after(answerLimitMs, () => {
    resolve({ kind: 'unreachable', message: `it did not answer within ${answerLimitMs} ms` })
    cancel()
  })
  const settled = () => {
    stopWaiting()
    signal.removeEventListener('abort', cancel)
  }
  let answered = false
  let failure = 'it closed the stream without an answer'
  // Stays for the whole life of the stream: an 'error' without a listener ends the agent.
  stream.on('error', (error) => {
    failure = error.message
  })
  stream.once('close', () => {
    settled()
    if (answered) return
    resolve(stream.rstCode === constants.NGHTTP2_REFUSED_STREAM || session.closed || session.destroyed
      ? { kind: 'unanswered', message: failure } : { kind: 'unreachable', message: failure })
  })
  stream.once('response', (headers) => {
    settled()
    answered = true
    const status = Number(headers[':status'])
    if (status === 200) {
      stream.once('trailers', (trailers) => {
        const denial = readCut(trailers['sallyport-denial'], { destination: authority, at: now() })
        if (!denial) return
        onCut(denial)
        cancel()
      })
      resolve({ kind: 'open', far: stream, marked: headers['sallyport-traffic'] === 'bulk' })
      return
    }
    stream.end()
    // A gateway that never ends its refusal is not waited for.
    const stopReading = timers.after(5_000, cancel)
    readBody(stream, refusalLimit).then((body) => {
      stopReading()
      resolve({ kind: 'refused', denial: readDenial(body, { status, destination: authority, at: now() }) })
    }, (error: Error) => resolve({ kind: 'unreachable', message: error.message }))
  })
  if (signal.aborted) cancel()
  else signal.addEventListener('abort', cancel, { once: true })
  return promise
}
