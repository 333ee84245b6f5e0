// The agent's one websocket to its EMS: presence, and hints that something is new. It proves the agent's key before anything is said.
import type { RawData, WebSocket } from 'ws'
import { answerChallenge } from '../../identity/socket-challenge.ts'
import { jitteredBackoff } from '../../node/backoff.ts'
import type { ControlClient } from '../../node/control-client.ts'
import type { Log } from '../../node/logging.ts'
import { CHANNEL_PING, CHANNEL_PING_SECONDS, CHANNEL_PONG, CHANNEL_SUBPROTOCOL, toAgent, type FromAgent, type ToAgent } from '../../protocol/channel.ts'
import type { DocumentVersions } from '../../protocol/documents.ts'
import { PROTOCOL } from '../../protocol/ids.ts'
import { channel } from '../../protocol/operations/endpoint.ts'

export type ChannelState = 'connecting' | 'open' | 'waiting' | 'closed'
/** A deployment of the EMS cuts every socket at once: thousands must not come back in one second. */
const RECONNECT = { firstMs: 1_000, limitMs: 60_000 }
const PONG_WITHIN_MS = 20_000
/** Somebody else opens the channel with our key (a copied disk): coming back at once would be a quarrel. */
const REPLACED_ATTEMPT = 6

export interface ChannelOptions {
  readonly client: () => ControlClient
  readonly privateKey: () => CryptoKey
  readonly versions: () => DocumentVersions
  readonly onMessage: (message: Extract<ToAgent, { type: 'document' | 'report-now' }>) => void
  /** The channel has been proved: whatever was missed is asked for now. */
  readonly onOpen: () => void
  /** The EMS would not have us, or told us to go: a request will tell why. */
  readonly onRefused: () => void
  readonly onState: (state: ChannelState) => void
  readonly log: Log
  readonly pingEveryMs?: number
}

export interface Channel { state(): ChannelState; close(): void }

/** Opens the channel and keeps it open until it is closed. */
export function openChannel(options: ChannelOptions): Channel {
  const { log, pingEveryMs = CHANNEL_PING_SECONDS * 1000 } = options
  let state: ChannelState = 'connecting'
  let socket: WebSocket | null = null
  let attempt = 0
  let timer: NodeJS.Timeout | undefined

  function become(next: ChannelState): void {
    if (state === 'closed' || state === next) return
    state = next
    options.onState(next)
  }

  function later(): void {
    if (state === 'closed') return
    become('waiting')
    timer = setTimeout(connect, jitteredBackoff(attempt++, RECONNECT))
  }

  function connect(): void {
    become('connecting')
    void options.client().openSocket(channel, CHANNEL_SUBPROTOCOL).then(serve, (cause: unknown) => {
      log.warn({ event: 'channel-failed', reason: String(cause) }, 'The endpoint channel could not be opened.')
      later()
    })
  }

  function serve(opened: WebSocket): void {
    if (state === 'closed') return opened.terminate()
    socket = opened
    let ping: NodeJS.Timeout | undefined
    let pong: NodeJS.Timeout | undefined
    const say = (message: FromAgent) => opened.send(JSON.stringify(message))

    async function take(message: ToAgent): Promise<void> {
      if (message.type === 'bye') {
        if (message.reason === 'replaced') attempt = REPLACED_ATTEMPT
        log.info({ event: 'channel-ended', reason: message.reason }, 'The EMS ended the endpoint channel.')
        options.onRefused()
      } else if (message.type === 'challenge' && state === 'connecting') {
        say({ type: 'answer', signature: await answerChallenge(options.privateKey(), message.challenge, 'agent') })
      } else if (message.type === 'welcome' && state === 'connecting') {
        attempt = 0
        become('open')
        say({ type: 'hello', protocol: PROTOCOL, have: options.versions() })
        ping = setInterval(() => {
          opened.send(CHANNEL_PING)
          clearTimeout(pong)
          // A half-open socket raises no event: a ping without an answer is the only sign.
          pong = setTimeout(() => opened.terminate(), Math.min(PONG_WITHIN_MS, pingEveryMs))
        }, pingEveryMs)
        options.onOpen()
      } else if (state === 'open' && (message.type === 'document' || message.type === 'report-now')) options.onMessage(message)
    }

    opened.on('message', (data: RawData, binary: boolean) => {
      const text = binary || !Buffer.isBuffer(data) ? '' : data.toString('utf8')
      if (text === CHANNEL_PONG) return clearTimeout(pong)
      const message = toAgent.safeParse(parseJson(text))
      // A newer EMS may say more than this agent knows: hints, all of them.
      if (!message.success) return log.debug({ event: 'channel-message-unknown' }, 'A message on the endpoint channel is not known to this agent.')
      void take(message.data).catch((cause: unknown) => {
        log.warn({ event: 'channel-failed', reason: String(cause) }, 'The endpoint channel is opened anew.')
        opened.terminate()
      })
    })
    opened.on('error', (cause) => {
      log.warn({ event: 'channel-failed', reason: cause.message }, 'The endpoint channel failed.')
      if (/Unexpected server response: 4/.test(cause.message)) options.onRefused()
    })
    opened.on('close', () => {
      clearInterval(ping)
      clearTimeout(pong)
      later()
    })
  }

  connect()
  return {
    state: () => state,
    close() {
      become('closed')
      clearTimeout(timer)
      socket?.terminate()
    },
  }
}

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return null // not JSON: no message has that shape
  }
}
