// A gateway of the fleet in this process: `follower` is the gateway's fabric half with its snapshot, `bare` a signed socket that pulls what it is not told and keeps no records.
import { mkdir } from 'node:fs/promises'
import { tagPresence } from '../domain/access/endpoint-record.ts'
import { allEndpoints, endpointByUid } from '../domain/access/snapshot.ts'
import { readJoinCode } from '../gateway/config.ts'
import { followFabric } from '../gateway/fabric/follow.ts'
import { joinFabric } from '../gateway/fabric/join.ts'
import { openMembership, type Membership } from '../gateway/fabric/membership.ts'
import { holdNotifySocket } from '../gateway/fabric/notify-socket.ts'
import { createReplica, type Replica } from '../gateway/fabric/replica.ts'
import { systemTimers } from '../node/timers.ts'
import { createControlClient, type ControlClient } from '../node/control-client.ts'
import { silentLog } from '../node/logging.ts'
import { PROTOCOL } from '../protocol/ids.ts'
import type { FromGateway, ToGateway } from '../protocol/fabric/notify.ts'
import type { UidTags } from '../protocol/fabric/tables.ts'
import { uidTags } from '../protocol/operations/fabric.ts'

/** A frame as it arrived: performance.now(), its bytes, the tables that it gives notice of. */
export interface Frame { readonly at: number; readonly bytes: number; readonly tables: readonly string[] }
export interface Swap { readonly ms: number; readonly ownMs: number }
export interface Ear {
  readonly frames: readonly Frame[]
  /** Each swap of the snapshot, ms by the clock and of this thread's own time; none where there is no snapshot. */
  readonly swaps: readonly Swap[]
  /** Resolves when it next applied a change of tags, with performance.now(). */
  nextChange(): Promise<number>
  /** Resolves when so many more endpoints bear the watched tag than it knew of, with performance.now(). */
  bearing(more: number): Promise<number>
  close(): Promise<void>
}
interface Where { readonly ems: string; readonly tlsCaPem: string; readonly directory: string }
interface Listening { readonly membership: Membership; readonly client: ControlClient; readonly changed: (uids: Iterable<readonly [string, boolean]>) => void; readonly signal: AbortSignal; readonly swaps: Swap[] }

/** Joins by a code; the membership stays in the directory. @returns the serial */
export async function joinFleet({ ems, tlsCaPem, directory, joinCode }: Where & { joinCode: string }): Promise<string> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const target = readJoinCode(joinCode)
  const membership = await joinFabric({ directory, ...target, ems, displayName: 'fleet', tlsCa: [tlsCaPem], timers: systemTimers, now: Date.now, log: silentLog(), onPending: () => {} })
  return membership.member().stored.serial
}

export async function membershipIn(directory: string): Promise<Membership> {
  const membership = await openMembership(directory)
  if (membership === null) throw new Error(`no gateway has joined in ${directory}`)
  return membership
}
export const clientOf = ({ ems, tlsCaPem }: Where, membership: Membership): ControlClient => {
  const { privateKey, certificate } = membership.member()
  return createControlClient({ ems, tlsCa: [tlsCaPem], now: Date.now, log: silentLog(), timeoutMs: 60_000, identity: () => ({ privateKey, certificateDer: certificate.der }) })
}

/** Opens one that has joined; resolves when it is current. @param watched UID of the tag whose bearers are counted */
export async function openEar(where: Where & { kind: 'follower' | 'bare'; watched: string }): Promise<Ear> {
  const membership = await membershipIn(where.directory)
  const client = clientOf(where, membership)
  const frames: Frame[] = []
  const swaps: Swap[] = []
  const bearers = new Set<string>()
  let next = Promise.withResolvers<number>()
  let waiting: { count: number; done: (at: number) => void } | null = null
  const changed = (uids: Iterable<readonly [string, boolean]>) => {
    for (const [uid, bears] of uids) if (bears) bearers.add(uid); else bearers.delete(uid)
    const at = performance.now()
    next.resolve(at)
    next = Promise.withResolvers<number>()
    if (waiting !== null && bearers.size === waiting.count) waiting.done(at)
  }
  const observed: ControlClient = {
    ...client,
    async openSocket(operation, subprotocol) {
      const socket = await client.openSocket(operation, subprotocol)
      socket.on('message', (data: Buffer) => {
        const [at, text] = [performance.now(), data.toString('utf8')]
        if (text.startsWith('[')) frames.push({ at, bytes: data.length, tables: (JSON.parse(text) as ToGateway[]).flatMap((message) => (message.type === 'changed' ? [message.table] : [])) })
      })
      return socket
    },
  }
  const stopping = new AbortController()
  const listening: Listening = { membership, client: observed, changed, signal: stopping.signal, swaps }
  const { current, ended } = where.kind === 'follower' ? follow(listening, where.watched) : listen(listening, where.watched)
  await current
  return {
    frames, swaps,
    nextChange: () => next.promise,
    bearing: (more) => new Promise((resolve) => { waiting = { count: bearers.size + more, done: resolve } }),
    async close() {
      stopping.abort()
      await client.close()
      await ended()
    },
  }
}

function follow({ membership, client, changed, swaps }: Listening, watched: string) {
  const replica = createReplica()
  const timed: Replica = { ...replica, commit(write, cause) {
    const [began, own] = [performance.now(), process.threadCpuUsage()]
    replica.commit(write, cause)
    const { user, system } = process.threadCpuUsage(own)
    swaps.push({ ms: performance.now() - began, ownMs: (user + system) / 1_000 })
  } }
  const current = Promise.withResolvers<void>()
  replica.onChange((uids) => {
    if (uids !== 'all' && uids.size === 0) return
    const snapshot = replica.snapshot()
    const records = uids === 'all' ? [...allEndpoints(snapshot)] : [...uids].flatMap((uid) => endpointByUid(snapshot, uid) ?? [])
    changed(records.map((record) => [record.uid, tagPresence(record, watched, Date.now()) === 'present'] as const))
  })
  const following = followFabric({
    membership, client, replica: timed, timers: systemTimers, now: Date.now, log: silentLog(), findDecision: () => Promise.resolve(null), onClockOffset: () => {},
    onEvent({ event }) { if (event === 'current') current.resolve() },
  })
  return { current: current.promise, ended: () => following.close() }
}

function listen({ membership, client, changed, signal }: Listening, watched: string) {
  const current = Promise.withResolvers<void>()
  let held = ''
  let pulling: Promise<void> | null = null
  let wanted = false
  let send = (_message: FromGateway): void => { throw new Error('the socket is not proved yet') }
  const take = (lists: Readonly<Record<string, UidTags | null>>) => changed(Object.entries(lists).map(([uid, row]) => [uid, row?.members.some(({ tag_uid }) => tag_uid === watched) ?? false] as const))
  const pull = async () => {
    while (wanted && !signal.aborted) {
      wanted = false
      for (let offset: string | undefined; ;) {
        const { data: page } = await client.call(uidTags.get, { query: { updated_after: held, uid_offset: offset } })
        take(page.data.uid_tag_lists)
        held = page.updated_after
        offset = page.uid_offset
        if (page.is_final) break
      }
      send({ type: 'applied', table: 'uid_tags', updated_after: held })
    }
  }
  const hear = (message: ToGateway) => {
    if (message.type === 'current' && held === '') {
      held = message.revision
      current.resolve()
    }
    if (message.type !== 'changed' || message.table !== 'uid_tags' || held === '') return
    if (message.data !== undefined && pulling === null) {
      take((message.data as { uid_tag_lists: Record<string, UidTags | null> }).uid_tag_lists)
      held = message.updated_after
      send({ type: 'applied', table: 'uid_tags', updated_after: held })
    } else {
      wanted = true
      pulling ??= pull().catch((cause: unknown) => { if (!signal.aborted) throw cause }).finally(() => { pulling = null })
    }
  }
  const ended = holdNotifySocket({
    client, privateKey: membership.member().privateKey, timers: systemTimers, signal,
    onProved(proved) {
      send = proved
      send({ type: 'hello', protocol: PROTOCOL, have: {} })
    },
    onMessages(messages) { for (const message of messages) hear(message) },
  })
  ended.then(({ kind, detail }) => current.reject(new Error(`the socket ended: ${kind}, ${detail}`)), current.reject)
  return { current: current.promise, ended: async () => { await Promise.all([ended, pulling]) } }
}
