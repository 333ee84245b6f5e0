// Keeps a websocket to the EMS: proves who answers there, opens it, opens it again when it ends; while none can be had, the EMS is asked instead. What is heard means nothing here.
import { jitteredBackoff } from '../../node/backoff.ts'
import type { ControlClient } from '../../node/control-client.ts'
import { introduceEms } from '../../node/introduce.ts'
import type { Log } from '../../node/logging.ts'
import type { Timers } from '../../node/timers.ts'
import { Fault, type FaultCode } from '../../protocol/faults.ts'
import type { FromGateway, ToGateway } from '../../protocol/fabric/notify.ts'
import { hostTags } from '../../protocol/operations/fabric.ts'
import type { Membership } from './membership.ts'
import { holdNotifySocket, type SocketEnd } from './notify-socket.ts'
import { pause } from './pause.ts'
import type { Polling } from './polling.ts'
import { authorityLost } from './pulls.ts'

interface Options {
  readonly membership: Membership
  readonly client: ControlClient
  readonly timers: Timers
  /** ms. */
  readonly now: () => number
  readonly log: Log
  readonly signal: AbortSignal
  readonly polling: Polling
  /** ms without a socket after which the EMS is asked instead. */
  readonly pollAfterMs: number
  readonly onProved: (send: (message: FromGateway) => void) => void
  readonly onMessages: (messages: readonly ToGateway[]) => void
  /** @param wasProved whether it had come so far that it was told anything */
  readonly onEnd: (reason: string, wasProved: boolean) => void
  /** The EMS says that this gateway may know nothing. */
  readonly onRefused: (code: FaultCode) => void
}

export interface Connection {
  /** Ends the socket of this moment only. */
  drop(): void
  /** Resolves after `signal` was aborted; rejects when something failed inside the gateway. */
  readonly done: Promise<void>
}

/** Gateways are few, and each second without the EMS is one in which they decide by what was: all are back within five. */
const RECONNECT = { firstMs: 250, limitMs: 4_000 }
/** While the EMS answers what it is asked, the websocket is tried less often: what stands in its way stands there for long. */
const RECONNECT_POLLED = { firstMs: 250, limitMs: 30_000 }
/** A socket that lived this long was a good one: the next is opened without the delay that failures earned. */
const GOOD_SOCKET_MS = 10_000

export function keepConnected({ membership, client, timers, now, log, signal, polling, pollAfterMs, onProved, onMessages, onEnd, onRefused }: Options): Connection {
  let socketEnd = new AbortController()
  /** ms; since when there has been no socket. */
  let without = now()

  async function introduce(): Promise<void> {
    const { stored: { ems }, authorities } = membership.member()
    const known = authorities.find(({ notAfter }) => notAfter > client.emsNow())
    if (known === undefined) throw new Fault('bad_certificate', 'Every CA of the EMS that this gateway knows has expired; it must join anew.')
    // The address alone commands no gate: whoever answers there proves, each time, that it holds our CA.
    const introduced = await introduceEms(client, { ems, pin: known.pin })
    await membership.takeIntroduced(introduced.certificates)
  }

  interface Attempt { readonly end: SocketEnd; readonly isIntroduced: boolean; /** ms; null: it never proved itself. */ readonly provedAt: number | null }
  async function attempt(): Promise<Attempt> {
    let isIntroduced = false
    let provedAt: number | null = null
    let cancel = () => {}
    socketEnd = new AbortController()
    try {
      await introduce()
      isIntroduced = true
      // What lets an upgrade hang holds nobody up for longer than what refuses it.
      cancel = timers.after(Math.max(0, without + pollAfterMs - now()), () => polling.begin())
      const end = await holdNotifySocket({
        client, timers, onMessages, privateKey: membership.member().privateKey, signal: AbortSignal.any([signal, socketEnd.signal]),
        onProved(send) {
          provedAt = now()
          cancel()
          onProved(send)
          // From here on the socket alone is heard.
          polling.end()
        },
      })
      return { end, isIntroduced, provedAt }
    } catch (cause) {
      if (!(cause instanceof Fault)) throw cause
      return { end: { kind: 'refused', code: cause.code, detail: cause.message }, isIntroduced, provedAt }
    } finally {
      cancel()
    }
  }

  async function run(): Promise<void> {
    let failures = 0
    let said = ''
    while (!signal.aborted) {
      const { end, isIntroduced, provedAt } = await attempt()
      if (signal.aborted) return onEnd(end.detail, provedAt !== null)
      if (provedAt !== null) without = now()
      if (provedAt !== null && now() - provedAt > GOOD_SOCKET_MS) failures = 0
      const code = end.kind === 'refused' ? end.code : null
      const isRefused = code !== null && authorityLost.has(code)
      if (isRefused) onRefused(code)
      if (failures === 0 || end.detail !== said) log.warn({ event: 'disconnected', kind: end.kind, detail: end.detail, code }, 'No websocket to the EMS; the gateway goes on with what it knows, which grows stale unless the EMS can be asked.')
      said = end.detail
      onEnd(end.detail, provedAt !== null)
      // Asked is only who has just proved to be the EMS. Who can't, or has refused, is not asked any more.
      if (isRefused || (code === 'bad_certificate' && !isIntroduced)) polling.end()
      else if (isIntroduced && now() - without >= pollAfterMs) polling.begin()
      await pause(timers, jitteredBackoff(failures++, polling.answers() ? RECONNECT_POLLED : RECONNECT), signal)
      if (code === 'clock_skew') await learnClock()
    }
  }

  /** An upgrade can't teach the clock; any signed call does. */
  async function learnClock(): Promise<void> {
    await client.call(hostTags).catch((cause: unknown) => {
      if (!(cause instanceof Fault)) throw cause
      log.warn({ event: 'clock-not-learned', reason: cause.message }, 'The clock of the EMS could not be learned.')
    })
  }

  return { drop: () => socketEnd.abort(), done: run() }
}
