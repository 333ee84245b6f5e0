// The agent's end of the endpoint channel: answers the challenge, keeps it alive, and hands on what it hears. It reconnects by itself, with jitter.
import type { WebSocket } from 'ws'
import { answerChallenge } from '../../identity/socket-challenge.ts'
import type { ControlClient } from '../../node/control-client.ts'
import { jitteredBackoff } from '../../node/backoff.ts'
import type { Log } from '../../node/logging.ts'
import { CHANNEL_PING, CHANNEL_PING_SECONDS, CHANNEL_PONG, CHANNEL_SUBPROTOCOL, toAgent, type FromAgent, type ToAgent } from '../../protocol/channel.ts'
import { PROTOCOL } from '../../protocol/ids.ts'
import { channel } from '../../protocol/operations/endpoint.ts'
import type { DocumentVersions } from '../../protocol/documents.ts'

export interface Channel { state(): 'connecting' | 'open' | 'closed'; close(): void }

/** @param onMessage everything but the opening; never throws into the socket */
export function openChannel(options: {
  client: ControlClient; privateKey: () => CryptoKey; versions: () => DocumentVersions; onMessage: (message: ToAgent) => Promise<void>; log: Log
}): Channel {
  const { client, log } = options
  let socket: WebSocket | null = null
  let state: 'connecting' | 'open' | 'closed' = 'connecting'
  let attempt = 0
  let timer: ReturnType<typeof setTimeout> | null = null
  const reasonOf = (cause: unknown) => (cause instanceof Error ? cause.message : String(cause))
  const say = (message: FromAgent) => { socket?.send(JSON.stringify(message)) }

  const hear = async (message: ToAgent) => {
    if (message.type === 'challenge') say({ type: 'answer', signature: await answerChallenge(options.privateKey(), message.challenge, 'agent') })
    else if (message.type === 'welcome') {
      state = 'open'
      attempt = 0
      log.info({ event: 'channel-open' }, 'The endpoint channel is open.')
      say({ type: 'hello', protocol: PROTOCOL, have: options.versions() })
    }
    await options.onMessage(message)
  }

  const again = () => {
    if (state === 'closed') return
    state = 'connecting'
    timer = setTimeout(connect, jitteredBackoff(attempt++))
  }

  function connect(): void {
    client.openSocket(channel, CHANNEL_SUBPROTOCOL).then((opened) => {
      if (state === 'closed') return opened.terminate()
      socket = opened
      let answered = true
      // A half-open connection raises no event: a ping that is not answered until the next one ends it.
      const ping = setInterval(() => {
        if (!answered) return opened.terminate()
        answered = false
        if (opened.readyState === opened.OPEN) opened.send(CHANNEL_PING)
      }, CHANNEL_PING_SECONDS * 1000)
      ping.unref()
      opened.on('message', (data: Buffer) => {
        const text = data.toString('utf8')
        if (text === CHANNEL_PONG) {
          answered = true
          return
        }
        const message = toAgent.safeParse(parse(text))
        if (!message.success) return opened.close(1007)
        hear(message.data).catch((cause: unknown) => { log.error({ event: 'channel-message-failed', type: message.data.type, reason: reasonOf(cause) }, 'A message of the EMS could not be carried out.') })
      })
      opened.on('error', (cause) => { log.warn({ event: 'channel-error', reason: cause.message }, 'The endpoint channel failed.') })
      opened.on('close', () => {
        clearInterval(ping)
        socket = null
        again()
      })
    }, (cause: unknown) => {
      log.warn({ event: 'channel-error', reason: reasonOf(cause) }, 'The endpoint channel can not be opened.')
      again()
    })
  }
  connect()
  return {
    state: () => state,
    close() {
      state = 'closed'
      if (timer !== null) clearTimeout(timer)
      socket?.close(1000)
    },
  }
}

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return null // not JSON: no message, and the socket is closed for it
  }
}
