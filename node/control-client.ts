// The client of the HTTP API: calls any operation of the contract, signs where there is an identity, and learns the EMS clock.
import type { TLSSocket } from 'node:tls'
import { Agent, buildConnector, request } from 'undici'
import { WebSocket } from 'ws'
import { signRequest } from '../identity/request-signature.ts'
import { utf8, type Bytes } from '../identity/encoding.ts'
import { Fault, problem, type Problem } from '../protocol/faults.ts'
import { retval } from '../protocol/fabric/envelope.ts'
import type { Call, Operation, Reply } from '../protocol/operation.ts'
import type { Log } from './logging.ts'
import { tlsTrust, type InvalidCertificateAction } from './tls-trust.ts'

/** With what requests are signed: a certificate, or on joining a bare key. */
export interface Identity { readonly privateKey: CryptoKey; readonly certificateDer?: Bytes; readonly spkiDer?: Bytes }

export interface ControlClientOptions {
  /** Origin of the EMS, https. */
  readonly ems: string
  readonly identity?: () => Identity | null
  /** Administrator's bearer token. */
  readonly token?: string
  readonly tlsCa?: readonly string[]
  readonly invalidCertificateAction?: InvalidCertificateAction
  readonly now: () => number
  readonly log: Log
  readonly timeoutMs?: number
}

export interface ControlClient {
  /** Calls an operation. Throws a `Fault`: the EMS's own, or `busy` when it was not reached. */
  call<Op extends Operation>(operation: Op, input?: Call<Op>): Promise<Reply<Op>>
  /** Opens a websocket operation with a signed upgrade. The caller handles its events. */
  openSocket(operation: Operation, subprotocol: string): Promise<WebSocket>
  /** EMS clock minus ours, ms, learned over verified TLS. */
  offset(): number
  /** Our clock corrected by it. */
  emsNow(): number
  close(): Promise<void>
}

const MAX_REPLY_BYTES = 64 * 1024 * 1024

/** Makes a client for one EMS. Connections are kept and reused until `close`. */
export function createControlClient(options: ControlClientOptions): ControlClient {
  const trust = tlsTrust(options.invalidCertificateAction ?? 'deny', options.tlsCa ?? [], options.log)
  const timeoutMs = options.timeoutMs ?? 15_000
  // A resumed TLS session is not checked for its name again: none is kept.
  const connectTls = buildConnector({ timeout: timeoutMs, maxCachedSessions: 0, rejectUnauthorized: trust.rejectUnauthorized, ...(trust.ca === undefined ? {} : { ca: trust.ca }) })
  const agent = new Agent({
    connect: (wanted, callback) => connectTls(wanted, (error, socket) => {
      if (error !== null || socket === null) return callback(error ?? new Error('not connected'), null)
      try {
        trust.check(socket as TLSSocket)
        callback(null, socket)
      } catch (cause) {
        socket.destroy()
        callback(cause as Error, null)
      }
    }),
    headersTimeout: timeoutMs, bodyTimeout: timeoutMs, maxResponseSize: MAX_REPLY_BYTES,
  })
  let offset = 0
  const emsNow = () => options.now() + offset

  const headersFor = async (method: string, url: string, body: Bytes): Promise<Record<string, string>> => {
    const identity = options.identity?.() ?? null
    return {
      ...(identity === null ? {} : await signRequest({ method, url, body, now: emsNow(), ...identity })),
      ...(options.token === undefined ? {} : { authorization: `Bearer ${options.token}` }),
      ...(body.length > 0 ? { 'content-type': 'application/json' } : {}),
    }
  }

  async function send(operation: Operation, url: string, body: Bytes): Promise<{ status: number; text: string }> {
    try {
      const headers = await headersFor(operation.method, url, body)
      const response = await request(url, { dispatcher: agent, method: operation.method, headers, ...(body.length > 0 ? { body } : {}) })
      return { status: response.statusCode, text: await response.body.text() }
    } catch (cause) {
      throw new Fault('busy', `The EMS at ${options.ems} was not reached: ${reasonOf(cause)}`, { cause })
    }
  }

  async function call<Op extends Operation>(operation: Op, input?: Call<Op>): Promise<Reply<Op>> {
    const url = urlOf(options.ems, operation, input)
    const given = (input as { body?: unknown } | undefined)?.body
    const body = utf8(given === undefined ? '' : JSON.stringify(given))
    const verified = trust.watch()
    let answer = await send(operation, url, body)
    if (answer.status >= 400) {
      const fault = readFault(answer)
      // The EMS clock is believed only over TLS that verified; the answer itself is not signed.
      if (fault.code !== 'clock_skew' || fault.extras.emsTime === undefined || !verified()) throw fault
      offset = fault.extras.emsTime - options.now()
      options.log.info({ event: 'clock-offset-learned', offset }, 'The clock of this device differs from the EMS clock; requests are signed by the EMS clock.')
      answer = await send(operation, url, body)
      if (answer.status >= 400) throw readFault(answer)
    }
    const parsed = operation.reply.safeParse(operation.surface === 'pem' ? answer.text : parseJson(answer.text))
    if (!parsed.success) throw new Fault('internal', `The EMS answered ${operation.id} in a form this program does not know.`, { cause: parsed.error })
    return parsed.data as Reply<Op>
  }

  return {
    call,
    offset: () => offset,
    emsNow,
    async openSocket(operation, subprotocol) {
      const url = urlOf(options.ems, operation, undefined)
      const headers = await headersFor('GET', url, utf8(''))
      const socket = new WebSocket(url.replace(/^https/, 'wss'), subprotocol, {
        headers, handshakeTimeout: timeoutMs, maxPayload: 4 * 1024 * 1024, perMessageDeflate: false,
        rejectUnauthorized: trust.rejectUnauthorized, ...(trust.ca === undefined ? {} : { ca: trust.ca }),
      })
      socket.once('upgrade', (response) => {
        try {
          trust.check(response.socket as TLSSocket)
        } catch (cause) {
          options.log.warn({ event: 'socket-refused', reason: reasonOf(cause) }, 'The websocket was closed: the TLS certificate is not acceptable.')
          socket.terminate()
        }
      })
      return socket
    },
    close: () => agent.destroy(),
  }
}

const reasonOf = (cause: unknown): string => (cause instanceof Error ? (cause as NodeJS.ErrnoException).code ?? cause.message : String(cause))

function urlOf(ems: string, operation: Operation, input: unknown): string {
  const { params = {}, query = {} } = (input ?? {}) as { params?: Record<string, string>; query?: Record<string, unknown> }
  const path = operation.path.replaceAll(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(params[name] ?? ''))
  const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== undefined).map(([name, value]): [string, string] => [name, String(value)]))
  return `${ems}${path}${search.size > 0 ? `?${search.toString()}` : ''}`
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // not JSON: no reply schema but that of sockets takes undefined, so the caller reports it
  }
}

const faultOf = ({ code, detail, errors, emsTime, document, sequence, retryAfterSeconds }: Problem): Fault => new Fault(code, detail, { errors, emsTime, document, sequence, retryAfterSeconds })

/** A fault from a problem document, from the fabric envelope, or from a bare status (a proxy in between). */
function readFault({ status, text }: { status: number; text: string }): Fault {
  const json = parseJson(text)
  const told = problem.safeParse(json)
  if (told.success) return faultOf(told.data)
  const result = (json as { result?: { retval?: unknown; message?: unknown; code?: unknown } } | undefined)?.result
  if (retval.safeParse(result?.retval).success) {
    const asProblem = problem.safeParse((json as { problem?: unknown }).problem)
    if (asProblem.success) return faultOf(asProblem.data)
  }
  return new Fault(status === 429 || status >= 502 ? 'busy' : 'internal', `The EMS answered ${status}.`)
}
