// Follows the EMS: what FcmNotify says is applied or read, the snapshot is swapped, and the staleness clock restarts at `current` alone.
import type { ControlClient } from '../../node/control-client.ts'
import type { Log } from '../../node/logging.ts'
import type { Decision } from '../../protocol/decisions.ts'
import { PROTOCOL } from '../../protocol/ids.ts'
import type { FromGateway, ToGateway } from '../../protocol/fabric/notify.ts'
import type { Timers } from '../../node/timers.ts'
import type { World } from '../world.ts'
import { createEmsClock } from './ems-clock.ts'
import { incrementOf } from './increment.ts'
import { keepConnected } from './keep-connected.ts'
import { createLookups } from './lookups.ts'
import type { Membership } from './membership.ts'
import { PING_EVERY_MS, PONG_WITHIN_MS } from './notify-socket.ts'
import { createPolling, defaultPoll, type PollSettings } from './polling.ts'
import { createPulls } from './pulls.ts'
import { memberNames, systemFacts, tagFacts } from './records.ts'
import { followedTables, isFollowed, type Draft, type FollowedTable, type HeardBy, type Replica } from './replica.ts'

/** How the EMS is heard now; `none`: not at all, and what is known grows stale. */
export type Mode = HeardBy | 'none'
export type FabricEvent = { readonly event: 'connected' | 'current' } | { readonly event: 'mode'; readonly mode: Mode } | { readonly event: 'disconnected' | 'authority-lost'; readonly reason: string }

interface Options {
  readonly membership: Membership
  readonly client: ControlClient
  readonly replica: Replica
  readonly timers: Timers
  /** ms. */
  readonly now: () => number
  readonly log: Log
  /** When the EMS is asked because no websocket can be had. */
  readonly poll?: PollSettings | undefined
  /** A decision taken here, by id. */
  readonly findDecision: (id: string) => Promise<Decision | null>
  /** EMS clock minus ours, ms. */
  readonly onClockOffset: (ms: number) => void
  readonly onEvent: (event: FabricEvent) => void
  /** Resolves when all who decide by the snapshot have that of this moment; absent: they do at once. */
  readonly settled?: () => Promise<void>
}

export interface Following extends World {
  close(): Promise<void>
}

/** Starts to follow; returns at once, with whatever the replica holds. */
export function followFabric(options: Options): Following {
  const { membership, client, replica, timers, now, log, poll = defaultPoll } = options
  const stopping = new AbortController()
  const { signal } = stopping
  let send: ((message: FromGateway) => void) | null = null
  let clock = createEmsClock(PING_EVERY_MS + PONG_WITHIN_MS)
  /** A `current` that waits until what it speaks of has been read. */
  let waiting: { revision: string; at: number; by: HeardBy } | null = null
  let mode: Mode = 'none'
  const hear = (by: Mode) => {
    if (mode === by) return
    mode = by
    options.onEvent({ event: 'mode', mode })
  }
  /** Watermark of the last `current` on this socket; empty before the first. */
  let heard = ''
  /** Said once, not at each refused attempt to come back. */
  let lost = false
  const becameCurrent = () => {
    lost = false
    options.onEvent({ event: 'current' })
  }

  const say = (message: FromGateway) => send?.(message)
  const applied = (table: FollowedTable) => {
    const message: FromGateway = { type: 'applied', table, updated_after: replica.state().held[table] }
    if (options.settled === undefined) say(message)
    else void options.settled().then(() => say(message))
  }
  const lookups = createLookups({
    timers, now,
    send(uid) {
      say({ type: 'lookup', uid })
      if (send !== null) return true
      if (!polling.answers()) return false
      polling.lookUp(uid).then((known) => lookups.answered(uid, known), (cause: Error) => log.warn({ event: 'lookup-failed', reason: cause.message }, 'The EMS could not be asked for an endpoint.'))
      return true
    },
  })
  const pulls = createPulls({
    client, replica, timers, log, signal,
    onRead: applied,
    onClean() {
      if (waiting === null) return
      const { revision, at, by } = waiting
      waiting = null
      replica.commit((draft) => draft.current(revision, at, by))
      becameCurrent()
    },
    onRefused: loseAuthority,
  })
  const polling = createPolling({
    client, replica, pulls, timers, now, log, everyMs: poll.everyMs,
    onProof({ revision, askedAt, at }) {
      options.onClockOffset(at - (askedAt + now()) / 2)
      waiting = { revision, at: askedAt, by: 'polling' }
      pulls.tellWhenClean()
    },
    onAnswers: (answers) => { if (mode !== 'socket') hear(answers ? 'polling' : 'none') },
    onRefused: loseAuthority,
  })

  /** What this gateway knows was given to an authorised gateway: from now on it decides nothing. */
  function loseAuthority(reason: string): void {
    waiting = null
    pulls.restart()
    replica.forget()
    connection.drop()
    if (lost) return
    lost = true
    log.error({ event: 'authority-lost', reason }, 'The EMS no longer authorises this gateway: everything it knew is dropped and every session ends.')
    options.onEvent({ event: 'authority-lost', reason })
  }

  /** Takes one message into the draft, or asks for the table to be read. @returns the table that the draft moved */
  function take(message: ToGateway, draft: Draft): FollowedTable | null {
    switch (message.type) {
      case 'changed': {
        const { table, after, updated_after: upTo, data } = message
        if (!isFollowed(table) || replica.continues(table, upTo)) return null // not followed, or said before
        const at = clock.ours(message.at) ?? undefined
        const write = data === undefined || !pulls.isClean(table) || !replica.continues(table, after) ? null : incrementOf(table, data)
        if (write === null) {
          pulls.want(table, { at, upTo })
          return null
        }
        write(draft)
        draft.hold(table, upTo)
        return table
      }
      case 'reload':
        if (isFollowed(message.table)) pulls.want(message.table, { anew: true })
        return null
      case 'found': {
        const { uid, sysinfo, tags } = message
        draft.system(uid, systemFacts(uid, sysinfo))
        draft.tags(uid, tagFacts(uid, tags))
        draft.moreTagNames(memberNames([tags]))
        return null
      }
      default:
        return null
    }
  }

  /** A frame that was lost on the way left no trace but this: the next one does not continue from the last. Only reading everything mends it. */
  function heedGap({ revision, after }: Extract<ToGateway, { type: 'current' }>): void {
    const missed = after !== heard && revision !== heard
    heard = revision
    if (!missed) return
    log.warn({ event: 'frame-missed' }, 'A frame of the EMS was lost on the way; every table is read.')
    for (const table of followedTables) pulls.want(table, {})
  }

  function takeFrame(messages: readonly ToGateway[]): void {
    const stamps = messages.flatMap((message) => (message.type === 'changed' ? [message.at] : []))
    const current = messages.findLast((message) => message.type === 'current')
    if (current !== undefined) heedGap(current)
    const arrivedAt = current === undefined ? 0 : clock.arrived(current.at, now())
    const oldest = stamps.length === 0 ? undefined : clock.ours(Math.min(...stamps)) ?? undefined
    const moved: FollowedTable[] = []
    const seen = new Set<string>()
    let isCurrent = false
    if (messages.some(({ type }) => type === 'changed' || type === 'current' || type === 'found' || type === 'reload')) {
      replica.commit((draft) => {
        for (const message of messages) {
          if (message.type === 'changed') {
            // Two notices of one table in a frame: the second continues from the first, which is not held before the swap.
            if (seen.has(message.table) && isFollowed(message.table)) {
              pulls.want(message.table, { at: oldest, upTo: message.updated_after })
              continue
            }
            seen.add(message.table)
          }
          const table = take(message, draft)
          if (table !== null) moved.push(table)
        }
        if (current === undefined) return
        if (pulls.isClean()) {
          draft.current(current.revision, arrivedAt)
          isCurrent = true
        } else waiting = { revision: current.revision, at: arrivedAt, by: 'socket' }
      }, moved.length === 0 && oldest === undefined ? {} : { at: oldest })
    }
    for (const table of moved) applied(table)
    const offset = clock.offset()
    if (current !== undefined && offset !== null) options.onClockOffset(offset)
    for (const message of messages) heed(message)
    if (isCurrent) becameCurrent()
  }

  /** What a message asks for besides the tables. */
  function heed(message: ToGateway): void {
    if (message.type === 'found') lookups.answered(message.uid, message.sysinfo !== null)
    if (message.type === 'authorisation' && message.state !== 'authorised') loseAuthority(message.reason)
    if (message.type === 'bye') {
      if (message.reason === 'deauthorised' || message.reason === 'revoked') loseAuthority(message.reason)
      else log.warn({ event: 'bye', reason: message.reason }, 'The EMS ended the websocket.')
    }
    const answer = message.type === 'explain'
      ? options.findDecision(message.id).then((decision) => say({ type: 'explained', request: message.request, decision }))
      : message.type === 'ca' ? membership.takeAuthorities(message.document, client.emsNow()).then((outcome) => log.info({ event: 'authorities', outcome }, 'The EMS sent its list of CAs.')) : null
    answer?.catch((cause: Error) => log.error({ event: 'message-failed', type: message.type, reason: cause.message }, 'A message of the EMS could not be served.'))
  }

  function greet(proved: (message: FromGateway) => void): void {
    hear('socket')
    waiting = null
    clock = createEmsClock(PING_EVERY_MS + PONG_WITHIN_MS)
    send = proved
    heard = ''
    const { held } = replica.state()
    say({ type: 'hello', protocol: PROTOCOL, have: Object.fromEntries(followedTables.filter((table) => held[table] !== '').map((table) => [table, held[table]])) })
    // What nothing is held of is read without waiting to be told.
    for (const table of followedTables) if (held[table] === '') pulls.want(table, {})
    options.onEvent({ event: 'connected' })
  }

  const connection = keepConnected({
    membership, client, timers, now, log, signal, polling, pollAfterMs: poll.afterMs, onProved: greet, onMessages: takeFrame, onRefused: loseAuthority,
    onEnd(reason, wasProved) {
      send = null
      if (wasProved) {
        waiting = null
        lookups.abandon()
        hear('none')
      }
      options.onEvent({ event: 'disconnected', reason })
    },
  })
  const running = connection.done.catch((cause: Error) => log.fatal({ event: 'follow-broken', reason: cause.message, stack: cause.stack }, 'Following the EMS failed inside the gateway; what is known grows stale.'))
  return {
    snapshot: replica.snapshot,
    onChange: replica.onChange,
    lookup: lookups.ask,
    async close() {
      stopping.abort()
      polling.end()
      await Promise.all([running, polling.settled()])
      await pulls.settled()
    },
  }
}
