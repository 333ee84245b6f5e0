// The agent's one websocket to its EMS: presence, and hints that something is new. It proves the agent's key before anything is said.
import type { RawData, WebSocket } from 'ws'
import { answerChallenge } from '../../identity/socket-challenge.ts'
import type { Log } from '../../node/logging.ts'
import { CHANNEL_PING, CHANNEL_PING_SECONDS, CHANNEL_PONG, toAgent, type FromAgent, type ToAgent } from '../../protocol/channel.ts'
import type { DocumentVersions } from '../../protocol/documents.ts'
import { PROTOCOL } from '../../protocol/ids.ts'
import type { Timers } from '../../node/timers.ts'

export type ChannelState = 'connecting' | 'open' | 'waiting' | 'closed'
/** A deployment of the EMS cuts every socket at once: the whole fleet comes back spread over the first delay, and over twice as long at each further attempt. */
const RECONNECT = { leastMs: 250, firstMs: 8_000, limitMs: 60_000 }
const PONG_WITHIN_MS = 20_000
/** From the open socket to `welcome`: an EMS that accepts and then says nothing is left. */
const WELCOME_WITHIN_MS = 20_000
/** Somebody else opens the channel with our key (a copied disk): coming back at once would be a quarrel. */
const REPLACED_ATTEMPT = 6

export interface ChannelOptions {
  /** Opens a socket to the EMS, signed by the identity of the moment. */
  readonly open: () => Promise<WebSocket>
  readonly privateKey: () => CryptoKey
  readonly versions: () => DocumentVersions
  readonly onMessage: (message: Extract<ToAgent, { type: 'document' | 'report-now' | 'newer' }>) => void
  /** The channel has been proved: whatever was missed is asked for now. */
  readonly onOpen: () => void
  /** The EMS would not have us, or told us to go: a request will tell why. */
  readonly onRefused: () => void
  readonly onState: (state: ChannelState) => void
  readonly timers: Timers
  readonly log: Log
  readonly pingEveryMs?: number
  /** 0 ≤ x < 1 */
  readonly random?: () => number
}

export interface Channel {
  state(): ChannelState
  /** Leaves the present socket and opens another: what it was opened under holds no longer. */
  reopen(): void
  /** The network has changed: what waits to be tried again is tried now. */
  hurry(): void
  close(): void
}

/** Opens the channel and keeps it open until it is closed. */
export function openChannel(options: ChannelOptions): Channel {
  const { timers, log, pingEveryMs = CHANNEL_PING_SECONDS * 1000, random = Math.random } = options
  let state: ChannelState = 'connecting'
  let socket: WebSocket | null = null
  let attempt = 0
  let epoch = 0
  let cancelReconnect = () => {}

  function become(next: ChannelState): void {
    if (state === 'closed' || state === next) return
    state = next
    options.onState(next)
  }

  function later(): void {
    if (state === 'closed') return
    become('waiting')
    const spreadMs = Math.min(RECONNECT.limitMs, RECONNECT.firstMs * 2 ** Math.min(attempt++, 10))
    cancelReconnect = timers.after(RECONNECT.leastMs + random() * spreadMs, connect)
  }

  function failed(cause: unknown): void {
    if (state === 'closed') return
    log.warn({ event: 'channel-failed', reason: cause instanceof Error ? cause.message : String(cause) }, 'The endpoint channel failed; it is opened anew.')
  }

  function connect(): void {
    become('connecting')
    const begunIn = epoch
    options.open().then((opened) => serve(opened, begunIn)).catch((cause: unknown) => {
      failed(cause)
      later()
    })
  }

  function serve(opened: WebSocket, begunIn: number): void {
    socket = opened
    // First of all: a socket that is given up before it is open reports that as an error.
    opened.on('error', (cause) => {
      failed(cause)
      // Refused, and not merely asked to wait.
      if (state !== 'closed' && /Unexpected server response: 4(?!29)/.test(cause.message)) options.onRefused()
    })
    const heart = beat(opened)
    opened.on('close', () => {
      heart.stop()
      later()
    })
    if (state === 'closed' || begunIn !== epoch) return opened.terminate()
    opened.on('message', (data: RawData, binary: boolean) => {
      const text = binary || !Buffer.isBuffer(data) ? '' : data.toString('utf8')
      if (text === CHANNEL_PONG) return heart.pong()
      const message = toAgent.safeParse(parseJson(text))
      // A newer EMS may say more than this agent knows: hints, all of them.
      if (!message.success) return log.debug({ event: 'channel-message-unknown' }, 'A message on the endpoint channel is not known to this agent.')
      take(opened, message.data, heart.start).catch((cause: unknown) => {
        failed(cause)
        opened.terminate()
      })
    })
  }

  /** Waits for the welcome, then pings: a half-open socket raises no event, and a ping without an answer is the only sign of it. */
  function beat(opened: WebSocket): { start(): void; pong(): void; stop(): void } {
    const giveUp = (reason: string) => () => {
      failed(new Error(reason))
      opened.terminate()
    }
    let cancelLimit = timers.after(WELCOME_WITHIN_MS, giveUp('the EMS accepted the channel and did not welcome us'))
    let cancelPing = () => {}
    function pingLater(): void {
      cancelPing = timers.after(pingEveryMs, () => {
        opened.send(CHANNEL_PING)
        cancelLimit = timers.after(Math.min(PONG_WITHIN_MS, pingEveryMs), giveUp('a ping was not answered'))
        pingLater()
      })
    }
    return {
      start() {
        cancelLimit()
        pingLater()
      },
      pong() {
        cancelLimit()
        // Only a channel that lasted is a good one: an EMS that welcomes and then drops everybody is not met every second.
        attempt = 0
      },
      stop() {
        cancelLimit()
        cancelPing()
      },
    }
  }

  async function take(opened: WebSocket, message: ToAgent, welcomed: () => void): Promise<void> {
    const say = (said: FromAgent) => opened.send(JSON.stringify(said))
    if (message.type === 'bye') {
      if (message.reason === 'replaced') attempt = REPLACED_ATTEMPT
      log.info({ event: 'channel-ended', reason: message.reason }, 'The EMS ended the endpoint channel.')
      options.onRefused()
    } else if (message.type === 'challenge' && state === 'connecting') {
      say({ type: 'answer', signature: await answerChallenge(options.privateKey(), message.challenge, 'agent') })
    } else if (message.type === 'welcome' && state === 'connecting') {
      become('open')
      welcomed()
      say({ type: 'hello', protocol: PROTOCOL, have: options.versions() })
      options.onOpen()
    } else if (state === 'open' && (message.type === 'document' || message.type === 'report-now' || message.type === 'newer')) options.onMessage(message)
  }

  connect()
  return {
    state: () => state,
    reopen() {
      epoch++
      socket?.terminate()
    },
    hurry() {
      if (state !== 'waiting') return
      cancelReconnect()
      connect()
    },
    close() {
      become('closed')
      cancelReconnect()
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
