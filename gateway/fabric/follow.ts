// Follows the EMS: what FcmNotify says is applied or read, the snapshot is swapped, and the staleness clock restarts at `current` alone.
import { jitteredBackoff } from '../../node/backoff.ts'
import type { ControlClient } from '../../node/control-client.ts'
import { introduceEms } from '../../node/introduce.ts'
import type { Log } from '../../node/logging.ts'
import type { Decision } from '../../protocol/decisions.ts'
import { Fault } from '../../protocol/faults.ts'
import { PROTOCOL } from '../../protocol/ids.ts'
import type { FromGateway, ToGateway } from '../../protocol/fabric/notify.ts'
import { hostTags } from '../../protocol/operations/fabric.ts'
import type { Timers } from '../../node/timers.ts'
import type { World } from '../world.ts'
import { createEmsClock } from './ems-clock.ts'
import { incrementOf } from './increment.ts'
import { createLookups } from './lookups.ts'
import type { Membership } from './membership.ts'
import { holdNotifySocket, PING_EVERY_MS, PONG_WITHIN_MS, type SocketEnd } from './notify-socket.ts'
import { pause } from './pause.ts'
import { authorityLost, createPulls } from './pulls.ts'
import { memberNames, systemFacts, tagFacts } from './records.ts'
import { followedTables, isFollowed, type Draft, type FollowedTable, type Replica } from './replica.ts'

export type FabricEvent = { readonly event: 'connected' | 'current' } | { readonly event: 'disconnected' | 'authority-lost'; readonly reason: string }

interface Options {
  readonly membership: Membership
  readonly client: ControlClient
  readonly replica: Replica
  readonly timers: Timers
  /** ms. */
  readonly now: () => number
  readonly log: Log
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

/** Gateways are few, and each second without the EMS is one in which they decide by what was: all are back within five. */
const RECONNECT = { firstMs: 250, limitMs: 4_000 }
/** A socket that lived this long was a good one: the next is opened without the delay that failures earned. */
const GOOD_SOCKET_MS = 10_000

/** Starts to follow; returns at once, with whatever the replica holds. */
export function followFabric(options: Options): Following {
  const { membership, client, replica, timers, now, log } = options
  const stopping = new AbortController()
  const { signal } = stopping
  let send: ((message: FromGateway) => void) | null = null
  /** Ends the socket of this moment only. */
  let socketEnd = new AbortController()
  let clock = createEmsClock(PING_EVERY_MS + PONG_WITHIN_MS)
  /** A `current` that waits until what it speaks of has been read. */
  let waiting: { revision: string; at: number } | null = null
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
      return send !== null
    },
  })
  const pulls = createPulls({
    client, replica, timers, log, signal,
    onRead: applied,
    onClean() {
      const { revision, at } = waiting ?? {}
      waiting = null
      if (revision === undefined || at === undefined) return
      replica.commit((draft) => draft.current(revision, at))
      becameCurrent()
    },
    onRefused: loseAuthority,
  })

  /** What this gateway knows was given to an authorised gateway: from now on it decides nothing. */
  function loseAuthority(reason: string): void {
    waiting = null
    pulls.restart()
    replica.forget()
    socketEnd.abort()
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
        } else waiting = { revision: current.revision, at: arrivedAt }
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
    send = proved
    heard = ''
    const { held } = replica.state()
    say({ type: 'hello', protocol: PROTOCOL, have: Object.fromEntries(followedTables.filter((table) => held[table] !== '').map((table) => [table, held[table]])) })
    // What nothing is held of is read without waiting to be told.
    for (const table of followedTables) if (held[table] === '') pulls.want(table, {})
    options.onEvent({ event: 'connected' })
  }

  async function connectOnce(): Promise<SocketEnd> {
    const { stored: { ems }, authorities, privateKey } = membership.member()
    const known = authorities.find(({ notAfter }) => notAfter > client.emsNow())
    if (known === undefined) throw new Fault('bad_certificate', 'Every CA of the EMS that this gateway knows has expired; it must join anew.')
    // The address alone commands no gate: whoever answers there proves, each time, that it holds our CA.
    const introduced = await introduceEms(client, { ems, pin: known.pin })
    await membership.takeIntroduced(introduced.certificates)
    socketEnd = new AbortController()
    clock = createEmsClock(PING_EVERY_MS + PONG_WITHIN_MS)
    return await holdNotifySocket({ client, privateKey, timers, signal: AbortSignal.any([signal, socketEnd.signal]), onProved: greet, onMessages: takeFrame })
  }

  async function run(): Promise<void> {
    let failures = 0
    let said = ''
    while (!signal.aborted) {
      const began = now()
      const end = await connectOnce().catch((cause: unknown): SocketEnd => {
        if (!(cause instanceof Fault)) throw cause
        return { kind: 'refused', code: cause.code, detail: cause.message }
      })
      send = null
      waiting = null
      lookups.abandon()
      if (signal.aborted) return
      if (end.kind === 'refused' && end.code !== null && authorityLost.has(end.code)) loseAuthority(end.code)
      if (now() - began > GOOD_SOCKET_MS) failures = 0
      if (failures === 0 || end.detail !== said) log.warn({ event: 'disconnected', kind: end.kind, detail: end.detail, code: end.kind === 'refused' ? end.code : null }, 'No word from the EMS; the gateway goes on with what it knows, which grows stale.')
      said = end.detail
      options.onEvent({ event: 'disconnected', reason: end.detail })
      await pause(timers, jitteredBackoff(failures++, RECONNECT), signal)
      if (end.kind === 'refused' && end.code === 'clock_skew') await learnClock()
    }
  }

  /** An upgrade can't teach the clock; any signed call does. */
  async function learnClock(): Promise<void> {
    await client.call(hostTags).catch((cause: unknown) => {
      if (!(cause instanceof Fault)) throw cause
      log.warn({ event: 'clock-not-learned', reason: cause.message }, 'The clock of the EMS could not be learned.')
    })
  }

  const running = run().catch((cause: Error) => log.fatal({ event: 'follow-broken', reason: cause.message, stack: cause.stack }, 'Following the EMS failed inside the gateway; what is known grows stale.'))
  return {
    snapshot: replica.snapshot,
    onChange: replica.onChange,
    lookup: lookups.ask,
    async close() {
      stopping.abort()
      await running
      await pulls.settled()
    },
  }
}
