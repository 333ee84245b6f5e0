// The one address on loopback to which the identity provider sends the person's browser back (RFC 8252 §7.3). It takes one answer, to the request that was made here,
// and tells the browser how it ended. Whatever else comes (another page, another method, a name that was rebound to this machine, another user) is refused and ends nothing.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Timers } from '../../node/timers.ts'
import { peerOwner } from '../tunnel/peer-owner.ts'

export interface Callback {
  readonly redirectUri: string
  /** The address that the browser was sent to, once. @throws a sentence when it does not come in time, or is called off */
  readonly arrived: Promise<URL>
  /** Shows the person how it ended, if a browser is waiting for it. */
  show(title: string, text: string): Promise<void>
  close(): Promise<void>
}

const HOST = '127.0.0.1'
const PATH = '/callback'
/** No uid. */
const NOBODY = -1
const FIELDS = {
  'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store', 'referrer-policy': 'no-referrer', 'x-content-type-options': 'nosniff',
  'content-security-policy': 'default-src \'none\'; frame-ancestors \'none\'; base-uri \'none\'; form-action \'none\'', 'cross-origin-opener-policy': 'same-origin', 'cross-origin-resource-policy': 'same-origin', 'connection': 'close',
}
const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', '\'': '&#39;' }
const escaped = (text: string): string => text.replaceAll(/[&<>"']/g, (character) => entities[character] ?? '')

/** @param title plain text, as `text` is */
function answer(response: ServerResponse, status: number, title: string, text: string): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  response.once('close', resolve)
  response.writeHead(status, FIELDS).end(`<!doctype html><html lang="en"><meta charset="utf-8"><title>${escaped(title)}</title><h1>${escaped(title)}</h1><p>${escaped(text)}</p></html>\n`)
  return promise
}

/** What is wrong with a request, as status and sentence; null: it is the answer. */
function wrongWith({ method, headers, url = '' }: IncomingMessage, origin: string, state: string): [number, string] | null {
  // A page whose name was rebound to this machine says that name here.
  if (`http://${headers.host ?? ''}` !== origin) return [421, 'This address answers to its own name only.']
  const asked = URL.parse(url, origin)
  if (!url.startsWith('/') || asked?.pathname !== PATH) return [404, 'There is nothing here.']
  if (method !== 'GET') return [405, 'This address takes GET only.']
  const states = asked.searchParams.getAll('state')
  return states.length === 1 && states[0] === state ? null : [400, 'This is not the answer to the sign-in that was begun here. Run agent sign-in again.']
}

/**
 * Listens for the answer that carries `state`.
 * @param port 0 picks a free one
 * @param state of the request: unguessable
 * @param limitMs how long to wait for it
 * @param ownUids whose browser may bring it. Others of this machine can read the address that a browser is started with, and answer it with a person of theirs.
 * Where the system does not tell whose a connection is (all but Linux), `state` is all that is asked for
 * @param stopping aborted where the person calls it off
 * @throws the system's error when the port can't be had
 */
export async function listenForCallback({ port, state, limitMs, ownUids, timers, stopping }: { port: number; state: string; limitMs: number; ownUids: readonly number[]; timers: Timers; stopping: AbortSignal }): Promise<Callback> {
  const { promise: arrived, resolve: arrive, reject } = Promise.withResolvers<URL>()
  arrived.catch(() => undefined) // whoever asks hears of it, also when the address was closed before
  let origin = ''
  let waiting: ServerResponse | null = null
  let isSpent = false
  const isOwn = async ({ socket }: IncomingMessage): Promise<boolean> => process.platform !== 'linux' || ownUids.includes(await peerOwner(socket) ?? NOBODY)
  async function take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const wrong = wrongWith(request, origin, state) ?? (await isOwn(request) ? null : [403, 'This is not the user of this machine who signs in.'] as const) ?? (isSpent ? [410, 'This answer was taken already.'] as const : null)
    if (wrong !== null) return await answer(response, wrong[0], 'Refused', wrong[1])
    isSpent = true
    waiting = response
    arrive(new URL(request.url ?? '', origin))
  }
  const server = createServer({ maxHeaderSize: 16_384, headersTimeout: 10_000, requestTimeout: 10_000 }, (request, response) => {
    request.resume()
    void take(request, response)
  })
  server.maxConnections = 64
  const listening = Promise.withResolvers<void>()
  server.once('error', listening.reject)
  server.listen({ host: HOST, port, exclusive: true }, listening.resolve)
  await listening.promise
  server.off('error', listening.reject)
  // A connection that can not be accepted is no answer, and no end either.
  server.on('error', () => undefined)
  origin = `http://${HOST}:${(server.address() as AddressInfo).port}`
  const giveUp = (sentence: string) => reject(new Error(sentence))
  const cancel = timers.after(limitMs, () => giveUp(`Nobody signed in within ${Math.round(limitMs / 60_000)} minutes. Run agent sign-in again.`))
  const callOff = () => giveUp('Called off.')
  if (stopping.aborted) callOff()
  else stopping.addEventListener('abort', callOff, { once: true })
  return {
    redirectUri: `${origin}${PATH}`, arrived,
    async show(title, text) {
      const response = waiting
      waiting = null
      if (response !== null && !response.destroyed) await answer(response, 200, title, text)
    },
    close() {
      cancel()
      stopping.removeEventListener('abort', callOff)
      giveUp('Called off.')
      return new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
    },
  }
}
