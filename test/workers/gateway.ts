// A gateway and an agent's channel under test, by the front door: real sockets through the Worker to the real objects.
import { exports } from 'cloudflare:workers'
import { exportPublicKey, generateKey } from '../../identity/keys.ts'
import { createCsr } from '../../identity/request.ts'
import { signRequest } from '../../identity/request-signature.ts'
import { answerChallenge } from '../../identity/socket-challenge.ts'
import { utf8, type Bytes } from '../../identity/encoding.ts'
import type { Purpose } from '../../protocol/certificates.ts'
import type { ToGateway } from '../../protocol/fabric/notify.ts'
import { der, ORIGIN, send, TOKEN, type Answer } from './ems.ts'

const { default: worker } = exports as unknown as { default: { fetch(request: Request): Promise<Response> } }
export interface Caller { readonly keys: CryptoKeyPair; readonly certificate: Bytes }
export interface Gateway extends Caller { readonly serial: string }
export const INIT = '/api/v1/fabric_device_auth/fortigate/init'

/** A request signed with a certificate. */
export async function by(caller: Caller, method: string, path: string, body?: unknown): Promise<Answer> {
  const headers = await signRequest({ method, url: `${ORIGIN}${path}`, body: utf8(body === undefined ? '' : JSON.stringify(body)), privateKey: caller.keys.privateKey, certificateDer: caller.certificate, now: Date.now() })
  return await send(method, path, { body, headers })
}
/** Asks to join, signed by the bare key. */
export async function init(keys: CryptoKeyPair, changes: object = {}): Promise<Answer> {
  const body = { serial_number: 'edge', csr: await createCsr(keys, 'edge'), ...changes }
  const headers = await signRequest({ method: 'POST', url: `${ORIGIN}${INIT}`, body: utf8(JSON.stringify(body)), privateKey: keys.privateKey, spkiDer: await exportPublicKey(keys.publicKey), now: Date.now() })
  return await send('POST', INIT, { body, headers })
}
export const dataOf = ({ json }: Answer) => json.data as Record<string, unknown>

/** A gateway that has joined and was authorised. */
export async function joined(): Promise<Gateway> {
  const keys = await generateKey()
  const { serial } = dataOf(await init(keys)) as { serial: string }
  const done = await updateAuth(serial, true)
  if (done.status !== 200) throw new Error(`not authorised: ${JSON.stringify(done.json)}`)
  return { serial, keys, certificate: der(dataOf(await init(keys)).certificate) }
}
export const TOKEN_HEADER = { authorization: `Bearer ${TOKEN}` }
export const updateAuth = (id: string, authorized: boolean) => send('PATCH', '/api/v1/fabric_device_auth/update_auth', { body: { devices_to_update: [{ id, authorized }] }, headers: TOKEN_HEADER })
export const update = (serial: string, body: object) => send('PATCH', `/api/v1/fabric_device_auth/${serial}/update`, { body, headers: TOKEN_HEADER })

/** Frames as they came, and the next that fits. */
export interface Listening<M> {
  readonly socket: WebSocket
  readonly frames: M[]
  /** The first frame from here on that fits; frames are looked at once. */
  next(fits: (frame: M) => boolean): Promise<M>
  readonly closed: Promise<number>
}
export function listen<M>(socket: WebSocket): Listening<M> {
  const frames: M[] = []
  const waiting = new Set<() => void>()
  let seen = 0
  socket.addEventListener('message', ({ data }) => {
    if (data !== 'pong') frames.push(JSON.parse(String(data)) as M)
    for (const wake of waiting) wake()
  })
  const closed = new Promise<number>((resolve) => { socket.addEventListener('close', ({ code }) => { resolve(code) }) })
  socket.accept()
  return {
    socket, frames, closed,
    async next(fits) {
      const until = Date.now() + 30_000
      for (;;) {
        while (seen < frames.length) {
          const frame = frames[seen++]
          if (frame !== undefined && fits(frame)) return frame
        }
        if (Date.now() > until) throw new Error(`no such frame; last: ${JSON.stringify(frames.at(-1))}`)
        await new Promise<void>((resolve) => {
          const wake = () => { waiting.delete(wake); clearTimeout(timer); resolve() }
          const timer = setTimeout(wake, 200)
          waiting.add(wake)
        })
      }
    },
  }
}

/** Opens a websocket as a signed caller, without saying anything yet. */
export async function open<M>(caller: Caller, path: string): Promise<Listening<M>> {
  const headers = await signRequest({ method: 'GET', url: `${ORIGIN}${path}`, body: utf8(''), privateKey: caller.keys.privateKey, certificateDer: caller.certificate, now: Date.now() })
  const response = await worker.fetch(new Request(`${ORIGIN}${path}`, { headers: { ...headers, upgrade: 'websocket' } }))
  if (response.webSocket === null) throw new Error(`no websocket: ${response.status} ${await response.text()}`)
  return listen<M>(response.webSocket)
}
export const NOTIFY = '/api/v1/fabric/notify'
export const CHANNEL = '/api/v1/endpoint/channel'
export const answerTo = (caller: Caller, challenge: string, purpose: Purpose) => answerChallenge(caller.keys.privateKey, challenge, purpose)

export type Frame = ToGateway[]
export const has = (type: ToGateway['type']) => (frame: Frame) => frame.some((message) => message.type === type)
export const messageOf = <T extends ToGateway['type']>(frame: Frame, type: T) => frame.find((message): message is Extract<ToGateway, { type: T }> => message.type === type)
export const say = (listening: Listening<Frame>, message: object) => { listening.socket.send(JSON.stringify(message)) }

/** A gateway's socket that has proved itself. */
export async function proved(gateway: Gateway): Promise<Listening<Frame>> {
  const listening = await open<Frame>(gateway, NOTIFY)
  const challenge = messageOf(await listening.next(has('challenge')), 'challenge')?.challenge ?? ''
  say(listening, { type: 'answer', signature: await answerTo(gateway, challenge, 'gateway') })
  return listening
}
/** …and has said hello; with what it was greeted. */
export async function greeted(gateway: Gateway, have: object = {}, protocol = '7.0.0'): Promise<{ listening: Listening<Frame>; greeting: Frame; current: string }> {
  const listening = await proved(gateway)
  say(listening, { type: 'hello', protocol, have })
  const greeting = await listening.next(has('current'))
  return { listening, greeting, current: messageOf(greeting, 'current')?.revision ?? '' }
}
